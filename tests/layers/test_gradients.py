"""Gradients that are not simply the derivative: kinks, ties, labels, and the original's own rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from caffe.engine.layer import TEST, TRAIN
from caffe.errors import NetError
from tests.layer_harness import gradients, make_layer, run


@pytest.mark.parametrize(
    ("kind", "text", "at_zero"),
    [
        ("ReLU", "", 0),
        ("ReLU", "relu_param { negative_slope: 0.1 }", 0.1),
        ("PReLU", "", 0.25),
        ("PReLU", "prelu_param { channel_shared: true filler { type: 'constant' value: 0.5 } }", 0.5),
        ("ELU", "elu_param { alpha: 0.7 }", 0.7),
        ("AbsVal", "", 0),
        ("BNLL", "", 0.5),
        ("Power", "power_param { power: 3 }", 0),
    ],
)
def test_gradient_at_zero(kind: str, text: str, at_zero: float) -> None:
    (grad,) = gradients(make_layer(kind, text, [(1, 3)]), [[[-1.0, 0.0, 1.0]]])
    assert grad[0, 1].item() == pytest.approx(at_zero)


def test_prelu_slope_learns_nothing_from_zeros() -> None:
    layer = make_layer("PReLU", "", [(1, 2)])
    (top,) = run(layer, torch.tensor([[0.0, -3.0]]))
    top.sum().backward()
    assert layer.blobs[0].grad is not None
    assert layer.blobs[0].grad.tolist() == [0, -3]


@pytest.mark.parametrize("text", ["power: 0", "scale: 0 shift: 2 power: 3", "power: 0 shift: -1"])
def test_power_that_ignores_its_input_passes_nothing_on(text: str) -> None:
    layer = make_layer("Power", f"power_param {{ {text} }}", [(3,)])
    bottom = torch.tensor([1.0, math.inf, math.nan])
    value = 8.0 if "shift: 2" in text else 1.0
    assert run(layer, bottom)[0].tolist() == [value] * 3
    assert gradients(layer, [bottom])[0].tolist() == [0, 0, 0]


def test_power_one_passes_the_scale_on() -> None:
    layer = make_layer("Power", "power_param { scale: -3 shift: 1 }", [(2,)])
    assert gradients(layer, [[0.0, 5.0]])[0].tolist() == [-3, -3]


@pytest.mark.parametrize("kernel", ["kernel_size: 2", "kernel_size: 3 pad: 2 stride: 2"])
def test_max_pooling_gives_the_gradient_to_the_first_of_equals(kernel: str) -> None:
    layer = make_layer("Pooling", f"pooling_param {{ {kernel} }}", [(1, 1, 2, 2)], tops=2)
    _, mask = run(layer, torch.ones(1, 1, 2, 2))
    (grad,) = gradients(layer, [np.ones((1, 1, 2, 2))])
    expected = np.zeros(4)
    np.add.at(expected, mask.long().numpy().ravel(), 1)
    assert mask.flatten()[0] == 0
    assert grad.flatten().tolist() == expected.tolist()


def test_a_pooling_window_outside_the_image_is_the_lowest_float_and_passes_nothing_on() -> None:
    layer = make_layer("Pooling", "pooling_param { kernel_size: 1 stride: 2 }", [(1, 1, 2, 2)], tops=2)
    top, mask = run(layer, torch.ones(1, 1, 2, 2))
    low = torch.finfo(torch.float32).min
    assert top.flatten().tolist() == [1, low, low, low]
    assert mask.flatten().tolist() == [0, -1, -1, -1]
    assert gradients(layer, [np.ones((1, 1, 2, 2))])[0].flatten().tolist() == [1, 0, 0, 0]


def test_eltwise_max_of_equals_goes_to_the_second_then_stays() -> None:
    layer = make_layer("Eltwise", "eltwise_param { operation: MAX }", [(4,)] * 3)
    grads = gradients(layer, [[1.0, 2, 0, 1], [1.0, 1, 0, 2], [1.0, 2, 3, 2]])
    assert [g.tolist() for g in grads] == [[0, 1, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0]]


def test_product_with_a_zero_has_a_finite_gradient() -> None:
    for stable in ("true", "false"):
        layer = make_layer("Eltwise", f"eltwise_param {{ operation: PROD stable_prod_grad: {stable} }}", [(2,)] * 2)
        assert [g.tolist() for g in gradients(layer, [[0.0, 2.0], [3.0, 4.0]])] == [[3, 4], [0, 2]]


def test_reduction_asum_at_zero() -> None:
    layer = make_layer("Reduction", "reduction_param { operation: ASUM coeff: 2 }", [(3,)])
    assert gradients(layer, [[-1.0, 0, 4]])[0].tolist() == [-2, 0, 2]


def test_hinge_on_the_margin_passes_nothing_on() -> None:
    for norm in ("L1", "L2"):
        layer = make_layer("HingeLoss", f"hinge_loss_param {{ norm: {norm} }}", [(1, 3), (1,)])
        grads = gradients(layer, [[[1.0, -1.0, 0.5]], [0.0]])
        assert grads[0].tolist() == [[0, 0, 1 if norm == "L1" else 3]]


def test_softmax_loss_of_a_vanishing_probability_is_cut_off_but_not_its_gradient() -> None:
    layer = make_layer("SoftmaxWithLoss", "", [(1, 2), (1,)])
    (loss,) = run(layer, torch.tensor([[0.0, 500.0]]), torch.tensor([0.0]))
    assert loss.item() == pytest.approx(-math.log(torch.finfo(torch.float32).tiny))
    assert gradients(layer, [[[0.0, 500.0]], [0.0]])[0].tolist() == [[-1, 1]]


def test_softmax_loss_leaves_ignored_positions_without_gradient() -> None:
    layer = make_layer("SoftmaxWithLoss", "loss_param { ignore_label: 7 }", [(3, 2), (3,)])
    (grad, none) = gradients(layer, [np.zeros((3, 2)), [0.0, 7, 1]], 4.0)
    assert grad.tolist() == [[-1, 1], [0, 0], [1, -1]]
    assert none.tolist() == [0, 0, 0]


def test_softmax_loss_s_second_top_passes_no_gradient_on() -> None:
    layer = make_layer("SoftmaxWithLoss", "", [(1, 2), (1,)], tops=2)
    loss, probabilities = run(layer, torch.zeros(1, 2, requires_grad=True), torch.zeros(1))
    assert loss.requires_grad
    assert not probabilities.requires_grad


def test_logarithm_losses_floor_the_probability_in_the_gradient_too() -> None:
    layer = make_layer("MultinomialLogisticLoss", "", [(1, 2), (1,)])
    (grad, _) = gradients(layer, [[[0.0, 1.0]], [0.0]])
    assert grad.tolist() == [[-1e20, 0]]
    layer = make_layer("InfogainLoss", "", [(1, 2), (1,), (1, 1, 2, 2)])
    grads = gradients(layer, [[[-3.0, 0.5]], [1.0], [[[[0.0, 0], [2, 3]]]]])
    assert grads[0].tolist() == [[pytest.approx(-2e20), -6]]
    assert grads[2].tolist() == [[[[0, 0], [0, 0]]]]


def test_sigmoid_cross_entropy_at_zero_and_on_ignored_targets() -> None:
    layer = make_layer("SigmoidCrossEntropyLoss", "loss_param { ignore_label: -1 normalization: NONE }", [(1, 3)] * 2)
    (grad, _) = gradients(layer, [[[0.0, 0.0, 5.0]], [[1.0, 0.0, -1.9]]])  # −1.9 truncates to −1
    assert grad.tolist() == [[-0.5, 0.5, 0]]


def test_smooth_l1_gradient_is_not_weighted_twice() -> None:
    layer = make_layer("SmoothL1Loss", "", [(1, 3)] * 3)
    a, b, none = gradients(layer, [[[0.2, 3.0, -1.0]], [[0.0, 0.0, 0.0]], [[0.5, 2.0, 1.0]]])
    assert a.tolist() == [[pytest.approx(0.1), 1, -1]]
    assert b.tolist() == [[pytest.approx(-0.1), -1, 1]]
    assert none.tolist() == [[0, 0, 0]]


def test_contrastive_gradient_of_equal_unlike_rows_is_finite() -> None:
    layer = make_layer("ContrastiveLoss", "", [(2, 2), (2, 2), (2,)])
    a, b, _ = gradients(layer, [[[1.0, 1.0], [0.3, 0.4]], [[1.0, 1.0], [0.0, 0.0]], [0.0, 0.0]])
    pull = -0.5 * (1 - 0.5) / (0.5 + 1e-4)
    np.testing.assert_allclose(a, [[0.0, 0.0], [0.3 * pull, 0.4 * pull]])
    np.testing.assert_allclose(b, -a)


def test_constant_image_has_zero_mvn_and_a_finite_gradient() -> None:
    layer = make_layer("MVN", "", [(1, 1, 2, 2)])
    assert run(layer, torch.full((1, 1, 2, 2), 3.0))[0].abs().max() == 0
    assert torch.isfinite(gradients(layer, [np.full((1, 1, 2, 2), 3.0)])[0]).all()


def test_equal_scores_rank_the_later_class_first() -> None:
    layer = make_layer("ArgMax", "argmax_param { axis: 1 top_k: 2 }", [(1, 3)])
    assert run(layer, torch.zeros(1, 3))[0].tolist() == [[2, 1]]
    accuracy = make_layer("Accuracy", "", [(3, 3), (3,)])
    assert run(accuracy, torch.zeros(3, 3), torch.tensor([0.0, 1, 2]))[0].item() == pytest.approx(1 / 3)


def test_accuracy_with_every_label_ignored_is_nan() -> None:
    accuracy = make_layer("Accuracy", "accuracy_param { ignore_label: 1 }", [(2, 3), (2,)])
    assert math.isnan(run(accuracy, torch.zeros(2, 3), torch.ones(2))[0])


@pytest.mark.parametrize("kind", ["Threshold", "ArgMax"])
def test_asking_a_step_for_its_gradient_is_an_error_that_names_it(kind: str) -> None:
    layer = make_layer(kind, "name: 'step'", [(2, 3)])
    (top,) = run(layer, torch.ones(2, 3, requires_grad=True))
    with pytest.raises(NetError, match=f"'step' \\({kind}\\) has no gradient"):
        top.sum().backward()


@pytest.mark.parametrize(
    ("kind", "text", "shapes", "allowed"),
    [
        ("EuclideanLoss", "", [(2, 3)] * 2, [True, True]),
        ("ContrastiveLoss", "", [(2, 3), (2, 3), (2,)], [True, True, False]),
        ("SmoothL1Loss", "", [(2, 3)] * 3, [True, True, False]),
        ("SoftmaxWithLoss", "", [(2, 3), (2,)], [True, False]),
        ("SigmoidCrossEntropyLoss", "", [(2, 3)] * 2, [True, False]),
        ("InfogainLoss", "", [(2, 3), (2,), (3, 3)], [True, False, False]),
        ("Accuracy", "", [(2, 3), (2,)], [False, False]),
        ("Crop", "", [(2, 3, 4)] * 2, [True, False]),
        ("BatchReindex", "", [(2, 3), (2,)], [True, False]),
        ("Filter", "", [(2, 3), (2,)], [True, False]),
        ("Embed", "embed_param { num_output: 1 input_dim: 2 }", [(2,)], [False]),
        ("LSTM", "recurrent_param { num_output: 1 }", [(2, 3, 4), (2, 3), (3, 1)], [True, False, True]),
    ],
)
def test_which_bottoms_can_take_a_gradient(
    kind: str, text: str, shapes: list[tuple[int, ...]], allowed: list[bool]
) -> None:
    layer = make_layer(kind, text, shapes)
    assert [layer.takes_gradient(i) for i in range(len(shapes))] == allowed


def test_relu_overwrites_only_where_the_net_allows_and_nothing_is_recorded() -> None:
    layer = make_layer("ReLU", "", [(2,)])
    bottom = torch.tensor([-1.0, 1.0])
    with torch.no_grad():
        run(layer, bottom)
        assert bottom.tolist() == [-1, 1]
        layer.in_place = True
        run(layer, bottom)
        assert bottom.tolist() == [0, 1]
    recorded = torch.tensor([-1.0, 1.0])
    run(layer, recorded)
    assert recorded.tolist() == [-1, 1]


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_dropout(phase: int) -> None:
    layer = make_layer("Dropout", "dropout_param { dropout_ratio: 0.8 }", [(10000,)], phase=phase)
    bottom = torch.ones(10000, requires_grad=True)
    (top,) = run(layer, bottom)
    if phase == TEST:
        assert top.tolist() == bottom.tolist()
        return
    kept = top > 0
    assert top[kept].unique().tolist() == [pytest.approx(5)]
    assert kept.float().mean().item() == pytest.approx(0.2, abs=0.02)  # five standard deviations
    top.sum().backward()
    assert bottom.grad is not None
    assert torch.equal(bottom.grad, top.detach())


def test_stochastic_pooling_draws_pixels_in_proportion() -> None:
    layer = make_layer("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 }", [(1, 1, 2, 2)])
    bottom = torch.tensor([[1.0, 0.0], [2.0, 5.0]]).repeat(4000, 1, 1, 1).requires_grad_()
    (top,) = run(layer, bottom)
    share = {value: (top == value).float().mean().item() for value in (0.0, 1.0, 2.0, 5.0)}
    assert share[0.0] == 0
    for value in (1.0, 2.0, 5.0):
        assert share[value] == pytest.approx(value / 8, abs=0.04)  # five standard deviations
    top.sum().backward()
    assert bottom.grad is not None
    assert torch.equal(bottom.grad.sum(dim=(1, 2, 3)), torch.ones(4000))
    assert torch.equal((bottom * bottom.grad).sum(dim=(1, 2, 3)), top.flatten())
