"""MarginInnerProduct: its gradients, the weight that falls with the passes, and vectors kept at length 1."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe.errors import NetError
from tests.layer_harness import make_layer, run, spread_out
from tests.reference import masks


@pytest.mark.parametrize("kind", ["SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE"])
@pytest.mark.parametrize("base", [0, 0.5])
def test_gradients_are_the_forks(kind: str, base: float) -> None:
    rng = np.random.default_rng(0)
    x, labels, diff = rng.normal(size=(40, 3)), rng.integers(0, 4, 40), rng.normal(size=(40, 4))
    text = f"margin_inner_product_param {{ num_output: 4 type: {kind} base: {base} }}"
    layer = spread_out(make_layer("MarginInnerProduct", text, [x.shape, labels.shape]))
    before = layer.blobs[0].detach().numpy().copy()
    item = torch.from_numpy(x).requires_grad_()
    (top,) = run(layer, item, torch.from_numpy(labels.astype(float)))
    found = torch.autograd.grad(top, [item, layer.blobs[0]], torch.from_numpy(diff))
    expected = masks.margin_gradients(layer.param, x, labels, before, diff)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)
    np.testing.assert_allclose(layer.blobs[0].detach().norm(dim=1), 1)


def test_lambda_falls_with_the_passes() -> None:
    text = "margin_inner_product_param { num_output: 2 type: DOUBLE base: 8 gamma: 1 power: 2 lambda_min: 0.4 }"
    layer = make_layer("MarginInnerProduct", text, [(1, 2), (1,)], 2)
    assert layer.graph_obstacle() == "counts its passes"
    found = [float(run(layer, torch.ones(1, 2), torch.zeros(1))[1]) for _ in range(5)]
    np.testing.assert_allclose(found, [2, 8 / 9, 0.5, 0.4, 0.4], rtol=1e-6)
    still = make_layer("MarginInnerProduct", "margin_inner_product_param { num_output: 2 }", [(1, 2), (1,)])
    assert still.graph_obstacle() is None


def test_an_item_of_zeros_has_scores_of_zero() -> None:
    text = "margin_inner_product_param { num_output: 2 type: QUADRUPLE weight_filler { type: 'xavier' } }"
    layer = make_layer("MarginInnerProduct", text, [(1, 3), (1,)])
    x = torch.zeros(1, 3, requires_grad=True)
    (top,) = run(layer, x, torch.ones(1))
    top.sum().backward()
    assert not top.any()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_labels_that_are_no_classes() -> None:
    layer = make_layer("MarginInnerProduct", "margin_inner_product_param { num_output: 2 }", [(1, 2), (1,)])
    with pytest.raises(NetError, match="label 2 in 'b1' is not one of the 2 classes .0 to 1."):
        run(layer, torch.zeros(1, 2), torch.tensor([2.0]))
