"""Layers of other forks on maps: neurons, channels, batch normalization, sizes, masks, pooling over regions."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from caffe.engine.layer import Shape
from caffe.engine.layer_types.forks.masks import resize_weights
from caffe.export.graph import OPSET, Graph
from caffe.export.registry import blob, converts, fail, reshape
from caffe.proto import caffe_pb2


@converts("ReLU6")
def _relu6(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    slope = layer.param.relu6_param.negative_slope
    lower = g.add("LeakyRelu", bottoms[0], alpha=slope) if slope else g.add("Relu", bottoms[0])
    return [g.add("Min", lower, g.constant(6.0))]


@converts("Clip")
def _clip(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    low, high = layer.bounds
    if low > high:  # the layer makes everything the lower bound then
        low, high = high, low
        return [g.add("Max", g.add("Min", bottoms[0], g.constant(low)), g.constant(high))]
    return [g.add("Min", g.add("Max", bottoms[0], g.constant(low)), g.constant(high))]


@converts("Swish")
def _swish(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    beta = layer.param.swish_param.beta
    scaled = bottoms[0] if beta == 1 else g.add("Mul", bottoms[0], g.constant(beta))
    return [g.add("Mul", bottoms[0], g.add("Sigmoid", scaled))]


@converts("SeLu")
def _selu(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    return [g.add("Selu", bottoms[0], alpha=layer.alpha, gamma=layer.factor)]


@converts("SeLuDropout")
def _selu_dropout(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    return [g.add("Identity", bottoms[0])]


@converts("Switch")
def _switch(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    return [reshape(g, bottoms[-1], shapes[-1], tops[0])]


@converts("Axpy")
def _axpy(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    a, x, y = bottoms
    factor = g.add("Reshape", a, g.constant([0, shapes[0][1], *[1] * (len(shapes[1]) - 2)]))
    return [g.add("Add", g.add("Mul", factor, x), y)]


def _rearranged(g: Graph, value: str, split: list[int], order: list[int], top: Shape) -> str:
    """`value` with the axes after the batch as `split`, transposed, in the shape of `top`; the batch may have any size."""
    apart = g.add("Transpose", g.add("Reshape", value, g.constant([-1, *split])), perm=[0, *order])
    return g.add("Reshape", apart, g.constant([-1, *top[1:]]))


@converts("ShuffleChannel")
def _shuffle(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    channels, *spatial = shapes[0][1:]
    split = [layer.group, channels // layer.group, *spatial]
    return [_rearranged(g, bottoms[0], split, [2, 1, *range(3, 3 + len(spatial))], tops[0])]


@converts("Reorg")
def _reorg(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    c, h, w = shapes[0][1:]
    s = layer.stride
    if layer.reverse:
        return [_rearranged(g, bottoms[0], [s, s, c // (s * s), h, w], [3, 4, 1, 5, 2], tops[0])]
    return [_rearranged(g, bottoms[0], [c // (s * s), h, s, w, s], [3, 5, 1, 2, 4], tops[0])]


@converts("Interp")
def _interp(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    param, value = layer.param.interp_param, bottoms[0]
    if param.pad_beg or param.pad_end:
        ends = [size + param.pad_end for size in shapes[0][2:]]
        value = g.add("Slice", value, g.constant([-param.pad_beg] * 2), g.constant(ends), g.constant([2, 3]))
    sizes = g.add("Concat", g.add("Shape", value, start=0, end=2), g.constant(tops[0][2:]), axis=0)
    mode = dict(mode="linear", coordinate_transformation_mode="align_corners")
    return [g.add("Resize", value, "", "", sizes, **mode)]


@converts("Upsample")
def _upsample(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    if len(bottoms) > 1:
        raise fail(layer, "with a mask as second bottom: ONNX leaves open which of several values for one place stays")
    scales = g.constant([*[1.0] * (len(shapes[0]) - 2), *map(float, layer.scale)])
    mode = dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    return [g.add("Resize", bottoms[0], "", scales, **mode)]


@converts("BN")
def _bn(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    if len(tops) > 1:
        raise fail(layer, "the batch's statistics as tops have no conversion")
    axes = [axis for axis in range(len(shapes[0])) if axis != 1]
    slope, bias, *statistics = (
        blob(layer, i).reshape(-1, *[1] * (len(shapes[0]) - 2)) for i in range(2 if layer.segnet else 4)
    )
    value = bottoms[0]
    if not layer.segnet:
        mean, variance = statistics
        value = g.add("Sub", value, g.constant(mean, "mean"))
        slope = slope / np.sqrt(variance + layer.param.bn_param.eps)
    elif layer.param.bn_param.bn_mode == caffe_pb2.BNParameter.LEARN:
        value = g.add("Sub", value, g.add("ReduceMean", value, axes=axes, keepdims=1))
        variance = g.add("ReduceMean", g.add("Mul", value, value), axes=axes, keepdims=1)
        value = g.add("Div", value, g.add("Sqrt", g.add("Add", variance, g.constant(1e-9))))
    return [g.add("Add", g.add("Mul", value, g.constant(slope, "slope")), g.constant(bias, "bias"))]


@converts("ROIPooling")
def _roi_pooling(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    regions = g.add("Reshape", bottoms[1], g.constant([-1, 5]))
    if layer.pad_ratio:
        image, low, high = (
            g.add("Slice", regions, g.constant([start]), g.constant([end]), g.constant([1]))
            for start, end in ((0, 1), (1, 3), (3, 5))
        )
        size = g.add("Add", g.add("Sub", high, low), g.constant(np.array([1], np.float32)))
        pad = g.add("Mul", size, g.constant(np.array([layer.pad_ratio], np.float32)))
        regions = g.add("Concat", image, g.add("Sub", low, pad), g.add("Add", high, pad), axis=1)
    return [g.add("MaxRoiPool", bottoms[0], regions, pooled_shape=layer.pooled, spatial_scale=layer.scale)]


@converts("PSROIPooling")
def _psroi_pooling(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    raise fail(layer, "ONNX has no pooling in which each cell has channels of its own")


@converts("DeformableConvolution", "ModulatedDeformableConvolution")
def _deformable(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    raise fail(layer, f"ONNX has deformable convolutions from opset 19 on, and models are written for opset {OPSET}")


@converts("MaskPooling")
def _mask_pooling(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    return [g.add("Mul", bottoms[0], bottoms[1])]


@converts("MaskResize")
def _mask_resize(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    rows = g.constant(resize_weights(shapes[0][2], tops[0][2]).numpy(), "rows")
    columns = g.constant(resize_weights(shapes[0][3], tops[0][3]).t().numpy(), "columns")
    return [g.add("MatMul", g.add("MatMul", rows, bottoms[0]), columns)]


@converts("Maximum")
def _maximum(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    channels, height, width = shapes[0][1:]
    values = g.add("Reshape", bottoms[0], g.constant([-1, channels, 1, height * width]))
    where = g.add("ArgMax", values, axis=3, keepdims=1)
    row = g.add("Div", where, g.constant(width))
    place = [g.add("Cast", axis, to=TensorProto.FLOAT) for axis in (g.add("Mod", where, g.constant(width)), row)]
    return [g.add("Concat", *place, g.add("ReduceMax", values, axes=[3], keepdims=1), axis=3)]
