"""caffe.ops.multibox_loss against the NumPy reference, against finite differences, and with unusual inputs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from caffe.errors import DataError, NetError
from caffe.ops.multibox_loss import multibox_loss, multibox_loss_forward
from caffe.ops.multibox_loss_options import MultiBoxLossOptions
from tests.ops.multibox_scenes import (
    CODE,
    FAR,
    LOSS,
    A,
    B,
    batch,
    check,
    matches,
    one_class_scene,
    options_strategy,
    run,
)

# ---- Every option against the reference


@pytest.mark.parametrize("code_type", [CODE.CORNER, CODE.CENTER_SIZE, CODE.CORNER_SIZE])
@pytest.mark.parametrize("in_target", [False, True])
@pytest.mark.parametrize("use_prior", [False, True])
def test_codes(device: str, code_type: int, in_target: bool, use_prior: bool) -> None:
    options = MultiBoxLossOptions(
        4, code_type=code_type, encode_variance_in_target=in_target, use_prior_for_matching=use_prior, bp_inside=True
    )
    assert check(batch(options), options, device).positives


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
    """Steps so small that no match changes; for a loss of order 1 in float32, differences are then accurate to 1 %."""
    options = MultiBoxLossOptions(3, loc_loss_type=loc_loss, conf_loss_type=conf_loss, mining_type=mining)
    loc, conf, prior, label = batch(options, seed=5, images=2, side=3, each=2)
    _, *gradients = run((loc, conf, prior, label), options)
    chosen = multibox_loss_forward(loc, conf, prior, label, options.text)[1]
    step = 2e-2
    for which, gradient in enumerate(gradients):
        compared = 0
        for at in gradient.flatten().abs().topk(12).indices:
            values = []
            for sign in (1, -1):
                moved = [loc.clone(), conf.clone()]
                moved[which].view(-1)[at] += sign * step
                loss, match, _ = multibox_loss_forward(*moved, prior, label, options.text)
                values.append(float(loss) if torch.equal(match, chosen) else math.nan)
            slope = (values[0] - values[1]) / (2 * step)
            if not math.isnan(slope):
                compared += 1
                assert slope == pytest.approx(gradient.flatten()[at].item(), rel=1e-2, abs=1e-3)
        assert compared >= 6


# ---- Ties


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


def test_threshold_is_inclusive_for_matches_and_exclusive_for_negatives() -> None:
    half = [0.0, 0.0, 0.5, 1.0]
    whole = [0.0, 0.0, 1.0, 1.0]
    inputs = one_class_scene([whole, half], [whole])  # overlaps exactly 1 and 1/2
    assert matches(inputs, MultiBoxLossOptions(2, overlap_threshold=0.5)) == [0, 0]
    assert matches(inputs, MultiBoxLossOptions(2, overlap_threshold=0.6, neg_overlap=0.5)) == [0, -1]
    assert matches(inputs, MultiBoxLossOptions(2, overlap_threshold=0.6, neg_overlap=0.51)) == [0, -3]


# ---- Few or no objects, odd boxes, unusual numbers


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
    """The smallest normal number is the lower bound of probabilities, so a loss is at most 87.3."""
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
    arguments = (loc.requires_grad_(), conf.requires_grad_(), prior, label, options.text)
    torch.library.opcheck(
        torch.ops.caffe.multibox_loss.default,
        arguments,
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
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
