"""Packed convolutions give the same results as plain ones."""

from __future__ import annotations

import pytest
import torch
from google.protobuf import text_format

from caffe.engine import acceleration
from caffe.engine.layer_types import onednn_limits
from caffe.engine.net import Net
from caffe.engine.prepack import PackedConvolution, PackedDeconvolution, prepack
from caffe.proto import caffe_pb2
from tests.narrow import narrow_deploy, narrow_train

DECONVOLUTION = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 6 dim: 13 dim: 11 } } }
layer { name: "deconv" type: "Deconvolution" bottom: "data" top: "deconv"
  convolution_param { num_output: 10 weight_filler { type: "xavier" } bias_filler { type: "uniform" } %s } }"""


def pack(net: Net) -> int:
    """Packs a net's weights; how many of its convolutions."""
    net.inference_steps = prepack(net)
    return sum(isinstance(step.layer, PackedConvolution) for step in net.inference_steps)


def test_same_blobs_in_every_shape_and_gradients_as_before() -> None:
    param = narrow_deploy()
    param.force_backward = True
    net, packed = Net(param, 1), Net(param, 1)
    packed.load_state_dict(net.state_dict())
    convolutions = sum(step.layer.type_name == "Convolution" for step in net.steps)
    steps = packed.inference_steps
    assert pack(packed) == convolutions > 40
    deconvolutions = [step.layer for step in packed.inference_steps if step.layer.type_name == "Deconvolution"]
    assert len(deconvolutions) == 9
    assert all(isinstance(layer, PackedDeconvolution) for layer in deconvolutions)
    assert packed.steps == steps, "the net's own layers stay as they are"
    assert all("forward" not in vars(step.layer) for step in packed.steps)
    seen = ["conv3_3", "conv4_3", "fc7", "mbox_loc", "mbox_conf"]
    generator = torch.Generator().manual_seed(0)
    for shape in ((1, 3, 300, 300), (2, 3, 300, 300), (1, 3, 300, 300)):
        data = torch.randn(shape, generator=generator) * 50
        with torch.no_grad():
            expected, found = net({"data": data}, seen)[1], packed({"data": data}, seen)[1]
        for name in seen:
            scale = float(expected[name].abs().max())
            torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5 * scale)
    loss = [n({"data": data}, ["mbox_loc"])[1]["mbox_loc"].sum() for n in (net, packed)]
    gradients = [
        torch.autograd.grad(total, list(n.parameters())[:2]) for total, n in zip(loss, (net, packed), strict=True)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("text", "packed"),
    [
        ("kernel_size: 2 stride: 2", True),
        ("kernel_size: 3 stride: 2 pad: 3", True),
        ("kernel_h: 4 kernel_w: 3 stride_h: 1 stride_w: 3 pad_h: 1 pad_w: 0", True),
        ("kernel_size: 3 dilation: 2 pad: 1", True),
        ("kernel_size: 1 bias_term: false", True),
        ("kernel_size: 4 stride: 2 pad: 1 group: 2", False),
        ("kernel_size: 3 axis: 2", False),
    ],
)
@torch.no_grad()
def test_deconvolutions(text: str, packed: bool) -> None:
    net = Net(text_format.Parse(DECONVOLUTION % text, caffe_pb2.NetParameter()), 1)
    steps = prepack(net)
    assert any(isinstance(step.layer, PackedDeconvolution) for step in steps) == packed
    for shape in ((2, 6, 13, 11), (1, 6, 13, 11), (3, 6, 13, 11)):
        data = {"data": torch.randn(shape)}
        net.inference_steps = net.steps
        expected = net(data, ["deconv"])[1]["deconv"]
        net.inference_steps = steps
        torch.testing.assert_close(net(data, ["deconv"])[1]["deconv"], expected)


def test_a_deconvolution_in_parts_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn_limits, "_MOST_SUMMED", 11)
    for text, packed in (("kernel_size: 2 stride: 2", False), ("kernel_size: 2", True)):
        steps = prepack(Net(text_format.Parse(DECONVOLUTION % text, caffe_pb2.NetParameter()), 1))
        assert any(isinstance(step.layer, PackedDeconvolution) for step in steps) == packed


def test_a_deconvolution_with_far_strides_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn_limits, "_MOST_STRIDE", 1)
    for text, packed in (("kernel_size: 2 stride: 2", False), ("kernel_size: 2", True)):
        steps = prepack(Net(text_format.Parse(DECONVOLUTION % text, caffe_pb2.NetParameter()), 1))
        assert any(isinstance(step.layer, PackedDeconvolution) for step in steps) == packed


def test_left_alone_where_it_does_not_apply() -> None:
    net = Net(narrow_train(), 0)
    assert prepack(net) == net.steps
    acceleration.use(compile=True)
    try:
        assert pack(Net(narrow_deploy(), 1)) == 0
    finally:
        acceleration.use()


@torch.no_grad()
def test_at_bf16() -> None:
    """If the processor computes in bfloat16, the same as autocast; otherwise unchanged."""
    acceleration.use("bf16")
    try:
        net, packed = Net(narrow_deploy(), 1), Net(narrow_deploy(), 1)
        packed.load_state_dict(net.state_dict())
        assert (pack(packed) > 40) == torch.ops.mkldnn._is_mkldnn_bf16_supported()
        data = {"data": torch.randn(1, 3, 300, 300) * 50}
        for name in ("conv4_3", "fc7", "mbox_loc", "mbox_conf"):
            expected, found = (n(data, [name])[1][name].float() for n in (net, packed))
            assert float((found - expected).norm() / expected.norm()) < 0.02
    finally:
        acceleration.use()
