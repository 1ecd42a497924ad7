"""The focal loss where the general tests do not reach, and as the confidence loss of MultiBoxLoss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf import text_format

from caffe.errors import DataError, NetError
from caffe.ops.multibox_loss_options import MultiBoxLossOptions
from caffe.proto import caffe_pb2
from tests.layer_harness import gradients, make_layer, run
from tests.ops.multibox_scenes import CODE, LOSS, batch
from tests.reference import multibox_loss as reference
from tests.reference.focal_loss import focal_gradient

SHAPES = [(2, 32), (2, 24), (1, 2, 32), (1, 1, 3, 8)]  # 8 priors, 3 classes


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2])
def test_certain_and_impossible_labels(gamma: float) -> None:
    """The formulas of the forks divide by zero there; these are their limits."""
    layer = make_layer(
        "FocalLoss", f"focal_loss_param {{ gamma: {gamma} }} loss_param {{ normalization: NONE }}", [(3, 2), (3,)]
    )
    scores, labels = np.array([[0.0, 500], [0, 500], [0, 0]]), [1.0, 0, 0]
    (loss,) = run(layer.double(), torch.tensor(scores[:1]), torch.tensor(labels[:1]))
    assert loss.item() == 0
    (loss,) = run(layer, torch.tensor(scores[1:2]), torch.tensor(labels[1:2]))
    assert loss.item() == pytest.approx(-0.25 * math.log(torch.finfo(torch.float32).tiny))
    grad = gradients(layer, [scores, labels])[0]
    np.testing.assert_allclose(grad[:2], np.array([[0, 0], [-0.25, 0.25]]), atol=1e-12)
    np.testing.assert_allclose(grad[2], focal_gradient(scores[2], 0, 0.25, gamma), rtol=1e-12)


def test_a_nearly_certain_label_keeps_its_digits() -> None:
    """1 − p is not computed from p, which is 1 in single precision."""
    layer = make_layer("FocalLoss", "loss_param { normalization: NONE }", [(1, 2), (1,)])
    (loss,) = run(layer, torch.tensor([[0.0, 20.0]]), torch.tensor([1.0]))
    assert loss.item() == pytest.approx(0.25 * math.exp(-60), rel=1e-5)


def test_a_label_that_is_no_class() -> None:
    layer = make_layer("FocalLoss", "", [(1, 2), (1,)])
    with pytest.raises(NetError, match="label 2 in 'b1' is not one of the 2 classes"):
        run(layer, torch.zeros(1, 2), torch.tensor([2.0]))


def multibox(kind: str, options: MultiBoxLossOptions, inputs: Any, text: str) -> Any:
    """The layer with these options, of which those are written that the tests vary."""
    names = ["code_type", "mining_type", "share_location", "use_prior_for_matching", "map_object_to_agnostic"]
    names += ["num_classes", "background_label_id", "loc_weight", "sample_size", "neg_pos_ratio"]
    loss = caffe_pb2.MultiBoxLossParameter(**{name: getattr(options, name) for name in names})
    if kind == "MultiBoxLoss":
        loss.conf_loss_type = LOSS.FOCALLOSS
    normalization = caffe_pb2.LossParameter.NormalizationMode.Name(options.normalization)
    down = f"propagate_down: {str(options.with_loc).lower()} propagate_down: {str(options.with_conf).lower()}"
    text += f" multibox_loss_param {{ {text_format.MessageToString(loss)} }} {down}"
    return make_layer(kind, f"{text} loss_param {{ normalization: {normalization} }}", [tuple(t.shape) for t in inputs])


OPTIONS = [
    MultiBoxLossOptions(4, code_type=CODE.CENTER_SIZE, mining_type=LOSS.NONE),
    MultiBoxLossOptions(4, code_type=CODE.CENTER_SIZE, loc_weight=2),
    MultiBoxLossOptions(4, mining_type=LOSS.HARD_EXAMPLE, sample_size=9, normalization=reference.NORMALIZATION.FULL),
    MultiBoxLossOptions(2, map_object_to_agnostic=True, with_loc=False, normalization=reference.NORMALIZATION.NONE),
    MultiBoxLossOptions(3, with_conf=False, normalization=reference.NORMALIZATION.BATCH_SIZE),
    MultiBoxLossOptions(4, share_location=False, mining_type=LOSS.NONE),
    MultiBoxLossOptions(4, share_location=False, mining_type=LOSS.NONE, use_prior_for_matching=False),
]


@pytest.mark.parametrize("kind", ["MultiBoxFocalLoss", "MultiBoxLoss"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_multibox_loss_equals_the_reference(options: MultiBoxLossOptions, kind: str, device: str) -> None:
    for seed in range(3):
        inputs = batch(options, seed)
        layer = multibox(kind, options, inputs, "focal_loss_param { alpha: 0.6 gamma: 1.5 }")
        loc, conf, prior, label = (t.to(device) for t in inputs)
        loc, conf = loc.detach().requires_grad_(), conf.detach().requires_grad_()
        (loss,) = run(layer, loc, conf, prior, label)
        (2 * loss).backward()
        expected = reference.multibox_loss(
            inputs[0].numpy(), inputs[1].numpy(), prior.cpu().numpy(), label.cpu().numpy(), options, focus=(0.6, 1.5)
        )
        assert expected.positives
        np.testing.assert_allclose(loss.item(), expected.loss, rtol=2e-5)
        for leaf, diff in ((loc, expected.loc_diff), (conf, expected.conf_diff)):
            found = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            np.testing.assert_allclose(found.cpu(), 2 * diff, rtol=1e-4, atol=4e-6)


def test_no_objects_and_no_images() -> None:
    """All boxes are background, and then there is nothing."""
    layer = make_layer("MultiBoxFocalLoss", "multibox_loss_param { num_classes: 3 mining_type: NONE }", SHAPES)
    prior = torch.tensor([[[0.1, 0.1, 0.5, 0.5] * 8, [0.1] * 32]])
    for rows in (1, 0):
        (loss,) = run(layer, torch.zeros(2, 32), torch.zeros(2, 24), prior, torch.full((1, 1, rows, 8), -1.0))
        assert loss.item() == pytest.approx(16 * 0.25 * (2 / 3) ** 2 * math.log(3))
    (loss,) = run(layer, torch.zeros(0, 32), torch.zeros(0, 24), prior, torch.full((1, 1, 1, 8), -1.0))
    assert loss.item() == 0


def test_sigmoids_are_as_in_multibox_loss() -> None:
    options = "multibox_loss_param { num_classes: 3 conf_loss_type: LOGISTIC }"
    inputs = batch(MultiBoxLossOptions(3))
    shapes = [tuple(t.shape) for t in inputs]
    found = [run(make_layer(kind, options, shapes), *inputs)[0] for kind in ("MultiBoxFocalLoss", "MultiBoxLoss")]
    assert torch.equal(*found)


def test_which_gradients_and_graphs() -> None:
    layer = make_layer("MultiBoxFocalLoss", "multibox_loss_param { num_classes: 3 }", SHAPES)
    assert [layer.takes_gradient(i) for i in range(4)] == [True, True, False, False]
    assert layer.graph_obstacle() is None
    assert layer.compile_obstacle() is None


def test_a_focal_multibox_loss_traces_without_a_break() -> None:
    inputs = batch(MultiBoxLossOptions(3))
    layer = make_layer("MultiBoxFocalLoss", "multibox_loss_param { num_classes: 3 }", [tuple(t.shape) for t in inputs])
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="eager", fullgraph=True, dynamic=False)(*inputs)
    torch.testing.assert_close(compiled, run(layer, *inputs)[0])


@pytest.mark.parametrize("kind", ["MultiBoxFocalLoss", "MultiBoxLoss"])
def test_what_is_refused(kind: str) -> None:
    focal = "conf_loss_type: FOCALLOSS" if kind == "MultiBoxLoss" else ""
    for option, text, message in (
        ("", "focal_loss_param { alpha: -1 }", "alpha must be positive, not -1"),
        ("background_label_id: 3", "", "background_label_id is 3"),
        ("", "loss_param { normalization: PRE_FIXED }", "normalization PRE_FIXED"),
    ):
        with pytest.raises(NetError, match=f"layer 'l' .{kind}.: .*{message}"):
            make_layer(kind, f"multibox_loss_param {{ num_classes: 3 {focal} {option} }} {text}", SHAPES)
    layer = make_layer(kind, f"multibox_loss_param {{ num_classes: 3 {focal} }}", SHAPES)
    bottoms = [torch.zeros(shape) for shape in SHAPES]
    bottoms[2][0, 1] = 0.1
    bottoms[3][0, 0, 0] = torch.tensor([0, 3, 0, 0.1, 0.1, 0.5, 0.5, 0])
    with pytest.raises(DataError, match="has label 3; num_classes: 3 allows 0 to 2"):
        run(layer, *bottoms)


def test_no_focal_loss_with_a_first_stage() -> None:
    with pytest.raises(NetError, match="FOCALLOSS takes four bottoms"):
        make_layer(
            "MultiBoxLoss", "multibox_loss_param { num_classes: 3 conf_loss_type: FOCALLOSS }", [*SHAPES, (2, 16)]
        )
