"""CenterLoss: its gradients, one of which is no derivative, and labels that are no classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe.errors import NetError
from tests.layer_harness import make_layer, run, spread_out
from tests.layers.forks.cases_training import CENTER


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_gradients_are_the_forks(weight: float) -> None:
    """Class 0 has two items, class 1 none, class 2 one."""
    layer = spread_out(make_layer("CenterLoss", CENTER, [(3, 4), (3,)]))
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    labels = torch.tensor([2.0, 0, 0], dtype=torch.float64)
    (loss,) = run(layer, x, labels)
    found, centers = torch.autograd.grad(loss, [x, layer.blobs[0]], torch.tensor(weight, dtype=torch.float64))
    distance = (x - layer.blobs[0][labels.long()]).detach().numpy()
    np.testing.assert_allclose(found, weight * distance / 3)
    np.testing.assert_allclose(centers, [-(distance[1] + distance[2]) / 3, np.zeros(4), -distance[0] / 2])


def test_labels_that_are_no_classes() -> None:
    layer = make_layer("CenterLoss", CENTER, [(1, 4), (1,)])
    with pytest.raises(NetError, match="label 3 in 'b1' is not one of the 3 classes .0 to 2."):
        run(layer, torch.zeros(1, 4), torch.tensor([3.0]))


def test_features_of_another_size() -> None:
    layer = make_layer("CenterLoss", CENTER, [(1, 4), (1,)])
    with pytest.raises(NetError, match="'b0' is 1×5; its centers have 4 values each"):
        layer.reshape([(1, 5), (1,)])
