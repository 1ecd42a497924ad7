"""Blobs that depend on shapes only are computed once for all passes of a packed net."""

from __future__ import annotations

import torch
from google.protobuf import text_format
from torch import Tensor

from caffe.engine.constants import Remembered, remember
from caffe.engine.net import Net
from caffe.engine.prepack import prepack
from caffe.proto import caffe_pb2
from tests.narrow import narrow_deploy

BOXES = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 32 dim: 32 } } }
layer { name: "half" type: "Pooling" bottom: "data" top: "half" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "a" type: "PriorBox" bottom: "half" bottom: "data" top: "a" prior_box_param { min_size: 4 } }
layer { name: "b" type: "PriorBox" bottom: "half" bottom: "data" top: "b" prior_box_param { min_size: 8 } }
layer { name: "both" type: "Concat" bottom: "a" bottom: "b" top: "both" concat_param { axis: 2 } }
layer { name: "power" type: "Power" bottom: "both" top: "power" power_param { scale: 2 } }
"""
SUM = 'layer { name: "sum" type: "Reduction" bottom: "power" top: "sum" }'

FLAT = """layer { name: "flat" type: "Reshape" bottom: "half" top: "flat"
  reshape_param { shape { dim: 1 dim: 2 dim: -1 } } }"""
JOINED = 'layer { name: "c" type: "Concat" bottom: "power" bottom: "flat" top: "c" concat_param { axis: 2 } }'


def make(more: str = SUM) -> Net:
    net = Net(text_format.Parse(BOXES + more, caffe_pb2.NetParameter()), phase=1)
    net.inference_steps = remember(net.steps)
    return net


def remembered(net: Net) -> list[str]:
    return [step.layer.name for step in net.inference_steps if isinstance(step.layer, Remembered)]


@torch.no_grad()
def result(net: Net, side: int, *keep: str) -> dict[str, Tensor]:
    blobs: dict[str, Tensor] = net({"data": torch.zeros(1, 2, side, side)}, keep)[1]
    return blobs


def test_what_is_remembered() -> None:
    """Priors and what is computed from them; not the net's outputs, which are the caller's, nor what reads data."""
    assert remembered(make()) == ["a", "b", "both", "power"]
    assert remembered(make("")) == ["a", "b", "both"]
    assert remembered(make(FLAT + JOINED + 'layer { name: "sum" type: "Reduction" bottom: "c" top: "sum" }')) == [
        "a", "b", "both", "power",
    ]  # fmt: skip


def test_the_same_values_for_every_size_in_any_order() -> None:
    """Sizes with the same maps but other images have boxes of their own."""
    net, plain = make(), make()
    plain.inference_steps = plain.steps
    for side in (32, 33, 34, 32, 33):
        assert torch.equal(result(net, side)["sum"], result(plain, side)["sum"])


def test_nothing_is_computed_twice() -> None:
    net = make()
    calls: list[str] = []
    for step in net.inference_steps:
        if isinstance(step.layer, Remembered):
            step.layer.layer.register_forward_hook(lambda layer, *_: calls.append(layer.name))
    for side in (32, 36, 32, 36):
        result(net, side)
    assert calls == ["a", "b", "both", "power"] * 2


def test_what_a_caller_keeps_is_its_own() -> None:
    net = make()
    expected = result(net, 32)["sum"].clone()
    kept = result(net, 32, "both", "a")
    kept["both"].fill_(7)
    kept["a"].fill_(7)
    assert torch.equal(result(net, 32)["sum"], expected)


def test_a_packed_detector() -> None:
    """Its boxes and their Concat are remembered, and its detections are the same in every pass."""
    net = Net(narrow_deploy(), 1)
    data = {"data": torch.randn(1, 3, 300, 300, generator=torch.Generator().manual_seed(0)) * 50}
    net.inference_steps = prepack(net)
    names = remembered(net)
    assert len(names) == 8
    assert names[-1] == "mbox_priorbox"
    with torch.no_grad():
        first, second = (net(data)[1]["detection_out"].clone() for _ in range(2))
    assert torch.equal(first, second)
