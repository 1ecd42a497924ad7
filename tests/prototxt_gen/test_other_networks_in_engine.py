"""The networks that the paper compares with learn, run at bf16 and are exported, at a sixteenth of their channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from caffe.engine import acceleration
from caffe.engine.net import Net
from prototxt_gen.network import Network
from tests.narrow import narrow_deploy, narrow_train
from tests.prototxt_gen.sources import OTHERS

#: one of each family
NAMES = ("SSD321", "DSSD321", "DSOD300")


def inputs(network: Network, batch: int = 2) -> dict[str, torch.Tensor]:
    """Noise, and one object in each image: a quarter of it, of class 1."""
    generator = torch.Generator().manual_seed(0)
    label = torch.full((1, 1, 6, 8), -1.0)
    for image in range(batch):
        label[0, 0, image] = torch.tensor([image, 1, 0, 0.2, 0.3, 0.7, 0.8, 0])
    return {"data": torch.randn(batch, 3, network.size, network.size, generator=generator) * 50, "label": label}


def with_statistics(net: Net) -> Net:
    """The net with means of 0 and variances of 1 in its batch normalization; untrained statistics are all 0."""
    with torch.no_grad():
        for step in net.steps:
            if step.layer.type_name == "BatchNorm":
                mean, variance, count = step.layer.blobs
                mean.zero_()
                variance.fill_(1)
                count.fill_(1)
    return net


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_that_learns_gets_a_gradient(name: str) -> None:
    torch.manual_seed(1)
    network = OTHERS[name]
    net = with_statistics(Net(narrow_train(2, network), 0))
    loss, _ = net(inputs(network))
    assert float(loss.detach()) > 0
    loss.backward()
    learned = 0
    for step in net.steps:
        given = step.layer.param.param
        for place, blob in enumerate(step.layer.blobs):
            if place >= len(given) or given[place].lr_mult > 0:
                learned += 1
                assert blob.grad is not None, step.layer.name
                assert bool(torch.isfinite(blob.grad).all()), step.layer.name
    assert learned > 40
    encoder = next(step.layer for step in net.steps if step.layer.type_name == "Convolution")
    assert (encoder.blobs[0].grad is None) == (name == "DSSD321"), "DSSD's first training leaves the encoder alone"


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_bf16_agrees_with_float32(name: str) -> None:
    torch.manual_seed(1)
    param = narrow_deploy(OTHERS[name])
    net = with_statistics(Net(param, 1))
    data = {"data": inputs(OTHERS[name], 1)["data"]}
    expected = net(data, ["mbox_loc"])[1]["mbox_loc"]
    acceleration.use("bf16")
    try:
        rounded = Net(param, 1)
        rounded.load_state_dict(net.state_dict())
        found = rounded(data, ["mbox_loc"])[1]["mbox_loc"].float()
    finally:
        acceleration.use()
    assert float((found - expected).norm() / expected.norm()) < 0.1


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_exported(name: str) -> None:
    pytest.importorskip("onnx")
    runtime: Any = pytest.importorskip("onnxruntime")
    from caffe.export.onnx_model import onnx_model

    torch.manual_seed(1)
    net = with_statistics(Net(narrow_deploy(OTHERS[name]), 1))
    for step in net.steps:
        if "_mbox_conf" in step.layer.name and step.layer.type_name == "Convolution":
            step.layer.blobs[0].mul_(30)  # scores that differ, so that rows have an order
    data = inputs(OTHERS[name], 1)["data"]
    expected = net({"data": data})[1]["detection_out"][0, 0].numpy()
    session = runtime.InferenceSession(onnx_model(net).SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(["detection_out"], {"data": data.numpy()})[0][0, 0]
    assert found.shape == expected.shape
    np.testing.assert_allclose(np.sort(found[:, 2]), np.sort(expected[:, 2]), atol=1e-4)
