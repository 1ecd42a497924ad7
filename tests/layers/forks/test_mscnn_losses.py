"""DetectionLoss and DetectionGroupLoss where the general tests do not reach: gradients, random samples, no objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from caffe.errors import NetError
from tests.layer_harness import Array, Case, gradients, make_layer, run
from tests.layers.comparison import drawn
from tests.layers.forks.cases_mscnn_training import ANCHORS, CASES, GROUP, GROUP_LOSS, LOSS, MAP, TIES, label_maps
from tests.reference import mscnn_training

#: without equal scores: which of those are the hardest changes with small steps
LOSSES = [c for c in CASES if c.type in ("DetectionLoss", "DetectionGroupLoss") and TIES not in c.bottoms]


@pytest.mark.parametrize("case", LOSSES, ids=str)
def test_gradient_of_the_first_value_equals_small_steps(case: Case) -> None:
    """Between the limits of offsets."""
    layer = case.layer().double()
    arrays = drawn(case)
    maps = [torch.as_tensor(a) for a in arrays[:-1]]
    maps[-1][:, -4:] = maps[-1][:, -4:] * 0.05
    labels = torch.as_tensor(arrays[-1])
    for x in maps:
        x.requires_grad_()

    def first(*x: torch.Tensor) -> torch.Tensor:
        return run(layer, *x, labels)[0][..., 0]

    assert torch.autograd.gradcheck(first, maps, eps=1e-6, atol=3e-10, rtol=1e-5, fast_mode=True)
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(first(*maps).sum(), maps))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("DetectionLoss", LOSS % "sample_mode: 'all' field_xyr: 1 field_whr: 4"),
        ("DetectionGroupLoss", f"detection_group_loss_param {{ cls_num: 3 {ANCHORS} field_xyr: 1 field_whr: 4 }}"),
    ],
)
def test_beyond_the_limits_offsets_count_as_the_limit_but_get_a_gradient(kind: str, text: str) -> None:
    anchors = 1 if kind == "DetectionLoss" else 3
    scores, labels = np.zeros((anchors, 3, 1, 1)), np.zeros((anchors, 6, 1, 1))
    labels[0, :, 0, 0] = [1, 4 + 0.25 * 24, 4, 24, 24, 0.9]  # offsets 0.25, 0, 0, and 0 or log(24 / 30)
    offsets = np.zeros((anchors, 4, 1, 1))
    offsets[0, :3, 0, 0] = 3, -3, 3
    split = [np.concatenate([scores, offsets], axis=1)] if anchors == 1 else [scores, offsets]
    shapes = [x.shape for x in (*split, labels)]
    layer = make_layer(kind, text, shapes)
    grads = gradients(layer, [*split, labels], [[[[1.0, 5.0]]]])
    of_offsets = grads[anchors > 1][0, -4:, 0, 0] * 4
    fourth = {1: -np.log(24 / 30), 3: 0}[anchors]
    np.testing.assert_allclose(of_offsets, [0.75, -1, 1, fourth], atol=1e-6)
    (top,) = run(layer, *map(torch.as_tensor, (*split, labels)))
    most = np.log(4)
    np.testing.assert_allclose(top[0, 0, 0, 1], (0.75**2 / 2 + 0.5 + most - 0.5 + fourth**2 / 2) / 4, rtol=1e-6)


def test_a_class_without_any_probability_has_a_finite_loss_and_a_gradient() -> None:
    x, labels = torch.zeros(1, 7, 1, 1), torch.zeros(1, 6, 1, 1)
    x[0, 0], labels[0, 0] = 500, 2
    layer = make_layer("DetectionLoss", LOSS % "", [tuple(x.shape), tuple(labels.shape)])
    (top,) = run(layer, x, labels)
    assert 87 < top[0, 0, 0, 0] - top[0, 0, 0, 1] < 88
    (grad, _) = gradients(layer, [x, labels], [[[[1.0, 0.0]]]])
    np.testing.assert_allclose(grad[0, :3, 0, 0], [1, 0, -1], atol=1e-12)


def kept_by(layer: Any, arrays: list[Array], seed: int) -> tuple[Array, Any]:
    """The layer's top, and the cells that it drew for it."""
    drew: list[torch.Tensor] = []
    name = "negatives" if layer.type_name == "DetectionLoss" else "samples"
    method = getattr(layer, name)

    def note(*args: Any) -> torch.Tensor:
        drew.append(method(*args))
        return drew[-1]

    setattr(layer, name, note)
    torch.manual_seed(seed)
    (top,) = run(layer.double(), *map(torch.as_tensor, arrays))
    setattr(layer, name, method)
    return top.numpy(), drew[0].numpy()


@pytest.mark.parametrize("mode", ["random", "mixture"])
def test_detection_loss_draws_negatives(mode: str) -> None:
    case = Case("DetectionLoss", LOSS % f"sample_mode: '{mode}' bg_multiple: 1", [MAP, label_maps(3)], lambda *_: [])
    layer, (x, labels) = case.layer(), drawn(case)
    top, kept = kept_by(layer, [x, labels], seed=3)
    able = (labels[:, 0] == 0) & (labels[:, 5] < 0.5)
    objects = [(labels[:, 0] != 0)[i].sum() for i in range(2)]
    assert not (kept & ~able).any()
    assert (kept != able).any()
    for i in range(2):
        assert 0 < kept[i].sum() <= (max(objects[i], 8) if mode == "random" else max(objects[i] // 2, 8) + 2 * 6)
    np.testing.assert_allclose(top, mscnn_training.detection_loss_of(layer.param, x, labels, kept)[0])
    assert (kept_by(layer, [x, labels], seed=3)[1] == kept).all()
    assert any((kept_by(layer, [x, labels], seed=seed)[1] != kept).any() for seed in range(4, 9))


@pytest.mark.parametrize("mining", ["random", "bootstrap", "mixture"])
def test_detection_group_loss_draws_as_many_as_wanted_of_each_image(mining: str) -> None:
    text = GROUP_LOSS.replace("bootstrap", mining) % "batch_size: 9 bg_multiple: 2 pos_neg_weighted: true"
    case = Case("DetectionGroupLoss", text, GROUP, lambda *_: [])
    layer, arrays = case.layer(), drawn(case)
    top, kept = kept_by(layer, arrays, seed=3)
    labels = arrays[2]
    fore, able = labels[:, 0] > 0, (labels[:, 0] == 0) & (labels[:, 5] < 0.5)
    for image in range(2):
        part = slice(3 * image, 3 * image + 3)
        assert (kept & fore)[part].sum() == 3 < fore[part].sum()
        assert (kept & able)[part].sum() == 6 < able[part].sum()
    np.testing.assert_allclose(top, mscnn_training.detection_group_loss_of(layer.param, arrays, kept)[0])
    others = [kept_by(layer, arrays, seed)[1] for seed in range(3, 9)]
    assert (others[0] == kept).all()
    assert any((other & fore != kept & fore).any() for other in others)
    always = np.logical_and.reduce([other & able for other in others]).sum()
    assert {"random": always < 6, "bootstrap": always == 12, "mixture": 6 <= always < 12}[mining]


def test_without_objects_a_few_negatives_are_still_taught() -> None:
    x, labels = torch.zeros(1, 7, 4, 4), torch.zeros(1, 6, 4, 4)
    layer = make_layer(
        "DetectionLoss", LOSS % "sample_mode: 'bootstrap' pos_neg_weighted: true", [(1, 7, 4, 4), (1, 6, 4, 4)]
    )
    assert run(layer, x, labels)[0].ravel().tolist() == pytest.approx([np.log(3), 0])
    (grad, _) = gradients(layer, [x, labels], [[[[1.0, 0.0]]]])
    taught = (grad[0, 0] != 0).reshape(-1).nonzero().ravel().tolist()
    assert taught == [12, 13, 14, 15]  # of equal scores the later: the same 4 cells for both classes


@pytest.mark.parametrize("mode", ["all", "bootstrap", "random"])
def test_without_negatives_gradients_are_finite(mode: str) -> None:
    x, labels = np.zeros((1, 7, 1, 2)), np.zeros((1, 6, 1, 2))
    labels[0, :, 0, 0] = 1, 4, 4, 20, 20, 0.9
    labels[0, 5, 0, 1] = 0.9
    layer = make_layer(
        "DetectionLoss", LOSS % f"sample_mode: '{mode}' pos_neg_weighted: true", [(1, 7, 1, 2), (1, 6, 1, 2)]
    )
    (grad, _) = gradients(layer, [x, labels], [[[[1.0, 0.0]]]])
    assert grad.isfinite().all()
    assert grad[..., 0].abs().sum() > 0
    assert grad[..., 1].abs().sum() == 0


@pytest.mark.parametrize("case", [c for c in CASES if "loss_param { ignore" not in c.text], ids=str)
def test_labels_that_are_no_class_are_named(case: Case) -> None:
    arrays = drawn(case)
    labels, layer = arrays[-1], case.layer().double()
    for bad in (-2.0, 3.0) if "objectness" not in case.text else (-2.0,):
        labels[0, 0, 1, 1] = bad
        with pytest.raises(NetError, match=rf"label {bad:g} in 'b\d' is not one of the \d classes"):
            run(layer, *map(torch.as_tensor, arrays))
