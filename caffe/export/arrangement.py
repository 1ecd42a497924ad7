"""Layers that rearrange, join, select and reduce blobs, and matrix products over their last axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffe.engine.layer import Shape
from caffe.export.graph import Graph
from caffe.export.registry import blob, converts, fail, needs_fixed_batch, reshape
from caffe.proto import caffe_pb2

_Eltwise = caffe_pb2.EltwiseParameter
_Reduction = caffe_pb2.ReductionParameter
#: 64-bit integers, as ONNX's indices are
_INT64 = 7


@converts("InnerProduct")
def _inner_product(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    p = layer.param.inner_product_param
    layer.constrain()
    rows = g.add("Reshape", bottoms[0], g.constant([-1, layer.inputs], "shape"))
    if len(bottoms) > 1:
        weights = g.add("Reshape", bottoms[1], g.constant([-1, layer.inputs], "shape"))
        bias = [g.add("Reshape", bottoms[2], g.constant([-1], "shape"))] if len(bottoms) > 2 else []
    else:
        weights, bias = g.constant(blob(layer, 0), "weights"), []
    if p.bias_term and len(bottoms) < 3:
        bias = [g.constant(blob(layer, len(layer.blobs) - 1), "bias")]
    product = g.add("Gemm", rows, weights, *bias, transB=0 if p.transpose else 1)
    return [product if len(tops[0]) == 2 else reshape(g, product, (), tops[0])]


@converts("Embed")
def _embed(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    index = g.add("Cast", bottoms[0], to=_INT64)
    top = g.add("Gather", g.constant(blob(layer, 0), "weights"), index, axis=0)
    return [g.add("Add", top, g.constant(blob(layer, 1), "bias")) if len(layer.blobs) > 1 else top]


@converts("Flatten", "Reshape")
def _flatten(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    if not g.fixed and (not tops[0] or not shapes[0] or tops[0][0] != shapes[0][0]):
        raise needs_fixed_batch(layer, f"changes the batch axis, from {shapes[0]} to {tops[0]}")
    return [reshape(g, bottoms[0], shapes[0], tops[0])]


@converts("Permute")
def _permute(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    return [g.add("Transpose", bottoms[0], perm=layer.order)]


@converts("Tile")
def _tile(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    p = layer.param.tile_param
    repeats = [1] * len(shapes[0])
    repeats[p.axis] = p.tiles
    return [g.add("Tile", bottoms[0], g.constant(repeats, "repeats"))]


@converts("Dropout")
def _dropout(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    if layer.param.dropout_param.sample_weights_test:
        raise fail(layer, "sample_weights_test: true drops values at random")
    if not layer.param.dropout_param.scale_train:
        return [g.add("Mul", bottoms[0], g.constant(1 - layer.ratio, dtype=np.float32))]
    return _identity(g, layer, bottoms, shapes, tops)


@converts("Split", "Silence")
def _identity(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    return bottoms[:1] * len(tops)


@converts("Concat")
def _concat(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    axis = layer.axis_of(len(shapes[0]))
    return [g.add("Concat", *bottoms, axis=axis)]


@converts("Slice")
def _slice(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    if len(tops) == 1:
        return bottoms
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


@converts("Reduction")
def _reduction(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    p = layer.param.reduction_param
    axis = p.axis % len(shapes[0])
    value = bottoms[0]
    if p.operation == _Reduction.ASUM:
        value = g.add("Abs", value)
    elif p.operation == _Reduction.SUMSQ:
        value = g.add("Mul", value, value)
    axes = list(range(axis, len(shapes[0])))
    if p.operation == _Reduction.MEAN:
        top = g.add("ReduceMean", value, axes=axes, keepdims=0)
    else:
        top = g.add("ReduceSum", value, g.constant(axes, "axes"), keepdims=0)
    return [top if p.coeff == 1 else g.add("Mul", top, g.constant(float(p.coeff)))]


@converts("ArgMax")
def _arg_max(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    p = layer.param.argmax_param
    value, axis = bottoms[0], layer.axis
    if axis is None:
        value, axis = g.add("Reshape", value, g.constant([shapes[0][0] if g.fixed else 0, -1], "shape")), 1
        size = 1
        for extent in shapes[0][1:]:
            size *= extent
    else:
        axis %= len(shapes[0])
        size = shapes[0][axis]
    if p.top_k == 1:
        place = g.add("ArgMax", value, axis=axis, keepdims=1, select_last_index=1)
        largest = g.add("ReduceMax", value, axes=[axis], keepdims=1)
    else:
        # among equals the later comes first, and ONNX's TopK takes the lower index: from the end
        ends = [g.constant([end], "end") for end in (-1, -size - 1, axis, -1)]
        largest, place = g.add_many("TopK", g.add("Slice", value, *ends), g.constant([p.top_k]), outputs=2, axis=axis)
        place = g.add("Sub", g.constant(size - 1), place)
    index = g.add("Cast", place, to=1)
    if layer.axis is not None:
        return [largest if p.out_max_val else index]
    if not p.out_max_val:
        return [reshape(g, index, (), tops[0])]
    return [reshape(g, g.add("Concat", index, largest, axis=1), (), tops[0])]


@converts("BatchReindex")
def _batch_reindex(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    return [g.add("Gather", bottoms[0], g.add("Cast", bottoms[1], to=_INT64), axis=0)]


@converts("Filter")
def _filter(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    flat = g.add("Reshape", bottoms[-1], g.constant([-1], "shape"))
    chosen = g.add("Not", g.add("Equal", flat, g.constant(0.0)))
    return [g.add("Compress", bottom, chosen, axis=0) for bottom in bottoms[:-1]]


@converts("DummyData")
def _dummy_data(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    if any(filler.type != "constant" for filler in layer.param.dummy_data_param.data_filler):
        raise fail(layer, "its values are random; use constant fillers, or an Input layer")
    return [g.know(top.numpy(), "data") for top in layer()]


@converts("Parameter")
def _parameter(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    return [g.know(blob(layer, 0), "parameter")]
