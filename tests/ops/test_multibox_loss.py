"""caffe.ops.multibox_loss against the obvious NumPy version, against finite differences, and out of the ordinary."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from caffe.errors import DataError, NetError
from caffe.ops.multibox_loss import MultiBoxLossOptions, multibox_loss, multibox_loss_forward
from caffe.proto import caffe_pb2
from tests.cuda_on_cpu import device as emulator
from tests.reference import multibox_loss as reference

LOSS, CODE, NORMALIZATION = caffe_pb2.MultiBoxLossParameter, caffe_pb2.PriorBoxParameter, caffe_pb2.LossParameter
Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def grid_priors(side: int, sizes: tuple[float, ...] = (0.2, 0.35)) -> np.ndarray:
    """Square boxes of each size around the cells of a grid, P×4; those at the edge cross it."""
    centres = (np.arange(side) + 0.5) / side
    return np.array(
        [[x - s / 2, y - s / 2, x + s / 2, y + s / 2] for y in centres for x in centres for s in sizes], np.float32
    )


def truth_rows(rng: np.random.Generator, images: int, each: int, classes: int, difficult: float = 0.2) -> np.ndarray:
    """Rows of `each` random boxes an image; image 1 of three or more has none."""
    rows = []
    for n in range(images):
        for i in range(0 if n == 1 and images > 2 else each):
            size = rng.uniform(0.1, 0.5, 2)
            corner = rng.uniform(0, 1 - size)
            rows.append([n, rng.integers(1, classes), i, *corner, *(corner + size), rng.random() < difficult])
    return np.array(rows, np.float32).reshape(-1, 8) if rows else np.full((1, 8), -1, np.float32)


def batch(
    options: MultiBoxLossOptions, seed: int = 0, images: int = 3, side: int = 5, each: int = 3, spread: float = 1.0
) -> Batch:
    rng = np.random.default_rng(seed)
    boxes = grid_priors(side)
    prior = np.stack([boxes, np.tile(np.array([0.1, 0.1, 0.2, 0.2], np.float32), (len(boxes), 1))])
    objects = 2 if options.map_object_to_agnostic else max(options.num_classes, 2)
    label = truth_rows(rng, images, each, objects)
    loc = rng.standard_normal((images, len(boxes) * options.loc_classes * 4)) * spread * 0.5
    conf = rng.standard_normal((images, len(boxes) * options.num_classes)) * spread * 2
    return tensors(loc, conf, prior, label)


def tensors(loc: Any, conf: Any, prior: Any, label: Any) -> Batch:
    loc, conf, prior, label = (torch.from_numpy(np.asarray(a, np.float32)) for a in (loc, conf, prior, label))
    return loc, conf, prior.reshape(1, 2, -1), label.reshape(1, 1, -1, 8)


def run(inputs: Batch, options: MultiBoxLossOptions, device: str = "cpu", top_diff: float = 1.0) -> list[Tensor]:
    """Loss, gradient of the locations, gradient of the confidences, on the CPU."""
    loc, conf, prior, label = (t.to(device) for t in inputs)
    loc, conf = loc.detach().requires_grad_(), conf.detach().requires_grad_()
    loss = multibox_loss(loc, conf, prior, label, options)
    (loss * top_diff).backward()
    assert loc.grad is not None
    assert conf.grad is not None
    return [loss.detach().cpu(), loc.grad.cpu(), conf.grad.cpu()]


def check(inputs: Batch, options: MultiBoxLossOptions, device: str = "cpu") -> reference.Answer:
    """Runs op and reference on the same inputs and wants the same loss and gradients."""
    loss, loc_diff, conf_diff = run(inputs, options, device)
    expected = reference.multibox_loss(*(t.numpy() for t in inputs), options)
    np.testing.assert_allclose(loss.item(), expected.loss, rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(loc_diff.numpy(), expected.loc_diff, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(conf_diff.numpy(), expected.conf_diff, rtol=1e-4, atol=2e-6)
    return expected


# ---- Every option against the reference


@pytest.mark.parametrize("code_type", [CODE.CORNER, CODE.CENTER_SIZE, CODE.CORNER_SIZE])
@pytest.mark.parametrize("in_target", [False, True])
@pytest.mark.parametrize("use_prior", [False, True])
def test_codes(device: str, code_type: int, in_target: bool, use_prior: bool) -> None:
    options = MultiBoxLossOptions(
        4, code_type=code_type, variance_in_target=in_target, use_prior_for_matching=use_prior, bp_inside=True
    )
    assert check(batch(options), options, device).positives


def options_strategy() -> st.SearchStrategy[MultiBoxLossOptions]:
    @st.composite
    def build(draw: st.DrawFn) -> MultiBoxLossOptions:
        share = draw(st.booleans())
        agnostic = draw(st.sampled_from([False, False, True]))
        return MultiBoxLossOptions(
            num_classes=2 if agnostic else draw(st.sampled_from([2, 3, 21, 70])),
            share_location=share,
            loc_loss_type=draw(st.sampled_from([LOSS.L2, LOSS.SMOOTH_L1])),
            conf_loss_type=draw(st.sampled_from([LOSS.SOFTMAX, LOSS.LOGISTIC])),
            loc_weight=draw(st.sampled_from([1.0, 0.5, 2.0])),
            match_type=draw(st.sampled_from([LOSS.BIPARTITE, LOSS.PER_PREDICTION])),
            overlap_threshold=draw(st.sampled_from([0.5, 0.35])),
            use_prior_for_matching=draw(st.booleans()),
            use_difficult_gt=draw(st.booleans()),
            neg_pos_ratio=draw(st.sampled_from([3.0, 0.3, 1.5, 100.0])),
            neg_overlap=draw(st.sampled_from([0.5, 0.3, 0.0])),
            code_type=draw(st.sampled_from([CODE.CORNER, CODE.CENTER_SIZE, CODE.CORNER_SIZE])),
            variance_in_target=draw(st.booleans()),
            map_object_to_agnostic=agnostic,
            ignore_cross_boundary_bbox=draw(st.booleans()),
            bp_inside=draw(st.booleans()),
            mining_type=draw(st.sampled_from([LOSS.NONE, LOSS.MAX_NEGATIVE, LOSS.HARD_EXAMPLE]))
            if share
            else LOSS.NONE,
            nms_threshold=draw(st.sampled_from([0.0, 0.0, 0.4, 0.7])),
            nms_top_k=draw(st.sampled_from([-1, 0, 5, 200])),
            use_prior_for_nms=draw(st.booleans()),
            sample_size=draw(st.sampled_from([1, 16, 64])),
            normalization=draw(st.sampled_from(NORMALIZATION.NormalizationMode.values())),
        )

    return build()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(options_strategy(), st.integers(0, 1000), st.integers(1, 4), st.integers(2, 4), st.integers(0, 4))
def test_random_options(options: MultiBoxLossOptions, seed: int, images: int, side: int, each: int) -> None:
    check(batch(options, seed, images, side, each), options)


@pytest.mark.parametrize("mining", [LOSS.NONE, LOSS.MAX_NEGATIVE, LOSS.HARD_EXAMPLE])
@pytest.mark.parametrize("conf_loss", [LOSS.SOFTMAX, LOSS.LOGISTIC])
def test_mining(device: str, mining: int, conf_loss: int) -> None:
    options = MultiBoxLossOptions(21, mining_type=mining, conf_loss_type=conf_loss, code_type=CODE.CENTER_SIZE)
    answer = check(batch(options, each=4), options, device)
    assert answer.positives
    assert bool(answer.negatives) == (mining != LOSS.NONE)


@pytest.mark.parametrize(("with_loc", "with_conf"), [(True, False), (False, True), (False, False)])
def test_parts_left_out(device: str, with_loc: bool, with_conf: bool) -> None:
    options = MultiBoxLossOptions(3, with_loc=with_loc, with_conf=with_conf)
    check(batch(options), options, device)


def test_top_diff_scales_the_gradients() -> None:
    options = MultiBoxLossOptions(3)
    _, loc_diff, conf_diff = run(batch(options), options)
    _, loc_scaled, conf_scaled = run(batch(options), options, top_diff=-2.5)
    torch.testing.assert_close(loc_scaled, loc_diff * -2.5)
    torch.testing.assert_close(conf_scaled, conf_diff * -2.5)


# ---- Gradients by finite differences


@pytest.mark.parametrize("loc_loss", [LOSS.L2, LOSS.SMOOTH_L1])
@pytest.mark.parametrize("conf_loss", [LOSS.SOFTMAX, LOSS.LOGISTIC])
@pytest.mark.parametrize("mining", [LOSS.NONE, LOSS.MAX_NEGATIVE])
def test_gradients_by_finite_differences(loc_loss: int, conf_loss: int, mining: int) -> None:
    """Steps small enough that no match changes; a loss of order 1 in float32 then has differences good to 1%."""
    options = MultiBoxLossOptions(3, loc_loss_type=loc_loss, conf_loss_type=conf_loss, mining_type=mining)
    loc, conf, prior, label = batch(options, seed=5, images=2, side=3, each=2)
    _, *gradients = run((loc, conf, prior, label), options)
    chosen = multibox_loss_forward(loc, conf, prior, label, options.numbers())[1]
    step = 2e-2
    for which, gradient in enumerate(gradients):
        compared = 0
        for at in gradient.flatten().abs().topk(12).indices:
            values = []
            for sign in (1, -1):
                moved = [loc.clone(), conf.clone()]
                moved[which].view(-1)[at] += sign * step
                loss, match, _ = multibox_loss_forward(*moved, prior, label, options.numbers())
                values.append(float(loss) if torch.equal(match, chosen) else math.nan)
            slope = (values[0] - values[1]) / (2 * step)
            if not math.isnan(slope):
                compared += 1
                assert slope == pytest.approx(gradient.flatten()[at].item(), rel=1e-2, abs=1e-3)
        assert compared >= 6


# ---- Ties


def one_class_scene(boxes: list[list[float]], truths: list[list[float]], conf: Any = None) -> Batch:
    """One image, two classes; priors as given, locations 0."""
    prior = np.stack([np.array(boxes, np.float32), np.full((len(boxes), 4), 0.1, np.float32)])
    label = [[0, 1, 0, *t, 0] for t in truths]
    return tensors(np.zeros((1, len(boxes) * 4)), np.zeros((1, len(boxes) * 2)) if conf is None else conf, prior, label)


def matches(inputs: Batch, options: MultiBoxLossOptions, device: str = "cpu") -> list[int]:
    moved = [t.to(device) for t in inputs]
    return multibox_loss_forward(*moved, options.numbers())[1].cpu().flatten().tolist()


A, B, FAR = [0.1, 0.1, 0.4, 0.4], [0.6, 0.6, 0.9, 0.9], [0.45, 0.0, 0.55, 0.05]


def test_equal_overlaps_go_to_the_lower_box_then_the_earlier_truth(device: str) -> None:
    bipartite = MultiBoxLossOptions(2, match_type=LOSS.BIPARTITE, mining_type=LOSS.NONE)
    assert matches(one_class_scene([FAR, A, A, A], [A, A]), bipartite, device) == [-1, 0, 1, -1]
    # The third box is free after the bipartite part and overlaps both truths equally.
    greedy = replace(bipartite, match_type=LOSS.PER_PREDICTION)
    assert matches(one_class_scene([FAR, A, A, A], [A, A]), greedy, device) == [-1, 0, 1, 0]


def test_a_truth_whose_box_was_taken_finds_its_next_best(device: str) -> None:
    near_a = [0.1, 0.1, 0.4, 0.38]
    options = MultiBoxLossOptions(2, match_type=LOSS.BIPARTITE, mining_type=LOSS.NONE)
    assert matches(one_class_scene([near_a, A, B], [A, A, A]), options, device) == [1, 0, -1]


def test_equal_losses_go_to_the_lower_box(device: str) -> None:
    boxes = [A] + [FAR] * 9
    conf = np.zeros((1, 10, 2), np.float32)
    conf[0, [3, 5, 8], 1] = 2.0  # the hardest, all equal
    inputs = one_class_scene(boxes, [A], conf.reshape(1, -1))
    for ratio, expected in ((2, [3, 5]), (4, [1, 3, 5, 8]), (6, [1, 2, 3, 4, 5, 8])):
        options = MultiBoxLossOptions(2, neg_pos_ratio=float(ratio))
        found = matches(inputs, options, device)
        assert [i for i, m in enumerate(found) if m == -3] == expected
        assert found[0] == 0


def test_threshold_is_inclusive_for_matches_and_exclusive_for_negatives() -> None:
    half = [0.0, 0.0, 0.5, 1.0]
    whole = [0.0, 0.0, 1.0, 1.0]
    inputs = one_class_scene([whole, half], [whole])  # overlaps exactly 1 and 1/2
    assert matches(inputs, MultiBoxLossOptions(2, overlap_threshold=0.5)) == [0, 0]
    assert matches(inputs, MultiBoxLossOptions(2, overlap_threshold=0.6, neg_overlap=0.5)) == [0, -1]
    assert matches(inputs, MultiBoxLossOptions(2, overlap_threshold=0.6, neg_overlap=0.51)) == [0, -3]


# ---- Few or no objects, odd boxes, odd numbers


@pytest.mark.parametrize("mining", [LOSS.NONE, LOSS.MAX_NEGATIVE, LOSS.HARD_EXAMPLE])
@pytest.mark.parametrize("kind", ["no rows in use", "all difficult", "no label rows"])
def test_no_objects(device: str, mining: int, kind: str) -> None:
    options = MultiBoxLossOptions(3, mining_type=mining, use_difficult_gt=False)
    loc, conf, prior, label = batch(options)
    if kind == "no rows in use":
        label = torch.full((1, 1, 4, 8), -1.0)
    elif kind == "all difficult":
        label[..., 7] = 1
    else:
        label = label[:, :, :0]
    answer = check((loc, conf, prior, label), options, device)
    assert not answer.positives
    assert (answer.loss == 0) == (mining != LOSS.NONE)


def test_padding_rows_change_nothing(device: str) -> None:
    options = MultiBoxLossOptions(3)
    loc, conf, prior, label = batch(options)
    padding = torch.full((1, 1, 5, 8), -1.0)
    padded = torch.cat([padding, label[:, :, :3], padding, label[:, :, 3:], padding], 2)
    for ours, plain in zip(
        run((loc, conf, prior, padded), options, device), run((loc, conf, prior, label), options, device), strict=True
    ):
        assert torch.equal(ours, plain)


def test_rows_of_images_may_be_in_any_order(device: str) -> None:
    options = MultiBoxLossOptions(3)
    loc, conf, prior, label = batch(options)
    order = torch.argsort(label[0, 0, :, 2], stable=True)  # by instance, images interleaved
    mixed = label[:, :, order]
    check((loc, conf, prior, mixed), options, device)


def test_empty_batch(device: str) -> None:
    options = MultiBoxLossOptions(3)
    loc, conf, prior, label = batch(options)
    loss, loc_diff, conf_diff = run((loc[:0], conf[:0], prior, label), options, device)
    assert loss == 0
    assert loc_diff.shape == loc[:0].shape
    assert conf_diff.shape == conf[:0].shape


@pytest.mark.parametrize("truth", [[0.3, 0.3, 0.3, 0.3], [0.6, 0.2, 0.4, 0.5], [0.2, 0.4, 0.5, 0.4]])
def test_boxes_without_area_match_nothing(device: str, truth: list[float]) -> None:
    options = MultiBoxLossOptions(2, code_type=CODE.CENTER_SIZE)
    assert not check(one_class_scene([A, B, FAR], [truth]), options, device).positives
    assert matches(one_class_scene([truth, A, B], [A]), options, device)[:2] == [-3, 0]


@pytest.mark.parametrize("use_prior", [True, False])
@pytest.mark.parametrize("mining", [LOSS.NONE, LOSS.MAX_NEGATIVE, LOSS.HARD_EXAMPLE])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_wild_predictions_end_and_show(device: str, use_prior: bool, mining: int, value: float) -> None:
    options = MultiBoxLossOptions(
        3,
        use_prior_for_matching=use_prior,
        mining_type=mining,
        code_type=CODE.CENTER_SIZE,
        nms_threshold=0.5 if math.isinf(value) else 0.0,
    )
    for which in (0, 1):
        inputs = batch(options)
        inputs[which][:, ::7] = value
        loss = run(inputs, options, device)[0]
        if which == 1 and math.isnan(value):
            assert math.isnan(loss)  # NaN ranks first, so mining cannot hide it


@pytest.mark.parametrize("classes", [1, 2, 63, 64, 65, 130])
@pytest.mark.parametrize("conf_loss", [LOSS.SOFTMAX, LOSS.LOGISTIC])
def test_class_counts(classes: int, conf_loss: int) -> None:
    """Around the blocks in which losses are computed. One class: objects are class 0 and there is no background."""
    if classes == 1:
        options = MultiBoxLossOptions(1, conf_loss_type=LOSS.LOGISTIC, background_label_id=-1)
        loc, conf, prior, label = batch(options)
        label[..., 1] = 0
        check((loc, conf, prior, label), options)
        return
    options = MultiBoxLossOptions(classes, conf_loss_type=conf_loss, mining_type=LOSS.HARD_EXAMPLE)
    check(batch(options, side=3), options)


def test_scores_far_apart() -> None:
    """The probability of a class is not taken to be under the smallest normal number, so a loss is at most 87.3."""
    options = MultiBoxLossOptions(3)
    loc, conf, prior, label = batch(options, spread=200.0)
    check((torch.zeros_like(loc), conf, prior, label), options)


# ---- State, threads, devices


def test_forward_twice_gives_the_same() -> None:
    options = MultiBoxLossOptions(3)
    loc, conf, prior, label = batch(options)
    loc.requires_grad_()
    first, second = (multibox_loss(loc, conf, prior, label, options) for _ in range(2))
    assert torch.equal(first, second)
    (first + second).backward()
    assert loc.grad is not None
    torch.testing.assert_close(loc.grad, 2 * run((loc.detach(), conf, prior, label), options)[1])


@pytest.mark.parametrize("mining", [LOSS.NONE, LOSS.MAX_NEGATIVE, LOSS.HARD_EXAMPLE])
@pytest.mark.parametrize("conf_loss", [LOSS.SOFTMAX, LOSS.LOGISTIC])
def test_threads_change_nothing(mining: int, conf_loss: int) -> None:
    options = MultiBoxLossOptions(21, mining_type=mining, conf_loss_type=conf_loss, use_prior_for_matching=False)
    inputs = batch(options, images=8, side=30, each=5)
    alone = run(inputs, options)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for ours, single in zip(run(inputs, options), alone, strict=True):
            assert torch.equal(ours, single)
    finally:
        torch.set_num_threads(before)


def test_half_precision_predictions() -> None:
    options = MultiBoxLossOptions(3)
    loc, conf, prior, label = batch(options)
    loc, conf = loc.bfloat16().requires_grad_(), conf.bfloat16().requires_grad_()
    loss = multibox_loss(loc, conf, prior, label, options)
    assert loss.dtype == torch.float32
    loss.backward()
    assert loc.grad is not None
    assert loc.grad.dtype == torch.bfloat16


def test_operator_contract() -> None:
    """Schema, fake tensors and autograd as torch.library checks them."""
    options = MultiBoxLossOptions(3)
    loc, conf, prior, label = batch(options)
    arguments = (loc.requires_grad_(), conf.requires_grad_(), prior, label, options.numbers())
    torch.library.opcheck(
        multibox_loss_forward, arguments, test_utils=("test_schema", "test_faketensor", "test_autograd_registration")
    )


# ---- Errors


def test_confidences_of_another_class_count() -> None:
    options = MultiBoxLossOptions(21)
    loc, _, prior, label = batch(options)
    conf = batch(MultiBoxLossOptions(5))[1]
    with pytest.raises(
        NetError, match="must match number of confidence predictions: 50 priors × 21.*250, which is 5 classes"
    ):
        multibox_loss(loc, conf, prior, label, options)


def test_priors_that_do_not_fit_the_predictions() -> None:
    options = MultiBoxLossOptions(3)
    loc, conf, prior, label = batch(options)
    with pytest.raises(NetError, match="must match number of location predictions: 48 priors.*enough for 50 boxes"):
        multibox_loss(loc, conf, prior[..., :-8], label, options)
    with pytest.raises(NetError, match="batch"):
        multibox_loss(loc[:1], conf, prior, label, options)
    with pytest.raises(NetError, match="rows of image"):
        multibox_loss(loc, conf, prior, label[..., :7], options)


@pytest.mark.parametrize(("value", "message"), [(3, "allows 0 to 2"), (-2, "allows 0 to 2"), (0, "is the background")])
def test_labels_that_are_no_class(value: int, message: str) -> None:
    options = MultiBoxLossOptions(3)
    loc, conf, prior, label = batch(options)
    label[0, 0, 4, 1] = value
    image = int(label[0, 0, 4, 0])
    with pytest.raises(DataError, match=f"image {image} of the batch has label {value}[,;].*{message}"):
        multibox_loss(loc, conf, prior, label, options)


def test_numbers_that_are_not_finite_in_labels_or_variances_of_zero() -> None:
    options = MultiBoxLossOptions(3)
    loc, conf, prior, label = batch(options)
    broken = label.clone()
    broken[0, 0, 1, 4] = math.nan
    with pytest.raises(DataError, match="label row 1 is not finite"):
        multibox_loss(loc, conf, prior, broken, options)
    prior[0, 1, 9] = 0
    with pytest.raises(DataError, match="variance 1 of prior 2"):
        multibox_loss(loc, conf, prior, label, options)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_classes": 0}, "at least 1"),
        ({"num_classes": 3, "background_label_id": 3}, "background_label_id is 3"),
        ({"num_classes": 3, "share_location": False}, "needs share_location"),
        ({"num_classes": 3, "mining_type": LOSS.HARD_EXAMPLE, "sample_size": 0}, "sample_size"),
        ({"num_classes": 3, "map_object_to_agnostic": True}, "must be 2"),
    ],
)
def test_options_that_contradict_each_other(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(NetError, match=message):
        MultiBoxLossOptions(**fields)


# ---- The GPU against the CPU


def tied_batch() -> Batch:
    """Boxes, objects and scores from small pools: nearly everything is equal to something."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 3, (150, 2)) / 4
    prior = np.stack([np.concatenate([corners, corners + 0.5], 1), np.full((150, 4), 0.1)])
    corners = rng.integers(0, 3, (20, 2)) / 4
    image, zeros = np.sort(rng.integers(0, 2, (20, 1)), 0), np.zeros((20, 1))
    label = np.concatenate([image, zeros + 1, zeros, corners, corners + 0.5, zeros], 1)
    return tensors(np.zeros((2, 600)), rng.integers(0, 3, (2, 450)), prior, label)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("mining", [LOSS.NONE, LOSS.MAX_NEGATIVE, LOSS.HARD_EXAMPLE])
@pytest.mark.parametrize(
    "scene", ["random", "ties", "predictions matched", "classes matched", "over the boundary", "NaN"]
)
def test_emulated_gpu_decides_as_the_cpu(monkeypatch: pytest.MonkeyPatch, scene: str, mining: int, seed: int) -> None:
    """To the box, and gradients to the bit, in whatever order threads run."""
    options = MultiBoxLossOptions(3, mining_type=mining, code_type=CODE.CENTER_SIZE, neg_pos_ratio=1.5)
    options = replace(options, conf_loss_type=LOSS.LOGISTIC if seed else LOSS.SOFTMAX)
    if scene in ("predictions matched", "classes matched"):
        by_class = scene == "classes matched"
        options = replace(
            options,
            use_prior_for_matching=False,
            share_location=not by_class,
            mining_type=LOSS.NONE if by_class else mining,
        )
    if scene == "over the boundary":
        options = replace(options, ignore_cross_boundary_bbox=True)
    inputs = tied_batch() if scene == "ties" else batch(options, seed, images=3, side=9, each=10)
    if scene == "NaN":
        inputs[1][:, ::31] = math.nan
    decided = multibox_loss_forward(*inputs, options.numbers())
    loss, *gradients = run(inputs, options)
    emulator.use(monkeypatch, seed=seed + 7)
    for ours, theirs in zip(multibox_loss_forward(*inputs, options.numbers())[1:], decided[1:], strict=True):
        assert torch.equal(ours, theirs)
    emulated, *emulated_gradients = run(inputs, options)
    torch.testing.assert_close(emulated, loss, rtol=1e-6, atol=0, equal_nan=True)
    for ours, theirs in zip(emulated_gradients, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("value", [3.0, -2.0, 0.0])
def test_emulated_gpu_answers_a_label_that_is_no_class_with_nan(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    options = MultiBoxLossOptions(3)
    loc, conf, prior, label = batch(options)
    label[0, 0, 1, 1] = value
    emulator.use(monkeypatch, seed=1)
    assert math.isnan(run((loc, conf, prior, label), options)[0])


def both(inputs: Batch, options: MultiBoxLossOptions) -> None:
    """The GPU decides as the CPU does, to the box, and its sums differ by rounding alone."""
    decided = multibox_loss_forward(*inputs, options.numbers())
    on_gpu = multibox_loss_forward(*(t.cuda() for t in inputs), options.numbers())
    for ours, theirs in zip(on_gpu[1:], decided[1:], strict=True):
        assert torch.equal(ours.cpu(), theirs)
    for ours, theirs in zip(run(inputs, options, "cuda"), run(inputs, options), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0, equal_nan=True)


@pytest.mark.gpu
@settings(max_examples=100, deadline=None, derandomize=True)
@given(options_strategy(), st.integers(0, 1000), st.integers(1, 4), st.integers(2, 12), st.integers(0, 40))
def test_gpu_random_options(options: MultiBoxLossOptions, seed: int, images: int, side: int, each: int) -> None:
    both(batch(options, seed, images, side, each), options)


@pytest.mark.gpu
@pytest.mark.parametrize("mining", [LOSS.MAX_NEGATIVE, LOSS.HARD_EXAMPLE])
def test_gpu_many_ties(mining: int) -> None:
    both(tied_batch(), MultiBoxLossOptions(3, mining_type=mining))


@pytest.mark.gpu
def test_gpu_hundreds_of_equal_objects() -> None:
    options = MultiBoxLossOptions(2, code_type=CODE.CENTER_SIZE)
    loc, conf, prior, label = batch(options, images=1, side=30, each=1)
    both((loc, conf, prior, label.expand(1, 1, 300, 8).contiguous()), options)


@pytest.mark.gpu
@pytest.mark.parametrize(("images", "side"), [(2, 212), (64, 40)], ids=["90,000 boxes", "64 images"])
def test_gpu_sizes(images: int, side: int) -> None:
    options = MultiBoxLossOptions(21, code_type=CODE.CENTER_SIZE)
    both(batch(options, images=images, side=side, each=6), options)


@pytest.mark.gpu
def test_gpu_repeats_itself() -> None:
    options = MultiBoxLossOptions(21)
    inputs = batch(options, images=8, side=40, each=10)
    first = run(inputs, options, "cuda")
    for _ in range(5):
        for ours, before in zip(run(inputs, options, "cuda"), first, strict=True):
            assert torch.equal(ours, before)


@pytest.mark.gpu
def test_gpu_graph_capture() -> None:
    """A captured step, replayed on other numbers with padding for fewer objects, answers as a fresh one."""
    options = MultiBoxLossOptions(5, code_type=CODE.CENTER_SIZE)
    static = [t.cuda() for t in batch(options, seed=1, each=4)]
    static[0].requires_grad_()
    static[1].requires_grad_()

    def step() -> list[Tensor]:
        loss = multibox_loss(*static, options)
        return [loss, *torch.autograd.grad(loss, static[:2])]

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = step()
    for seed in (2, 3):
        loc, conf, prior, label = batch(options, seed=seed, each=seed - 1)
        padded = torch.full_like(static[3].cpu(), -1.0)
        padded[:, :, : label.shape[2]] = label
        with torch.no_grad():
            for to, new in zip(static, (loc, conf, prior, padded), strict=True):
                to.copy_(new)
        graph.replay()
        for ours, expected in zip(outputs, run((loc, conf, prior, padded), options), strict=True):
            torch.testing.assert_close(ours.detach().cpu(), expected, rtol=1e-6, atol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("value", [3.0, -2.0, 0.0])
def test_gpu_labels_that_are_no_class_make_the_loss_nan(value: float) -> None:
    options = MultiBoxLossOptions(3)
    loc, conf, prior, label = batch(options)
    label[0, 0, 1, 1] = value
    assert math.isnan(run((loc, conf, prior, label), options, "cuda")[0])
