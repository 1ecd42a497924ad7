"""caffe.ops.detection_output against the NumPy reference, and with few, equal or unusual inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from caffe.ops.detection_output import CENTER_SIZE, CORNER, CORNER_SIZE, detection_output, detection_output_static
from tests.reference import detection_output as reference


def scene(
    seed: int, num: int, priors: int, classes: int, share: bool = True, levels: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Random predictions; with `levels`, scores are rounded to that many values, so that many are equal."""
    rng = np.random.default_rng(seed)
    conf = rng.random((num, priors * classes), np.float32)
    if levels:
        conf = np.round(conf * levels) / np.float32(levels)
    center, size = rng.random((priors, 2)), rng.uniform(0.1, 0.5, (priors, 2))
    prior = np.stack([np.concatenate([center - size / 2, center + size / 2], 1), np.full((priors, 4), 0.1)])
    loc = rng.standard_normal((num, priors * (1 if share else classes) * 4))
    return (
        torch.from_numpy(loc.astype(np.float32)),
        torch.from_numpy(conf),
        torch.from_numpy(prior.astype(np.float32)).reshape(1, 2, -1),
    )


def check(inputs: tuple[Tensor, Tensor, Tensor], device: str = "cpu", **options: Any) -> Tensor:
    """Runs op and reference on the same inputs, and checks that the rows are equal."""
    ours = detection_output(*(t.to(device) for t in inputs), **options).cpu()
    theirs = reference.detection_output(*(t.numpy() for t in inputs), **options)
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours[:, :3].numpy(), theirs[:, :3])
    np.testing.assert_allclose(ours[:, 3:].numpy(), theirs[:, 3:], rtol=1e-5, atol=1e-6)
    return ours


@pytest.mark.parametrize("code_type", [CORNER, CENTER_SIZE, CORNER_SIZE])
@pytest.mark.parametrize("in_target", [False, True])
@pytest.mark.parametrize("share", [False, True])
def test_codes(device: str, code_type: int, in_target: bool, share: bool) -> None:
    check(
        scene(1, 2, 40, 4, share), device, num_classes=4, share_location=share, code_type=code_type,
        variance_encoded_in_target=in_target, confidence_threshold=0.3, nms_threshold=0.45, top_k=20, keep_top_k=15,
    )  # fmt: skip


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999), num=st.integers(1, 3), priors=st.integers(1, 60), classes=st.integers(1, 19),
    background=st.integers(-1, 4), levels=st.sampled_from([0, 1, 4]), top_k=st.sampled_from([-1, 0, 1, 7, 100]),
    keep_top_k=st.sampled_from([-1, 0, 1, 5, 1000]), eta=st.sampled_from([1.0, 0.7]),
    nms=st.sampled_from([0.0, 0.3, 0.75, 1.0]), confidence=st.sampled_from([-1.0, 0.0, 0.5, 2.0]),
)  # fmt: skip
def test_settings(
    seed: int, num: int, priors: int, classes: int, background: int, levels: int, top_k: int, keep_top_k: int,
    eta: float, nms: float, confidence: float,
) -> None:  # fmt: skip
    check(
        scene(seed, num, priors, classes, levels=levels), num_classes=classes, background_label_id=background,
        code_type=CORNER, confidence_threshold=confidence, nms_threshold=nms, eta=eta, top_k=top_k,
        keep_top_k=keep_top_k,
    )  # fmt: skip


def test_lists_that_overflow_keep_the_best_and_the_earlier_of_equals(device: str) -> None:
    """Far more candidates than top_k, in falling and rising order and all equal: the lists are cut several times."""
    loc, _, prior = scene(2, 1, 500, 2)
    for scores in (torch.linspace(1, 0.5, 500), torch.linspace(0.5, 1, 500), torch.full((500,), 0.7)):
        conf = torch.stack([1 - scores, scores], 1).reshape(1, -1)
        check(
            (loc, conf, prior), device, num_classes=2, confidence_threshold=0.1, nms_threshold=0.9, top_k=13,
            keep_top_k=9,
        )  # fmt: skip


def test_equal_scores_over_classes_go_to_the_lower_class_then_the_lower_prior(device: str) -> None:
    boxes = torch.tensor([[0.0, 0, 0.1, 0.1], [0.5, 0.5, 0.6, 0.6], [0.8, 0.8, 0.9, 0.9]])
    prior = torch.stack([boxes, torch.full_like(boxes, 0.1)]).reshape(1, 2, -1)
    found = detection_output(
        torch.zeros(1, 12, device=device), torch.full((1, 9), 0.5, device=device), prior.to(device), num_classes=3,
        confidence_threshold=0.1, keep_top_k=4,
    ).cpu()  # fmt: skip
    assert found[:, 1].tolist() == [1, 1, 1, 2]
    assert found[:, 3].tolist() == pytest.approx([0.0, 0.5, 0.8, 0.0])


def test_thresholds_met_exactly(device: str) -> None:
    """A score has to be over the confidence threshold; an overlap equal to the NMS threshold does not suppress."""
    boxes = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 0.5], [0, 0, 0.25, 0.5]])  # overlaps 0.5, 0.125 and 0.25
    prior = torch.stack([boxes, torch.full_like(boxes, 0.1)]).reshape(1, 2, -1)
    conf = torch.tensor([[0.0, 0.9, 0, 0.8, 0, 0.25]])
    common = dict(num_classes=2, confidence_threshold=0.25)
    args = (torch.zeros(1, 12), conf, prior)
    assert len(check(args, device, nms_threshold=0.5, **common)) == 2
    assert len(check(args, device, nms_threshold=float(np.nextafter(np.float32(0.5), np.float32(0))), **common)) == 1


def test_nothing_over_the_threshold(device: str) -> None:
    found = check(scene(3, 3, 10, 3), device, num_classes=3, confidence_threshold=1.5, keep_top_k=5)
    assert found.tolist() == [[i, -1, -1, -1, -1, -1, -1] for i in range(3)]


def test_no_images_and_no_priors(device: str) -> None:
    def run(num: int, priors: int) -> tuple[int, ...]:
        args = (torch.zeros(num, priors * 4), torch.zeros(num, priors * 3), torch.zeros(1, 2, priors * 4))
        return tuple(detection_output(*(a.to(device) for a in args), num_classes=3).shape)

    assert run(0, 5) == (0, 7)
    assert run(2, 0) == (2, 7)


def test_numbers_that_are_none_are_no_detections_and_stop_nothing(device: str) -> None:
    """A NaN score is over no threshold, infinite ones rank first, a box of NaNs overlaps none."""
    loc, conf, prior = scene(4, 1, 12, 2)
    conf = conf.reshape(12, 2)
    conf[3, 1], conf[5, 1] = float("nan"), float("inf")
    loc = loc.reshape(12, 4)
    loc[7] = float("nan")
    found = detection_output(
        loc.reshape(1, -1).to(device), conf.reshape(1, -1).to(device), prior.to(device), num_classes=2,
        confidence_threshold=0.0, nms_threshold=1.0,
    ).cpu()  # fmt: skip
    assert len(found) == 11
    assert found[0, 2] == float("inf")
    assert int(found[:, 3].isnan().sum()) == 1


def test_threads_change_nothing() -> None:
    inputs = scene(5, 9, 300, 5, levels=20)
    options: dict[str, Any] = dict(num_classes=5, confidence_threshold=0.1, nms_threshold=0.4, top_k=50, keep_top_k=60)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = detection_output(*inputs, **options)
        torch.set_num_threads(4)
        for _ in range(5):
            assert torch.equal(one, detection_output(*inputs, **options))
    finally:
        torch.set_num_threads(before)


def test_half_precision_and_strides_are_taken_as_float32_values() -> None:
    loc, conf, prior = scene(6, 2, 30, 3)
    options: dict[str, Any] = dict(num_classes=3, confidence_threshold=0.2, nms_threshold=0.4)
    low = loc.bfloat16(), conf.bfloat16()
    strided = conf.bfloat16().float().t().contiguous().t()
    assert torch.equal(
        detection_output(*low, prior, **options), detection_output(low[0].float(), strided, prior, **options)
    )


def _static_arguments(device: str) -> tuple[Any, ...]:
    return *(t.to(device) for t in scene(7, 2, 50, 4)), 4, True, 0, CENTER_SIZE, False, 0.3, 0.45, 1.0, 20, 10


def test_custom_op_contract(device: str) -> None:
    torch.library.opcheck(torch.ops.caffe.detection_output.default, _static_arguments(device))


def test_unused_rows_name_their_image() -> None:
    rows, counts = detection_output_static(*scene(8, 2, 5, 3), 3, True, 0, CORNER, False, 0.5, 0.3, 1.0, -1, 100)
    assert rows.shape == (2, 10, 7)
    for image in range(2):
        unused = rows[image, counts[image] :]
        assert len(unused) > 0
        assert unused.tolist() == [[image, -1, -1, -1, -1, -1, -1]] * len(unused)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 5}, "Number of priors must match number of confidence predictions: 10 priors and 5 classes"),
        ({"share_location": False}, "Number of priors must match number of location predictions"),
        ({"nms_threshold": -1.0}, "nms_threshold is -1"),
        ({"eta": 0.0}, "eta is 0"),
        ({"code_type": 4}, "code_type is 4"),
        ({"num_classes": 0}, "num_classes is 0"),
    ],
)
def test_errors(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        detection_output(*scene(9, 1, 10, 3), **{"num_classes": 3, **change})


@pytest.mark.gpu
def test_captured_in_a_cuda_graph() -> None:
    arguments = _static_arguments("cuda")
    eager = detection_output_static(*arguments)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        detection_output_static(*arguments)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = detection_output_static(*arguments)
    for _ in range(3):
        graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(eager, captured, strict=True))
