"""R-CNN's and R-FCN's layers where the general tests do not reach."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe.engine.layer import TEST
from caffe.errors import NetError
from tests.layer_harness import gradients, make_layer, run
from tests.layers.forks.cases_regions import REGIONS
from tests.reference import forks, roi_warping


def test_roi_pooling_of_equal_values_gives_the_gradient_to_the_first() -> None:
    rng = np.random.default_rng(3)
    layer = make_layer(
        "ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.5 }", [(2, 3, 6, 7), (8, 5)]
    )
    x = rng.integers(0, 2, (2, 3, 6, 7)).astype(float)
    regions = REGIONS.values(rng, (8, 5))
    diff = rng.normal(size=(8, 3, 2, 3))
    found = gradients(layer, [x, regions], diff)[0].numpy()
    np.testing.assert_allclose(found, forks.roi_pooling_gradient(layer.param, [x, regions], diff), rtol=1e-12)


def test_regions_of_r_cnn_at_full_size_pass_in_parts() -> None:
    rng = np.random.default_rng(0)
    shape = (1, 64, 38, 50)
    layer = make_layer(
        "ROIPooling", "roi_pooling_param { pooled_h: 7 pooled_w: 7 spatial_scale: 0.0625 }", [shape, (200, 5)]
    )
    x = torch.from_numpy(rng.normal(size=shape))
    corners = np.sort(rng.uniform(0, 800, (200, 2, 2)), axis=1).reshape(200, 4)
    regions = np.concatenate([np.zeros((200, 1)), corners], 1)
    top = run(layer, x, torch.from_numpy(regions))[0]
    (expected,) = forks.roi_pooling(layer.param, [x.numpy(), regions], [], TEST)
    np.testing.assert_array_equal(top.numpy(), expected)


def test_the_regions_gradient_of_roi_warping_is_the_fork_s() -> None:
    rng = np.random.default_rng(2)
    text = "roi_warping_param { pooled_h: 3 pooled_w: 4 spatial_scale: 0.5 }"
    layer = make_layer("ROIWarping", text, [(2, 3, 6, 7), (20, 5)])
    x, regions = rng.normal(size=(2, 3, 6, 7)), REGIONS.values(rng, (20, 5))
    regions[:4, 1:] = [[0, 0, 12, 10], [-3, -3, 2, 2], [5, 5, 5, 5], [9, 9, 4, 4]]  # the map, its corner, a pixel, none
    diff = rng.normal(size=(20, 3, 3, 4))
    found = gradients(layer, [x, regions], diff)[1].numpy()
    expected = roi_warping.regions_gradient(layer.param, [x, regions], diff)
    assert np.abs(expected[:, 1:]).any(axis=1).sum() > 5
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    assert [layer.takes_gradient(i) for i in (0, 1)] == [True, True]
    assert layer.graph_obstacle() is None


def test_roi_warping_is_the_same_with_a_gradient_for_regions() -> None:
    rng = np.random.default_rng(4)
    layer = make_layer("ROIWarping", "roi_warping_param { pooled_h: 5 pooled_w: 6 }", [(2, 3, 6, 7), (9, 5)])
    x, regions = (torch.from_numpy(rng.normal(size=(2, 3, 6, 7))), torch.from_numpy(REGIONS.values(rng, (9, 5))))
    assert torch.equal(run(layer, x, regions)[0], run(layer, x, regions.clone().requires_grad_())[0])


def test_values_that_point_outside() -> None:
    layer = make_layer("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 }", [(1, 2, 4, 4), (1, 5)])
    with pytest.raises(NetError, match="a region of 'b1' is in image 1; the batch has images 0 to 0"):
        run(layer, torch.zeros(1, 2, 4, 4), torch.tensor([[1.0, 0, 0, 3, 3]]))
    layer = make_layer("Upsample", "", [(1, 1, 2, 2)] * 2)
    with pytest.raises(NetError, match="the mask 'b1' has index 16, but a top of 4×4 has 16 places"):
        run(layer, torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 16.0))
