"""Layers that normalize, and the scale and bias that go with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe.engine.layer import Shape
from caffe.export.faces import unit_norm
from caffe.export.graph import Graph
from caffe.export.registry import along_channels, blob, converts, reshape
from caffe.proto import caffe_pb2


@converts("Softmax")
def _softmax(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    return [g.add("Softmax", bottoms[0], axis=layer.param.softmax_param.axis)]


@converts("Normalize")
def _normalize(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    if layer.unit:
        return unit_norm(g, layer, bottoms, shapes, tops)
    axes = list(range(1, len(shapes[0]))) if layer.across_spatial else [1]
    squares = g.add("Mul", bottoms[0], bottoms[0])
    # without the axes of 1 meanwhile: with the channels last, ONNX Runtime adds to a last axis of 1 slowly
    summed = g.constant(axes, "axes")
    total = g.add("ReduceSum", squares, summed, keepdims=0)
    length = g.add("Unsqueeze", g.add("Sqrt", g.add("Add", total, g.constant(float(layer.eps), "eps"))), summed)
    unit = g.add("Div", bottoms[0], length)
    return [g.add("Mul", unit, along_channels(g, layer, 0, shapes[0]))]


@converts("BatchNorm")
def _batch_norm(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    eps = float(layer.param.batch_norm_param.eps)
    if not layer.use_global_stats:
        axes = [axis for axis in range(len(shapes[0])) if axis != 1 or len(shapes[0]) == 1]
        centered = g.add("Sub", bottoms[0], _mean(g, bottoms[0], axes))
        variance = _mean(g, g.add("Mul", centered, centered), axes)
        return [g.add("Div", centered, g.add("Sqrt", g.add("Add", variance, g.constant(eps))))]
    weight = float(blob(layer, 2).item())
    factor = 1 / weight if weight else 0.0
    deviation = np.sqrt(blob(layer, 1) * factor + eps)
    side = (-1,) + (1,) * (len(shapes[0]) - 2)
    centered = g.add("Sub", bottoms[0], g.constant((blob(layer, 0) * factor).reshape(side), "mean"))
    return [g.add("Div", centered, g.constant(deviation.reshape(side), "deviation"))]


def _mean(g: Graph, value: str, axes: Sequence[int]) -> str:
    """The mean over axes, which stay with size 1."""
    return g.add("ReduceMean", value, axes=list(axes), keepdims=1)


@converts("MVN")
def _mvn(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    p = layer.param.mvn_param
    x = reshape(g, bottoms[0], shapes[0], tops[0])
    axes = [1, 2, 3] if p.across_channels else [2, 3]
    centered = g.add("Sub", x, _mean(g, x, axes))
    if not p.normalize_variance:
        return [centered]
    deviation = g.add("Sqrt", _mean(g, g.add("Mul", centered, centered), axes))
    return [g.add("Div", centered, g.add("Add", deviation, g.constant(float(p.eps))))]


@converts("Scale")
def _scale(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    layer.constrain()
    p = layer.param.scale_param
    axis = p.axis % len(shapes[0])
    top = g.add("Mul", bottoms[0], _operand(g, layer, bottoms, shapes, axis))
    if p.bias_term:
        top = g.add("Add", top, along_channels(g, layer, len(layer.blobs) - 1, shapes[0], axis))
    return [top]


@converts("Bias")
def _bias(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    axis = layer.param.bias_param.axis % max(len(shapes[0]), 1)
    return [g.add("Add", bottoms[0], _operand(g, layer, bottoms, shapes, axis))]


def _operand(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], axis: int) -> str:
    """The second bottom, or else the first blob, with axes of 1 added: it broadcasts over the first from `axis` on."""
    if len(bottoms) == 1:
        return along_channels(g, layer, 0, shapes[0], axis)
    over, shape = shapes
    missing = (1,) * (len(over) - axis - len(shape)) if shape else ()
    return reshape(g, bottoms[1], shape, (*shape, *missing))


@converts("LRN")
def _lrn(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    p = layer.param.lrn_param
    if p.norm_region == caffe_pb2.LRNParameter.ACROSS_CHANNELS:
        return [g.add("LRN", bottoms[0], size=p.local_size, alpha=p.alpha, beta=p.beta, bias=p.k)]
    # pixels around; k counts as 1, and padding counts as pixels of 0
    size, half = p.local_size, p.local_size // 2
    padded = g.add("Pad", g.add("Mul", bottoms[0], bottoms[0]), g.constant([0, 0, half, half, 0, 0, half, half]))
    mean = g.add("AveragePool", padded, kernel_shape=[size, size], strides=[1, 1])
    scale = g.add("Add", g.add("Mul", mean, g.constant(float(p.alpha))), g.constant(1.0))
    return [g.add("Mul", bottoms[0], g.add("Pow", scale, g.constant(-float(p.beta))))]
