"""RefineDet's first stage in MultiBoxLoss and DetectionOutput: against the slow references, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf import text_format

from caffe.engine.layer_types.forks.refinement import refined_loss
from caffe.errors import DataError, NetError
from caffe.ops.multibox_loss_options import MultiBoxLossOptions
from tests.layer_harness import make_layer, run
from tests.ops.multibox_scenes import CODE, LOSS, NORMALIZATION, batch
from tests.reference import detection_output as detections
from tests.reference import multibox_loss as reference

IMAGES, PRIORS = 3, 50


def first_stage(seed: int, images: int = IMAGES, priors: int = PRIORS) -> tuple[Any, Any]:
    """Objectness, of which a third is low, and offsets."""
    rng = np.random.default_rng(seed)
    chance = np.where(rng.random((images, priors)) < 0.3, 0.005, rng.uniform(0.02, 1, (images, priors)))
    objectness = np.stack([1 - chance, chance], -1).reshape(images, -1)
    return torch.from_numpy(objectness).float(), 0.3 * torch.from_numpy(rng.normal(size=(images, priors * 4))).float()


def moved(options: MultiBoxLossOptions, prior: Any, offset: Any) -> Any:
    boxes, variances = prior.numpy().reshape(2, -1, 4)
    codes = offset.numpy().reshape(len(offset), -1, 4)
    return np.stack(
        [
            np.stack([reference.decode(options, *one) for one in zip(boxes, variances, image, strict=True)])
            for image in codes
        ]
    )


@pytest.mark.parametrize("with_offsets", [True, False], ids=["moved", "objectness"])
@pytest.mark.parametrize(
    "options",
    [
        MultiBoxLossOptions(4, code_type=CODE.CENTER_SIZE),
        MultiBoxLossOptions(4, code_type=CODE.CORNER, encode_variance_in_target=True, normalization=NORMALIZATION.FULL),
        MultiBoxLossOptions(2, code_type=CODE.CORNER_SIZE, normalization=NORMALIZATION.BATCH_SIZE, neg_pos_ratio=50),
        MultiBoxLossOptions(3, mining_type=LOSS.NONE, normalization=NORMALIZATION.NONE, loc_loss_type=LOSS.L2),
        MultiBoxLossOptions(3, conf_loss_type=LOSS.LOGISTIC, bp_inside=True, neg_overlap=0.2, use_difficult_gt=False),
        MultiBoxLossOptions(5, with_loc=False, ignore_cross_boundary_bbox=True, loc_weight=3),
    ],
    ids=str,
)
def test_the_loss_equals_the_reference(options: MultiBoxLossOptions, with_offsets: bool) -> None:
    for seed in range(3):
        loc, conf, prior, label = batch(options, seed)
        objectness, offset = first_stage(seed)
        stage = [objectness, offset][: 1 + with_offsets]
        leaves = [t.clone().requires_grad_() for t in (loc, conf, *stage)]
        loss = refined_loss(leaves[0], leaves[1], prior, label, leaves[2:], options, 0.01)
        (2 * loss).backward()
        expected = reference.multibox_loss(
            loc.numpy(), conf.numpy(), prior.numpy(), label.numpy(), options,
            moved(options, prior, offset) if with_offsets else None,
            objectness.numpy().reshape(IMAGES, -1, 2)[:, :, 1] >= np.float32(0.01),
        )  # fmt: skip
        assert expected.positives
        assert options.mining_type == LOSS.NONE or expected.negatives
        np.testing.assert_allclose(loss.item(), expected.loss, rtol=2e-5)
        for leaf, diff in zip(leaves, (expected.loc_diff, expected.conf_diff), strict=False):
            assert leaf.grad is not None
            np.testing.assert_allclose(leaf.grad, 2 * diff, rtol=1e-4, atol=4e-6)
        assert all(leaf.grad is None for leaf in leaves[2:])


def test_unlikely_boxes_are_no_negatives_but_stay_positives() -> None:
    options = MultiBoxLossOptions(4, neg_pos_ratio=1000)
    loc, conf, prior, label = batch(options)
    nothing = torch.zeros(IMAGES, PRIORS * 2)
    conf = conf.requires_grad_()
    refined_loss(loc, conf, prior, label, [nothing], options, 0.01).backward()
    assert conf.grad is not None
    used = {(n, p) for n, p in (conf.grad.reshape(IMAGES, PRIORS, 4) != 0).any(-1).nonzero().tolist()}
    expected = reference.multibox_loss(loc.numpy(), conf.detach().numpy(), prior.numpy(), label.numpy(), options)
    assert used == {(n, p) for n, _, p in expected.positives}


def test_a_batch_without_objects_and_one_without_images() -> None:
    options = MultiBoxLossOptions(4)
    loc, conf, prior, label = batch(options)
    stage = first_stage(0)
    loc = loc.requires_grad_()
    loss = refined_loss(loc, conf, prior, torch.full_like(label, -1), stage, options, 0.01)
    loss.backward()
    assert loss.item() == 0
    assert loc.grad is not None
    assert not loc.grad.any()
    assert refined_loss(loc[:0], conf[:0], prior, label, [t[:0] for t in stage], options, 0.01).item() == 0


def test_a_wrong_label_is_named_with_its_image() -> None:
    options = MultiBoxLossOptions(4)
    loc, conf, prior, label = batch(options)
    label[0, 0, -1, 1] = 9
    with pytest.raises(DataError, match="a box of image 2 of the batch has label 9"):
        refined_loss(loc, conf, prior, label, first_stage(0), options, 0.01)


LOSS_TEXT = "multibox_loss_param { num_classes: 4 code_type: CENTER_SIZE objectness_score: 0.3 %s }"
LOSS_SHAPES = [(2, 12), (2, 12), (1, 2, 12), (1, 1, 1, 8), (2, 6), (2, 12)]


def test_the_layer_passes_its_options_on() -> None:
    options = MultiBoxLossOptions(4, code_type=CODE.CENTER_SIZE)
    loc, conf, prior, label = batch(options)
    stage = first_stage(1)
    bottoms = [loc, conf, prior, label, *stage]
    layer = make_layer("MultiBoxLoss", LOSS_TEXT % "", [tuple(b.shape) for b in bottoms])
    found = run(layer, *bottoms)[0]
    assert found.item() == refined_loss(loc, conf, prior, label, stage, options, 0.3).item()
    assert found.item() != refined_loss(loc, conf, prior, label, stage, options, 0.01).item()
    assert [layer.takes_gradient(i) for i in range(6)] == [True, True, False, False, False, False]
    assert layer.graph_obstacle()


@pytest.mark.parametrize(
    ("options", "shapes", "message"),
    [
        ("", {4: (2, 3)}, "the first stage's objectness are 2×3; with 2 images and 3 priors they must be 2×6"),
        ("", {5: (1, 12)}, "the first stage's offsets are 1×12; .* must be 2×12"),
        ("mining_type: HARD_EXAMPLE", {}, "works with mining_type MAX_NEGATIVE or NONE, without nms_param"),
        ("nms_param { nms_threshold: 0.5 }", {}, "without nms_param"),
        ("share_location: false mining_type: NONE", {0: (2, 48)}, "needs share_location: true"),
        ("use_prior_for_matching: false", {}, "need use_prior_for_matching: true"),
    ],
)
def test_refused_by_the_loss(options: str, shapes: dict[int, tuple[int, ...]], message: str) -> None:
    with pytest.raises(NetError, match=rf"layer 'l' \(MultiBoxLoss\): .*{message}"):
        make_layer("MultiBoxLoss", LOSS_TEXT % options, [shapes.get(i, shape) for i, shape in enumerate(LOSS_SHAPES)])


# ---- Detections

DETECTION = (
    "detection_output_param { num_classes: 4 nms_param { nms_threshold: 0.4 top_k: 30 } keep_top_k: 20 "
    "confidence_threshold: 0.1 %s }"
)


def predictions(seed: int) -> list[Any]:
    options = MultiBoxLossOptions(4)
    loc, conf, prior, _ = batch(options, seed)
    conf = conf.reshape(IMAGES, PRIORS, 4).softmax(-1).reshape(IMAGES, -1)
    return [loc, conf, prior, *first_stage(seed)]


@pytest.mark.parametrize("bottoms", [5, 4])
@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE", "CORNER_SIZE"])
@pytest.mark.parametrize("in_target", ["", "variance_encoded_in_target: true"])
def test_detections_equal_the_reference(bottoms: int, code: str, in_target: str) -> None:
    text = DETECTION % f"code_type: {code} {in_target} objectness_score: 0.2"
    loc, conf, prior, objectness, offset = predictions(4)
    layer = make_layer(
        "DetectionOutput", text, [tuple(b.shape) for b in (loc, conf, prior, objectness, offset)][:bottoms]
    )
    found = run(layer, *[loc, conf, prior, objectness, offset][:bottoms])[0].numpy().reshape(-1, 7)

    coding = MultiBoxLossOptions(4, code_type=CODE.CodeType.Value(code), encode_variance_in_target=bool(in_target))
    scores = conf.numpy().reshape(IMAGES, PRIORS, 4).copy()
    scores[objectness.numpy().reshape(IMAGES, PRIORS, 2)[:, :, 1] < np.float32(0.2)] = [1, 0, 0, 0]
    boxes = moved(coding, prior, offset)
    rows = []
    for image in range(IMAGES):
        own = prior.numpy().copy().reshape(2, -1, 4)
        if bottoms == 5:
            own[0] = boxes[image]
        one = detections.detection_output(
            loc.numpy()[image : image + 1], scores[image].reshape(1, -1), own.reshape(1, 2, -1), num_classes=4,
            code_type=coding.code_type, variance_encoded_in_target=bool(in_target), confidence_threshold=0.1,
            nms_threshold=0.4, top_k=30, keep_top_k=20,
        )  # fmt: skip
        one[:, 0] = image
        rows.append(one)
    np.testing.assert_allclose(found, np.concatenate(rows), rtol=1e-5, atol=1e-6)


def test_without_a_threshold_even_scores_of_nothing_are_detections() -> None:
    loc, conf, prior, objectness, _ = predictions(0)
    text = "detection_output_param { num_classes: 4 objectness_score: 2 }"
    layer = make_layer("DetectionOutput", text, [tuple(b.shape) for b in (loc, conf, prior, objectness)])
    found = run(layer, loc, conf, prior, objectness)[0]
    assert (found[0, 0, :, 2] == 0).all()
    assert found.shape[2] > PRIORS


def test_what_the_fourth_bottom_is() -> None:
    """Objectness if the prototxt says so or it is shaped like it, else the images to visualize."""
    text = DETECTION % ""
    shapes = [(1, 12), (1, 12), (1, 2, 12)]
    assert make_layer("DetectionOutput", text, [*shapes, (1, 6)]).refines
    assert not make_layer("DetectionOutput", text, [*shapes, (1, 3, 8, 8)]).refines
    with pytest.raises(NetError, match="the first stage's objectness are 1×3×8×8"):
        make_layer("DetectionOutput", DETECTION % "objectness_score: 0.01", [*shapes, (1, 3, 8, 8)])
    with pytest.raises(NetError, match=r"five bottoms.* need share_location: true"):
        make_layer("DetectionOutput", DETECTION % "share_location: false", [(1, 48), *shapes[1:], (1, 6), (1, 12)])
    with pytest.raises(NetError, match="twice as many.* denser_prior_boxes: true"):
        make_layer("DetectionOutput", text, [(1, 24), *shapes[1:]])


def test_options_of_the_prototxt_are_those_of_the_operator() -> None:
    """objectness_score is the layer's own; every other option goes to the operator."""
    param = text_format.Parse("num_classes: 4 objectness_score: 0.3", LOSS())
    names = {f.name for f in dataclasses.fields(MultiBoxLossOptions)}
    assert "objectness_score" not in names
    assert param.objectness_score == pytest.approx(0.3)
    assert LOSS().objectness_score == pytest.approx(0.01)
