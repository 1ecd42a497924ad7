"""Layers of caffe-windows, whose nets recognize faces."""

from __future__ import annotations

from typing import Any

from caffe.engine.layer import Shape
from caffe.export.graph import Graph
from caffe.export.registry import blob, converts, reshape


def unit_norm(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    """Normalize in this fork's form; both tops."""
    value = bottoms[0]
    if len(shapes[0]) < 4:
        value = g.add("Reshape", value, g.constant([-1, *tops[0][1:]]))
    channels = g.constant([1], "axes")
    if layer.unit.kind == "L2":
        total = g.add("ReduceSum", g.add("Mul", value, value), channels, keepdims=1)
        norm = g.add("Sqrt", g.add("Add", total, g.constant(1e-12)))
    else:
        norm = g.add("Add", g.add("ReduceSum", g.add("Abs", value), channels, keepdims=1), g.constant(1e-6))
    return [g.add("Div", value, norm), norm][: len(tops)]


@converts("Flip")
def _flip(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    param = layer.param.flip_param
    wanted = ((2, param.flip_height), (3, param.flip_width))
    axes = [axis for axis, flips in wanted if flips and axis < len(shapes[0])]
    if not axes:
        return [g.add("Identity", bottoms[0])]
    back = [g.constant([number] * len(axes)) for number in (-1, -(1 << 62), -1)]
    return [g.add("Slice", bottoms[0], back[0], back[1], g.constant(axes), back[2])]


@converts("ChannelScale")
def _channel_scale(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    if layer.own.global_scale:
        kept = g.constant(blob(layer, 0), "scale")
        scaled = g.add("Mul", bottoms[0], kept) if layer.own.do_forward else g.add("Identity", bottoms[0])
        return [scaled, g.add("Identity", kept)][: len(tops)]
    if not layer.own.do_forward:
        return [g.add("Identity", bottoms[0])]
    factor = g.add("Reshape", bottoms[1], g.constant([-1, 1, *shapes[0][2:]]))
    return [g.add("Mul", bottoms[0], factor)]


@converts("LabelSpecificAdd")
def _label_specific_add(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    """Nothing is added in testing."""
    bias = [g.constant([layer.bias()], "bias")] if len(tops) > 1 else []
    return [g.add("Identity", value) for value in (bottoms[0], *bias)]


@converts("InnerDistance")
def _inner_distance(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    layer.constrain()
    rows = g.add("Reshape", bottoms[0], g.constant([-1, 1, layer.inputs]))
    if len(bottoms) > 1:
        vectors = g.add("Reshape", bottoms[1], g.constant([-1, layer.inputs]))
    else:
        vectors = g.constant(blob(layer, 0), "vectors")
    apart = g.add("Sub", rows, vectors)
    size = g.add("Abs", apart) if layer.param.inner_distance_param.distance_type == "L1" else g.add("Mul", apart, apart)
    distances = g.add("ReduceSum", size, g.constant([2], "axes"), keepdims=0)
    return [distances if len(tops[0]) == 2 else reshape(g, distances, (), tops[0])]
