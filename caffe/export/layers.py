"""Caffe's layers as ONNX nodes, one function per type.

All sizes except the batch's are fixed in the exported graph, so everything that follows from them is computed here and
written as constants: paddings that give Caffe's rounding, shapes, slices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from caffe.engine.layer import Layer, Shape
from caffe.errors import NetError
from caffe.export.graph import Graph
from caffe.proto import caffe_pb2

#: (graph, layer, names of the bottoms, their shapes, shapes of the tops) → names of the tops
Converter = Callable[[Graph, Any, list[str], list[Shape], list[Shape]], list[str]]
_converters: dict[str, Converter] = {}

_Pool = caffe_pb2.PoolingParameter
_Eltwise = caffe_pb2.EltwiseParameter


class ExportError(NetError):
    """A layer, or an option of it, that has no equivalent in ONNX: names the layer."""


def fail(layer: Layer, message: str) -> ExportError:
    """The error to raise for a layer."""
    return ExportError(f"layer '{layer.name}' ({layer.type_name}) cannot be exported: {message}")


def converts(*types: str) -> Callable[[Converter], Converter]:
    """Decorator: this function converts layers of these types."""

    def decorate(function: Converter) -> Converter:
        _converters.update(dict.fromkeys(types, function))
        return function

    return decorate


def converter(layer: Layer) -> Converter:
    """The function for a layer's type; raises ExportError, which lists the known types, if there is none."""
    if layer.type_name not in _converters:
        raise fail(layer, f"there is no conversion for this type. There is one for {', '.join(sorted(_converters))}")
    return _converters[layer.type_name]


def blob(layer: Layer, index: int) -> Any:
    """A layer's parameter as an array."""
    return layer.blobs[index].detach().cpu().numpy()


def _pads(begin: Sequence[int], end: Sequence[int]) -> list[int]:
    return [*map(int, begin), *map(int, end)]


@converts("Convolution", "Deconvolution")
def _convolution(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], _: list[Shape]) -> list[str]:
    if layer.channel_axis != 1:
        raise fail(layer, f"its channels are axis {layer.channel_axis}, but ONNX's are axis 1")
    geometry = layer.geometry
    if not geometry.kernel:
        raise fail(layer, "its blobs have no spatial axes")
    parameters = [g.constant(blob(layer, 0), "weights")]
    if len(layer.blobs) > 1:
        parameters.append(g.constant(blob(layer, 1), "bias"))
    operator = "Conv" if layer.type_name == "Convolution" else "ConvTranspose"
    return [
        g.add(
            operator,
            bottom,
            *parameters,
            kernel_shape=geometry.kernel,
            strides=geometry.stride,
            pads=_pads(geometry.pad, geometry.pad),
            dilations=geometry.dilation,
            group=layer.group,
        )
        for bottom in bottoms
    ]


@converts("Pooling")
def _pooling(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    p = layer.param.pooling_param
    if len(tops) > 1:
        raise fail(layer, "its second top (the mask) has no equivalent in ONNX")
    if p.pool not in (_Pool.MAX, _Pool.AVE):
        raise fail(layer, "STOCHASTIC pooling has no equivalent in ONNX")
    if p.global_pooling:
        return [g.add("GlobalMaxPool" if p.pool == _Pool.MAX else "GlobalAveragePool", bottoms[0])]
    w = layer.window
    # Pads at the end so that rounding down gives Caffe's number of windows. Beyond Caffe's own pad there is no pixel.
    after = [
        max(0, (out - 1) * stride + kernel - size - pad)
        for out, stride, kernel, size, pad in zip(tops[0][2:], w.stride, w.kernel, shapes[0][2:], w.pad, strict=True)
    ]
    bottom = bottoms[0]
    outside = any(end >= kernel for end, kernel in zip(after, w.kernel, strict=True))
    if p.pool == _Pool.MAX:
        if outside:
            # A window without pixels: Caffe returns the lowest number, ONNX's pooling does not allow it.
            lowest = g.constant(float(np.finfo(np.float32).min))
            bottom, after = g.add("Pad", bottom, g.constant([0] * 6 + after), lowest), [0, 0]
        return [g.add("MaxPool", bottom, kernel_shape=w.kernel, strides=w.stride, pads=_pads(w.pad, after))]
    if outside:
        raise fail(layer, f"some of its windows are outside the image of {shapes[0][2]} x {shapes[0][3]}")
    if any(w.pad):
        # Caffe averages over its own padding too, but not over what rounding up adds.
        bottom = g.add("Pad", bottom, g.constant([0, 0, *w.pad, 0, 0, *w.pad]))
        after = [max(0, end - pad) for end, pad in zip(after, w.pad, strict=True)]
    pads = _pads((0, 0), after)
    return [g.add("AveragePool", bottom, kernel_shape=w.kernel, strides=w.stride, pads=pads, count_include_pad=0)]


@converts("InnerProduct")
def _inner_product(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    p = layer.param.inner_product_param
    rows = reshape(g, bottoms[0], shapes[0], (-1, layer.inputs))
    bias = [g.constant(blob(layer, 1), "bias")] if len(layer.blobs) > 1 else []
    product = g.add("Gemm", rows, g.constant(blob(layer, 0), "weights"), *bias, transB=0 if p.transpose else 1)
    return [reshape(g, product, (), tops[0])]


def reshape(g: Graph, value: str, before: Sequence[int], after: Sequence[int]) -> str:
    """`value` in another shape, whose first axis is the batch: its size is inferred from the others."""
    if tuple(before) == tuple(after):
        return value
    shape = [-1, *after[1:]] if len(after) else [1]
    return g.add("Reshape", value, g.constant(shape, "shape"))


@converts("Flatten", "Reshape")
def _flatten(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    if not tops[0] or not shapes[0] or tops[0][0] != shapes[0][0]:
        raise fail(layer, f"it changes the batch axis, from {shapes[0]} to {tops[0]}")
    return [reshape(g, bottoms[0], shapes[0], tops[0])]


@converts("Permute")
def _permute(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    return [g.add("Transpose", bottoms[0], perm=layer.order)]


@converts("Softmax")
def _softmax(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    return [g.add("Softmax", bottoms[0], axis=layer.param.softmax_param.axis)]


@converts("Normalize")
def _normalize(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    axes = list(range(1, len(shapes[0]))) if layer.across_spatial else [1]
    squares = g.add("Mul", bottoms[0], bottoms[0])
    total = g.add("ReduceSum", squares, g.constant(axes, "axes"), keepdims=1)
    length = g.add("Sqrt", g.add("Add", total, g.constant(float(layer.eps), "eps")))
    unit = g.add("Div", bottoms[0], length)
    return [g.add("Mul", unit, _along_channels(g, layer, 0, shapes[0]))]


def _along_channels(g: Graph, layer: Layer, index: int, shape: Shape, axis: int = 1) -> str:
    """A parameter with axes of 1 added, so that it broadcasts over a blob of `shape` from `axis` on."""
    values = blob(layer, index)
    if values.ndim:
        values = values.reshape(values.shape + (1,) * (len(shape) - axis - values.ndim))
    return g.constant(values, "parameter")


@converts("BatchNorm")
def _batch_norm(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    if not layer.use_global_stats:
        raise fail(layer, "it normalizes by the batch (use_global_stats: false)")
    weight = float(blob(layer, 2).item())
    factor = 1 / weight if weight else 0.0
    deviation = np.sqrt(blob(layer, 1) * factor + layer.param.batch_norm_param.eps)
    side = (-1,) + (1,) * (len(shapes[0]) - 2)
    centred = g.add("Sub", bottoms[0], g.constant((blob(layer, 0) * factor).reshape(side), "mean"))
    return [g.add("Div", centred, g.constant(deviation.reshape(side), "deviation"))]


@converts("Scale")
def _scale(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    p = layer.param.scale_param
    axis = p.axis % len(shapes[0])
    if len(bottoms) > 1:
        if axis + len(shapes[1]) != len(shapes[0]):
            raise fail(layer, "its second bottom does not reach the last axis")
        factor = bottoms[1]
    else:
        factor = _along_channels(g, layer, 0, shapes[0], axis)
    top = g.add("Mul", bottoms[0], factor)
    if p.bias_term:
        top = g.add("Add", top, _along_channels(g, layer, len(layer.blobs) - 1, shapes[0], axis))
    return [top]


@converts("Bias")
def _bias(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    if len(bottoms) > 1:
        raise fail(layer, "its term is a second bottom")
    return [g.add("Add", bottoms[0], _along_channels(g, layer, 0, shapes[0], layer.param.bias_param.axis))]


@converts("LRN")
def _lrn(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    p = layer.param.lrn_param
    if p.norm_region != caffe_pb2.LRNParameter.ACROSS_CHANNELS:
        raise fail(layer, "norm_region WITHIN_CHANNEL has no equivalent in ONNX")
    return [g.add("LRN", bottoms[0], size=p.local_size, alpha=p.alpha, beta=p.beta, bias=p.k)]


@converts("ReLU")
def _relu(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    slope = layer.param.relu_param.negative_slope
    return [g.add("LeakyRelu", bottoms[0], alpha=slope) if slope else g.add("Relu", bottoms[0])]


@converts("PReLU")
def _prelu(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    return [g.add("PRelu", bottoms[0], _along_channels(g, layer, 0, shapes[0]))]


@converts("ELU")
def _elu(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    return [g.add("Elu", bottoms[0], alpha=layer.param.elu_param.alpha)]


@converts("Sigmoid", "TanH", "AbsVal", "BNLL")
def _unary(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    operators = {"Sigmoid": "Sigmoid", "TanH": "Tanh", "AbsVal": "Abs", "BNLL": "Softplus"}
    return [g.add(operators[layer.type_name], bottoms[0])]


@converts("Power")
def _power(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    p = layer.param.power_param
    value = g.add("Mul", bottoms[0], g.constant(float(p.scale)))
    value = g.add("Add", value, g.constant(float(p.shift)))
    return [g.add("Pow", value, g.constant(float(p.power)))]


@converts("Exp")
def _exp(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    value = g.add("Exp", g.add("Mul", bottoms[0], g.constant(float(layer.inner))))
    return [g.add("Mul", value, g.constant(float(layer.outer)))]


@converts("Log")
def _log(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    p = layer.param.log_param
    value = g.add("Add", g.add("Mul", bottoms[0], g.constant(float(p.scale))), g.constant(float(p.shift)))
    return [g.add("Mul", g.add("Log", value), g.constant(float(layer.factor)))]


@converts("Dropout", "Split", "Silence")
def _identity(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    return bottoms[:1] * len(tops)


@converts("Concat")
def _concat(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    axis = layer.axis_of(len(shapes[0]))
    return [g.add("Concat", *bottoms, axis=axis)]


@converts("Slice")
def _slice(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    axis = layer.axis_of(len(shapes[0]))
    sizes = g.constant([top[axis] for top in tops], "sizes")
    return g.add_many("Split", bottoms[0], sizes, outputs=len(tops), axis=axis)


@converts("Crop")
def _crop(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    axis = layer.param.crop_param.axis % len(shapes[0])
    offsets = list(layer.param.crop_param.offset) or [0]
    offsets *= (len(shapes[0]) - axis) if len(offsets) == 1 else 1
    ends = [offset + size for offset, size in zip(offsets, tops[0][axis:], strict=True)]
    axes = list(range(axis, len(shapes[0])))
    return [g.add("Slice", bottoms[0], g.constant(offsets), g.constant(ends), g.constant(axes))]


@converts("Eltwise")
def _eltwise(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    if layer.operation == _Eltwise.MAX:
        return [g.add("Max", *bottoms)]
    operator = "Mul" if layer.operation == _Eltwise.PROD else "Add"
    terms = list(bottoms)
    for i, coefficient in enumerate(layer.coeffs):
        if coefficient != 1:
            terms[i] = g.add("Mul", terms[i], g.constant(float(coefficient)))
    top = terms[0]
    for term in terms[1:]:
        top = g.add(operator, top, term)
    return [top]
