"""Convolution, bias and ReLU in one: which steps are fused, with the same numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from google.protobuf import text_format
from torch import Tensor

from caffe.engine import acceleration
from caffe.engine.fused import ConvolutionReLU, fuse
from caffe.engine.net import Net
from caffe.engine.prepack import prepack
from caffe.proto import caffe_pb2
from tests.narrow import narrow_deploy

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 6 dim: 13 dim: 11 } } }'
CONV = """layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 10 weight_filler { type: "xavier" } bias_filler { type: "uniform" } %s } }"""
RELU = 'layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" %s }'


def net(*layers: str) -> Net:
    return Net(text_format.Parse("".join([INPUT, *layers]), caffe_pb2.NetParameter()), 1)


def in_two_steps(x: Tensor, weight: Tensor, bias: Tensor, *window: Any) -> Tensor:
    return F.relu(F.conv2d(x, weight, bias, *window))


@pytest.mark.parametrize(
    ("layers", "joined"),
    [
        ((CONV % "kernel_size: 3", RELU % ""), True),
        ((CONV % "kernel_size: 3",), False),
        ((CONV % "kernel_size: 3", RELU % "relu_param { negative_slope: 0.1 }"), False),
        ((CONV % "kernel_size: 3 bias_term: false", RELU % ""), False),
        ((CONV % "kernel_size: 3 axis: 2", RELU % ""), False),
        ((CONV % "kernel_size: 3", RELU.replace('top: "conv"', 'top: "other"') % ""), False),
        ((CONV % "kernel_size: 3", 'layer { name: "p" type: "Power" bottom: "conv" top: "conv" }', RELU % ""), False),
    ],
    ids=["pair", "no ReLU", "leaky", "no bias", "one axis", "another top", "something between"],
)
def test_what_is_joined(layers: tuple[str, ...], joined: bool) -> None:
    steps = net(*layers).steps
    fused = fuse(steps)
    assert any(isinstance(step.layer, ConvolutionReLU) for step in fused) == joined
    assert len(steps) - len(fused) == joined
    assert [name for step in fused for name in step.tops][-1] == steps[-1].tops[-1]


@torch.no_grad()
def test_the_net_gives_the_same_blobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cudnn_convolution_relu", in_two_steps)
    plain = Net(narrow_deploy(), 1)
    fused = Net(narrow_deploy(), 1)
    fused.load_state_dict(plain.state_dict())
    fused.inference_steps = fuse(fused.steps)
    assert len(fused.steps) - len(fused.inference_steps) > 30
    data = {"data": torch.randn(1, 3, 300, 300) * 50}
    seen = ["conv1_1", "conv4_3", "fc7", "mbox_loc", "mbox_conf"]
    for ours, expected in zip(fused(data, seen)[1].values(), plain(data, seen)[1].values(), strict=True):
        assert torch.equal(ours, expected)


@torch.no_grad()
def test_without_such_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def missing(*_: object) -> Tensor:
        tried.append(1)
        raise RuntimeError("Unable to find an engine to execute this computation")

    monkeypatch.setattr(torch, "cudnn_convolution_relu", missing)
    model = net(CONV % "kernel_size: 3", RELU % "")
    data = {"data": torch.randn(2, 6, 13, 11)}
    expected = model(data)[1]["conv"]
    model.inference_steps = fuse(model.steps)
    for _ in range(3):
        assert torch.equal(model(data)[1]["conv"], expected)
    assert len(tried) == 1


@pytest.mark.gpu
@pytest.mark.usefixtures("nets_on_gpu")
@pytest.mark.parametrize("precision", acceleration.PRECISIONS)
@pytest.mark.parametrize(
    "window",
    [
        "kernel_size: 3 pad: 1", "kernel_size: 1", "kernel_size: 3 stride: 2", "kernel_size: 3 pad: 6 dilation: 6",
        "kernel_h: 1 kernel_w: 5 pad_h: 0 pad_w: 2", "kernel_size: 3 group: 2",
    ],
)  # fmt: skip
@torch.no_grad()
def test_on_a_gpu(window: str, precision: str) -> None:
    """Into memory with NaNs: the previous contents of cuDNN's output must not be read."""
    acceleration.use(precision)
    model = net(CONV % window, RELU % "")
    assert any(isinstance(step.layer, ConvolutionReLU) for step in model.inference_steps)
    x = torch.randn(2, 6, 13, 11, device="cuda")
    weight, bias = (blob.double() for blob in model.steps[1].layer.blobs)
    w = model.steps[1].layer.as_convolution()
    assert w is not None
    expected = in_two_steps(x.double(), weight, bias, w.stride, w.pad, w.dilation, w.group)
    for _ in range(3):
        poison = [torch.full((2 * 10 * 13 * 13,), torch.nan, device="cuda") for _ in range(8)]
        del poison
        found = model({"data": x})[1]["conv"].double()
        error = float((found - expected).norm() / expected.norm())
        assert error < {"fp32": 1e-6, "tf32": 1e-3, "bf16": 1e-2}[precision]


@pytest.mark.gpu
@pytest.mark.usefixtures("nets_on_gpu")
@torch.no_grad()
def test_prepacked_at_bf16_on_a_gpu() -> None:
    acceleration.use("bf16")
    plain, packed = Net(narrow_deploy(), 1), Net(narrow_deploy(), 1)
    packed.load_state_dict(plain.state_dict())
    packed.inference_steps = prepack(packed)
    rounded = [s for s in packed.inference_steps if any(b.dtype == torch.bfloat16 for b in s.layer.blobs)]
    assert len(rounded) > 40
    assert all(blob.dtype == torch.float32 for blob in packed.parameters()), "the net keeps its own weights"
    data = {"data": torch.randn(1, 3, 300, 300, device="cuda") * 50}
    seen = ["conv4_3", "fc7", "mbox_loc", "mbox_conf"]
    for ours, expected in zip(packed(data, seen)[1].values(), plain(data, seen)[1].values(), strict=True):
        assert torch.equal(ours, expected)
