"""Flattened blobs that are joined at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from google.protobuf import text_format
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from caffe.engine import prepack
from caffe.engine.cuda_graph import GraphedForward
from caffe.engine.flat_concat import FlatConcat, join_flattened
from caffe.engine.net import Net
from caffe.proto import caffe_pb2
from prototxt_gen.ssd300 import SSD300
from tests.layer_harness import make_layer
from tests.narrow import narrow_deploy
from tests.recording import CpuRecorder

INPUTS = """
layer { name: "data" type: "Input" top: "a" top: "b" input_param {
  shape { dim: 2 dim: 3 dim: 4 dim: 5 } shape { dim: 2 dim: 3 dim: 2 dim: 6 } } }"""
FLATTEN = 'layer { name: "%s" type: "Flatten" bottom: "%s" top: "%s" %s }'
CONCAT = 'layer { name: "all" type: "Concat" %s top: "all" %s }'
RELU = 'layer { name: "relu" type: "ReLU" bottom: "%s" top: "%s" }'
FLAT = [FLATTEN % (f"{name}_flat", name, f"{name}_flat", "") for name in "ab"]
PLANES = [FLATTEN % (f"{name}_flat", name, f"{name}_flat", "flatten_param { axis: 2 }") for name in "ab"]


def net_of(*layers: str) -> Net:
    return Net(text_format.Parse("\n".join([INPUTS, *layers]), caffe_pb2.NetParameter()), 1)


def concat(*bottoms: str, text: str = "") -> str:
    return CONCAT % (" ".join(f'bottom: "{bottom}"' for bottom in bottoms), text)


def batch(net: Net) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(net.blobs[name].shape, generator=generator) for name in net.inputs}


@pytest.mark.parametrize(
    ("layers", "joined"),
    [
        ([*FLAT, concat("a_flat", "b_flat")], True),
        ([*FLAT, concat("b_flat", "a_flat", text="concat_param { axis: -1 }")], True),
        ([*FLAT, concat("a_flat", "b_flat", text="concat_param { concat_dim: 1 }")], True),
        ([*FLAT, RELU % ("b_flat", "b_flat"), concat("a_flat", "b_flat")], False),
        ([FLAT[0], concat("a_flat")], False),
        ([*PLANES, concat("a_flat", "b_flat", text="concat_param { axis: 2 }")], False),
        ([*FLAT, RELU % ("a_flat", "c"), concat("b_flat", "c")], False),
        ([FLAT[0], FLATTEN % ("again", "a", "again", ""), concat("a_flat", "again", text="concat_param { axis: 0 }")], False),
        # a flattened blob that something else reads, too, is made
        ([*FLAT, concat("a_flat", "b_flat"), RELU % ("b_flat", "c")], False),
    ],
)  # fmt: skip
@torch.no_grad()
def test_what_is_joined(layers: list[str], joined: bool) -> None:
    net = net_of(*layers)
    steps = join_flattened(net.steps)
    assert any(isinstance(step.layer, FlatConcat) for step in steps) == joined
    assert len(net.steps) - len(steps) == 2 * joined
    expected = net(batch(net))[1]
    net.inference_steps = steps
    found = net(batch(net))[1]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def heads(form: Callable[[Tensor], Tensor], images: int, widths: tuple[int, ...]) -> list[Tensor]:
    """Permuted predictions, each the first `widths` channels of a blob that has more."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(7, 5), (4, 4), (1, 3), (1, 1)]
    blobs = [
        form(torch.randn(images, width + 3, *size, generator=generator))
        for width, size in zip(widths, sizes, strict=False)
    ]
    return [blob[:, :width].permute(0, 2, 3, 1) for blob, width in zip(blobs, widths, strict=True)]


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


class _Copies(TorchDispatchMode):
    """Counts the operations that write memory."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch declares no types
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func._schema.name in ("aten::cat", "aten::clone", "aten::copy_", "aten::_to_copy")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("form", [torch.Tensor.contiguous, channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("images", [0, 1, 3])
@pytest.mark.parametrize(("widths", "runs"), [((4, 4, 6, 6), 2), ((4, 4), 1), ((4, 6, 4, 4), 3)])
@torch.no_grad()
def test_each_value_is_copied_once(
    form: Callable[[Tensor], Tensor], images: int, widths: tuple[int, ...], runs: int
) -> None:
    bottoms = heads(form, images, widths)
    with _Copies() as copies:
        top = layer_of(len(bottoms))(*bottoms)
    assert torch.equal(top, torch.cat([x.flatten(1) for x in bottoms], dim=1))
    assert copies.count == runs or images == 0
    assert top.is_contiguous()


def layer_of(bottoms: int) -> FlatConcat:
    return FlatConcat(make_layer("Concat", "", [(1, 1)] * bottoms))


@torch.no_grad()
def test_other_axes_and_types() -> None:
    plane, row = torch.randn(2, 3, 8)[:, :, :5], torch.randn(2, 9)[:, ::2]
    for bottoms in ((row, plane), (row, row), (plane, row.double()), (row.bfloat16(), plane)):
        expected = torch.cat([x.flatten(1) for x in bottoms], dim=1)
        found = layer_of(2)(*bottoms)
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)


@torch.no_grad()
def test_compiled() -> None:
    bottoms = heads(channels_last, 2, (4, 6, 6))
    torch._dynamo.reset()
    compiled = torch.compile(layer_of(3), fullgraph=True, dynamic=False, backend="aot_eager")
    assert torch.equal(compiled(*bottoms), torch.cat([x.flatten(1) for x in bottoms], dim=1))


@torch.no_grad()
def test_blobs_that_are_not_made_can_be_kept() -> None:
    """The pass is then one of the net's own steps, also where others are recorded."""
    net = Net(narrow_deploy(SSD300), 1)
    net.inference_steps = prepack._for_gpu(net, merging=True)
    assert sum(isinstance(step.layer, FlatConcat) for step in net.inference_steps) == 2
    data = {"data": torch.randn(1, 3, 300, 300, generator=torch.Generator().manual_seed(0))}
    kept = frozenset({"fc7_mbox_loc_flat", "mbox_loc", "conv4_3"})
    assert not net.makes(kept)
    assert net.makes(kept - {"fc7_mbox_loc_flat"})
    graphed = GraphedForward(net, CpuRecorder())
    for run in (net, graphed):
        found = run(data, kept)[1]
        without = run(data, kept - {"fc7_mbox_loc_flat"})[1]
        assert kept <= found.keys()
        assert found.keys() - without.keys() == {"fc7_mbox_loc_flat"}
        flat, before = found["fc7_mbox_loc_flat"], 38 * 38 * 4 * 4  # numbers of conv4_3's boxes
        assert torch.equal(found["mbox_loc"][:, before : before + flat.shape[1]], flat)
        for name, value in without.items():
            torch.testing.assert_close(value, found[name], rtol=1e-4, atol=1e-5)
