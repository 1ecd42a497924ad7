"""Precision and compilation: how far bfloat16 is from float32, and that a net is one graph without breaks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from google.protobuf import text_format
from torch import Tensor

from caffe.engine import acceleration
from caffe.engine.layer_types.activation import ReLU
from caffe.engine.net import Net
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from tests.narrow import narrow_deploy, narrow_train
from tests.solver.test_graphed_step import NET
from tests.solver.test_graphed_step import batch as boxes_of

ONE_LAYER = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 3 bias_term: false weight_filler { type: "xavier" } } }
"""


def training_batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    label = torch.zeros(1, 1, 6, 8)
    label[0, 0, :, 0] = torch.tensor([0, 0, 0, 1, 1, 1])
    label[0, 0, :, 1] = torch.tensor([1, 2, 3, 4, 1, 2])
    label[0, 0, :, 3:5] = torch.rand(6, 2, generator=generator) * 0.6
    label[0, 0, :, 5:7] = label[0, 0, :, 3:5] + 0.05 + torch.rand(6, 2, generator=generator) * 0.3
    return {"data": torch.randn(2, 3, 300, 300, generator=generator) * 50, "label": label}


def loss_and_gradients(net: Net) -> tuple[float, list[Tensor]]:
    loss, _ = net(training_batch())
    return float(loss.detach()), list(torch.autograd.grad(loss, net.learnable_params))


def test_bf16_is_near_float32_and_what_is_delicate_stays_float32() -> None:
    net = Net(narrow_train(), 0)
    expected, gradients = loss_and_gradients(net)
    acceleration.use("bf16")
    _, blobs = net(training_batch(), keep=["conv4_3", "mbox_priorbox", "mbox_loss"])
    assert blobs["conv4_3"].dtype == torch.bfloat16, "bf16 is not enabled"
    assert blobs["mbox_priorbox"].dtype == blobs["mbox_loss"].dtype == torch.float32
    found, rounded = loss_and_gradients(net)
    # 8 bits of mantissa through twenty layers: about one per cent of the loss, a few per cent of the gradients
    assert found == pytest.approx(expected, rel=0.02)
    assert found != expected
    assert all(g.dtype == torch.float32 for g in rounded)
    whole, difference = (
        torch.cat([t.flatten() for t in each]).norm()
        for each in (gradients, [a - b for a, b in zip(gradients, rounded, strict=True)])
    )
    assert float(difference / whole) < 0.15


def test_fp32_is_the_default_and_allows_no_rounding() -> None:
    acceleration.use("tf32")
    assert torch.backends.cudnn.allow_tf32
    acceleration.use()
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    with pytest.raises(CaffeError, match="unknown precision 'fp16'; known: fp32, tf32, bf16"):
        acceleration.use("fp16")


def one_graph(net: Net) -> Any:
    """The net's pass compiled without breaks; aot_eager traces forward and backward as the default backend does."""
    torch._dynamo.reset()
    return torch.compile(net._run_first, fullgraph=True, dynamic=False, backend="aot_eager")


def test_training_is_one_graph_with_the_same_numbers() -> None:
    net = Net(narrow_train(), 0)
    expected, gradients = loss_and_gradients(net)
    net._run_head = one_graph(net)
    found, compiled = loss_and_gradients(net)
    assert found == pytest.approx(expected, rel=1e-5)
    for a, b in zip(compiled, gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_detection_is_one_graph_with_the_same_numbers() -> None:
    net = Net(narrow_deploy(), 1)
    detection = net.steps[-1].layer
    detection.static_shape = True  # trimmed, its size depends on values
    batch = {"data": training_batch()["data"][:1]}
    predictions = ["mbox_loc", "mbox_conf_flatten"]
    expected = net(batch, predictions)[1]
    net._run_head = one_graph(net)
    found = net(batch, predictions)[1]
    for name in predictions:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
    # scores that differ in their last digits may swap places
    differ = (found["detection_out"] - expected["detection_out"]).abs().amax(-1) > 1e-4
    assert float(differ.float().mean()) < 0.05


@torch.no_grad()
def test_nets_compiled_from_one_method_keep_apart() -> None:
    """PyTorch's checks before each run do not identify the net."""
    data = {"data": torch.randn(1, 3, 8, 8)}
    nets = [Net(text_format.Parse(ONE_LAYER, caffe_pb2.NetParameter()), 1) for _ in range(3)]
    expected = [net(data)[1]["conv"] for net in nets]
    assert not torch.equal(expected[0], expected[1])
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for net in nets:
        net._compiles, net._run_head = True, acceleration.compiled(net._run_first, backend="eager")
    for _ in range(2):
        for net, conv in zip(nets, expected, strict=True):
            torch.testing.assert_close(net(data)[1]["conv"], conv)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3
    for net in nets:
        net.learnable_params[0].zero_()
        assert not net(data)[1]["conv"].any(), "weights became part of the compilation"
    larger = {"data": torch.randn(1, 3, 9, 8)}
    assert nets[0](larger)[1]["conv"].shape == (1, 2, 7, 6)


def test_compiled_training_follows_weights_and_shapes() -> None:
    nets = [Net(text_format.Parse(NET, caffe_pb2.NetParameter()), 0) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    torch._dynamo.reset()
    nets[1]._compiles = True
    nets[1]._run_head = acceleration.compiled(nets[1]._run_first, backend="aot_eager")
    for i, boxes in enumerate((3, 3, 5, 3)):
        losses = [net(boxes_of(i, boxes))[0] for net in nets]
        assert float(losses[1].detach()) == pytest.approx(float(losses[0].detach()), rel=1e-5)
        gradients = [torch.autograd.grad(loss, net.learnable_params) for loss, net in zip(losses, nets, strict=True)]
        for ours, expected in zip(*reversed(gradients), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
        with torch.no_grad():
            for net in nets:
                for parameter, gradient in zip(net.learnable_params, gradients[0], strict=True):
                    parameter.sub_(0.1 * gradient)


@torch.no_grad()
def test_detection_output_may_change_its_shape_after_compilation() -> None:
    param = narrow_deploy()
    param.layer[-1].detection_output_param.confidence_threshold = 0.9  # almost nothing reaches it
    net = Net(param, 1)
    torch._dynamo.reset()
    net._compiles, net._run_head = True, acceleration.compiled(net._run_first, backend="eager")
    batch = {"data": training_batch()["data"][:1]}
    rows = []
    for static in (True, False, True):
        net.steps[-1].layer.static_shape = static
        rows.append(net(batch)[1]["detection_out"].shape[2])
    assert rows[0] == rows[2] == 200 > rows[1]


@torch.no_grad()
def test_layers_compiled_one_by_one_keep_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that cannot be compiled splits a net; layers of one type then share code but have different settings."""

    def split(_: ReLU, x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return torch.relu(x)

    monkeypatch.setattr(ReLU, "forward", split)
    convolution = 'layer {{ name: "{0}" type: "Convolution" bottom: "{1}" top: "{0}" convolution_param {{ {2} }} }}'
    filters = 'num_output: 3 kernel_size: 3 weight_filler { type: "xavier" }'
    text = ONE_LAYER[: ONE_LAYER.rindex("layer")]
    for name, bottom, pad in (("a", "data", 1), ("b", "a", 1), ("c", "b", 2), ("d", "c", 0)):
        text += convolution.format(name, bottom, f"{filters} pad: {pad}")
        text += f'layer {{ name: "{name}_relu" type: "ReLU" bottom: "{name}" top: "{name}" }}'
    nets = [Net(text_format.Parse(text, caffe_pb2.NetParameter()), 1) for _ in range(2)]
    data = {"data": torch.randn(1, 3, 8, 8)}
    expected = [net(data)[1]["d"] for net in nets]
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for net in nets:
        net._compiles, net._run_head = True, acceleration.compiled(net._run_first, backend="eager")
    for _ in range(2):
        for net, d in zip(nets, expected, strict=True):
            torch.testing.assert_close(net(data)[1]["d"], d)
    assert torch._dynamo.utils.counters["graph_break"]
