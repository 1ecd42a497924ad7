"""The generated networks set up in the engine: its sizes equal those calculated separately."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from caffe.engine.net import Net
from tests.prototxt_gen.shape_calculation import calculate
from tests.prototxt_gen.sources import generated


def deploy(network: str, dataset: str = "VOC") -> Any:
    net = generated(network, dataset, "deploy")
    for layer in net.layer:
        # Zeros, which are fast to make.
        layer.convolution_param.ClearField("weight_filler")
    return net


@pytest.mark.parametrize("dataset", ["VOC", "COCO"])
@pytest.mark.parametrize("network", ["SSD300", "SSD512", "MDSSD300", "MDSSD512"])
def test_blobs_and_parameters(network: str, dataset: str) -> None:
    param = deploy(network, dataset)
    expected = calculate(param, 1, int(network[-3:]))
    net = Net(param, 1)
    for name, shape in expected.blobs.items():
        if name != "detection_out":
            assert net.blobs[name].shape == shape, name
    found = {step.layer.name: [tuple(blob.shape) for blob in step.layer.blobs] for step in net.steps}
    assert {name: shapes for name, shapes in found.items() if shapes} == expected.parameters
    assert sum(parameter.numel() for parameter in net.learnable_params) == expected.count_parameters()


@pytest.mark.parametrize(
    ("network", "layer", "sides", "step"),
    [
        ("MDSSD300", "module1_mbox_priorbox", [30, 1800**0.5], 4),
        # 35.84 and 76.8 are truncated to 35 and 76
        ("MDSSD512", "module1_mbox_priorbox", [35, (35 * 76) ** 0.5], 4),
        ("SSD512", "conv10_2_mbox_priorbox", [460, (460 * 537) ** 0.5], 512),
    ],
)
def test_sizes_of_default_boxes_are_whole_pixels(network: str, layer: str, sides: list[float], step: int) -> None:
    size = int(network[-3:])
    net = Net(deploy(network), 1)
    found = next(step for step in net.steps if step.layer.name == layer)
    with torch.no_grad():
        priors = found.layer(*(torch.zeros(net.blobs[bottom].shape) for bottom in found.bottoms)).numpy()
    assert priors.shape == net.blobs[layer].shape
    xmin, ymin, xmax, ymax = priors[0, 0].reshape(-1, 4).T * size
    np.testing.assert_allclose((xmax - xmin)[:2], sides, rtol=1e-5)
    np.testing.assert_allclose((ymax - ymin)[:2], sides, rtol=1e-5)
    np.testing.assert_allclose([xmin[0] + xmax[0], ymin[0] + ymax[0]], [step, step], rtol=1e-5)
    np.testing.assert_allclose(priors[0, 1, :4], [0.1, 0.1, 0.2, 0.2], rtol=1e-6)
