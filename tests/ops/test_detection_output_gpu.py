"""DetectionOutput's GPU code against the CPU's, equal to the bit: on an emulated device, and on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from caffe.ops.detection_output import CENTER_SIZE, CORNER, detection_output
from tests.cuda_on_cpu import device as emulator
from tests.ops.test_detection_output import scene

Inputs = tuple[Tensor, Tensor, Tensor]

gpus = pytest.mark.parametrize("gpu", ["emulated", pytest.param("cuda", marks=pytest.mark.gpu)])


def compare(gpu: str, inputs: Inputs, seed: int = 1, **options: Any) -> Tensor:
    """Runs the op on the CPU and on `gpu`, and checks that the rows are the same. `seed`: the order of threads."""
    expected = detection_output(*inputs, **options)
    if gpu == "cuda":
        found = detection_output(*(t.cuda() for t in inputs), **options).cpu()
    else:
        with pytest.MonkeyPatch.context() as patch:
            emulator.use(patch, seed)
            found = detection_output(*inputs, **options)
    assert found.shape == expected.shape
    # Compared as integers, so that a NaN equals itself and 0 is not -0.
    assert torch.equal(found.view(torch.int32), expected.view(torch.int32))
    return found


def crowd(seed: int, num: int, priors: int, classes: int, places: int, levels: int = 0) -> Inputs:
    """As `scene`, but the boxes crowd around a few places, so that most overlap others by much."""
    loc, conf, _ = scene(seed, num, priors, classes, levels=levels)
    rng = np.random.default_rng(seed)
    center, size = rng.random((places, 2)), rng.uniform(0.2, 0.5, (places, 2))
    box = np.concatenate([center - size / 2, center + size / 2], 1)[rng.integers(0, places, priors)]
    prior = np.stack([box, np.full_like(box, 0.02)]).astype(np.float32)
    return loc, conf, torch.from_numpy(prior).reshape(1, 2, -1)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999), num=st.integers(1, 3), priors=st.integers(1, 150), classes=st.integers(1, 4),
    places=st.integers(1, 12), background=st.integers(-1, 1), levels=st.sampled_from([0, 1, 4]),
    top_k=st.sampled_from([-1, 0, 1, 31, 32, 33, 64, 100]), keep_top_k=st.sampled_from([-1, 0, 1, 5, 33, 1000]),
    eta=st.sampled_from([1.0, 0.9, 0.99]), nms=st.sampled_from([0.0, 0.3, 0.6, 0.95, 1.0]),
    confidence=st.sampled_from([-1.0, 0.5, 2.0]),
)  # fmt: skip
def test_emulated_gpu_decides_as_the_cpu(
    seed: int, num: int, priors: int, classes: int, places: int, background: int, levels: int, top_k: int,
    keep_top_k: int, eta: float, nms: float, confidence: float,
) -> None:  # fmt: skip
    compare(
        "emulated", crowd(seed, num, priors, classes, places, levels), seed=seed, num_classes=classes,
        background_label_id=background, code_type=CORNER, confidence_threshold=confidence, nms_threshold=nms, eta=eta,
        top_k=top_k, keep_top_k=keep_top_k,
    )  # fmt: skip


@gpus
@pytest.mark.parametrize("candidates", [1, 31, 32, 33, 64, 65, 512, 513, 900])
@pytest.mark.parametrize("equal", [False, True])
def test_numbers_of_candidates_around_what_warps_blocks_and_lists_hold(gpu: str, candidates: int, equal: bool) -> None:
    """With top_k 512: lists that have fewer candidates, exactly as many, and more; scores of which all are equal."""
    loc, conf, prior = crowd(candidates, 1, 1000, 2, places=300)
    scores = torch.where(conf < 0.4, 0.4, conf).reshape(1000, 2)
    if equal:
        scores = torch.full_like(scores, 0.7)
    chosen = torch.randperm(1000, generator=torch.Generator().manual_seed(candidates))[:candidates]
    over = torch.zeros(1000, dtype=torch.bool).index_fill(0, chosen, True)
    conf = torch.where(over[:, None], scores, 0.1).reshape(1, -1)
    options: dict[str, Any] = dict(num_classes=2, confidence_threshold=0.3, top_k=512)
    all_kept = compare(gpu, (loc, conf, prior), nms_threshold=1.0, **options)
    assert len(all_kept) == min(candidates, 512)
    for keep_top_k in (-1, 0, 1, candidates, 40):
        compare(gpu, (loc, conf, prior), nms_threshold=0.45, keep_top_k=keep_top_k, **options)


@gpus
@pytest.mark.parametrize("eta", [1.0, 0.9])
def test_more_candidates_than_shared_memory_holds(gpu: str, eta: float) -> None:
    inputs = crowd(11, 2, 1500, 2, places=40, levels=200)
    options: dict[str, Any] = dict(num_classes=2, background_label_id=-1, eta=eta, nms_threshold=0.7)
    found = compare(gpu, inputs, **options)
    assert len(found) > 100
    compare(gpu, inputs, top_k=1100, keep_top_k=90, **options)  # the lists are cut in global memory as well


@gpus
def test_boxes_that_all_remove_each_other_and_boxes_that_remove_none(gpu: str) -> None:
    """One box many times: the best is left. Boxes side by side: all are left, up to keep_top_k of each class."""
    loc, conf, _ = scene(12, 1, 200, 3)
    options: dict[str, Any] = dict(num_classes=3, confidence_threshold=0.0, nms_threshold=0.5, top_k=150)
    same = torch.tensor([0.2, 0.2, 0.6, 0.7]).expand(200, 4)
    left = torch.arange(200) / 200
    apart = torch.stack([left, torch.zeros(200), left + 1 / 400, torch.ones(200)], 1)
    still = torch.zeros_like(loc)
    counts = []
    for boxes in (same, apart):
        prior = torch.stack([boxes, torch.full_like(boxes, 0.1)]).reshape(1, 2, -1)
        counts += [len(compare(gpu, (still, conf, prior), keep_top_k=k, **options)) for k in (-1, 0, 1, 2, 33, 260)]
    assert counts == [2, 1, 1, 2, 2, 2, 300, 1, 1, 2, 33, 260]  # keep_top_k 0: one row of -1


@gpus
def test_nms_threshold_that_falls_with_each_kept_box(gpu: str) -> None:
    """With eta below 1: the threshold starts over 0.5, and below; it falls within and after the first 32 boxes."""
    inputs = crowd(13, 2, 300, 2, places=100)
    kept = []
    for threshold, eta in [(0.95, 1.0), (0.95, 0.99), (0.95, 0.9), (0.95, 0.2), (0.5, 0.9), (0.5, 1.0)]:
        found = compare(gpu, inputs, num_classes=2, nms_threshold=threshold, eta=eta, confidence_threshold=0.1)
        kept.append(len(found))
    assert kept[0] > kept[1] > kept[2] > kept[3]
    assert kept[4] == kept[5]


@gpus
@pytest.mark.parametrize(("priors", "classes"), [(5, 1), (40, 1200), (3, 2100)])
def test_one_class_and_more_classes_than_a_block_has_threads_or_scores(gpu: str, priors: int, classes: int) -> None:
    loc, conf, prior = scene(14, 1, priors, classes)
    found = compare(
        gpu, (loc, conf, prior), num_classes=classes, background_label_id=-1, nms_threshold=0.4, keep_top_k=30,
        confidence_threshold=float(conf.flatten().sort().values[-min(60, conf.numel())]) - 1e-6,
    )  # fmt: skip
    assert len(found) > 1


@gpus
def test_scores_and_boxes_that_are_no_numbers(gpu: str) -> None:
    loc, conf, prior = scene(15, 2, 120, 3)
    conf.view(2, 120, 3)[0, ::7, 1:] = float("nan")
    conf.view(2, 120, 3)[1, ::5, 1] = float("inf")
    loc.view(2, 120, 4)[:, ::3] = float("nan")
    loc.view(2, 120, 4)[:, ::4, 2] = float("inf")
    compare(
        gpu, (loc, conf, prior), num_classes=3, confidence_threshold=-1.0, nms_threshold=0.3, top_k=90, keep_top_k=100
    )


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("num", "priors", "classes", "top_k", "keep_top_k"),
    [(8, 31232, 21, 400, 200), (64, 2000, 21, 400, 200), (2, 90100, 3, 1000, -1), (1, 3000, 5, -1, -1)],
)
def test_gpu_decides_as_the_cpu(num: int, priors: int, classes: int, top_k: int, keep_top_k: int) -> None:
    compare(
        "cuda", scene(10, num, priors, classes, levels=5000), num_classes=classes, code_type=CENTER_SIZE,
        confidence_threshold=0.6, nms_threshold=0.45, top_k=top_k, keep_top_k=keep_top_k,
    )  # fmt: skip
