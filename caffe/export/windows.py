"""Sliding windows: Convolution, Deconvolution, Im2col, Pooling and SPP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe.engine.layer import Shape
from caffe.engine.layer_types.pooling import AVE, MAX, PoolingWindow
from caffe.export.graph import Graph
from caffe.export.registry import blob, converts, fail, needs_fixed_batch, reshape

_LOWEST = float(np.finfo(np.float32).min)
#: for the filters that pick single pixels, 64 MB
_MOST_FILTER_VALUES = 1 << 24
_TINY = float(np.finfo(np.float32).tiny)


def _pads(begin: Sequence[int], end: Sequence[int]) -> list[int]:
    return [*map(int, begin), *map(int, end)]


def _with_axis_1(g: Graph, layer: Any, value: str, shape: Shape) -> tuple[str, Shape]:
    """A bottom whose channels are axis 1, as in ONNX: the axes before become one."""
    axis = layer.channel_axis
    if axis == 1:
        return value, shape
    if not g.fixed:
        raise needs_fixed_batch(layer, f"has its channels at axis {axis}")
    lead = int(np.prod(shape[:axis]))
    return reshape(g, value, shape, (lead, *shape[axis:])), (lead, *shape[axis:])


@converts("Convolution", "Deconvolution", "DepthwiseConvolution", "ConvolutionDepthwise")
def _convolution(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    geometry = layer.geometry
    weights = blob(layer, 0)
    spatial = len(geometry.kernel)
    if spatial == 0:  # every position is a window of one
        weights = weights[..., np.newaxis]
    parameters = [g.constant(weights, "weights")]
    if len(layer.blobs) > 1:
        parameters.append(g.constant(blob(layer, 1), "bias"))
    window = dict(
        kernel_shape=geometry.kernel or [1], strides=geometry.stride or [1],
        pads=_pads(geometry.pad, geometry.pad) or [0, 0], dilations=geometry.dilation or [1], group=layer.group,
    )  # fmt: skip
    operator = "ConvTranspose" if layer.type_name == "Deconvolution" else "Conv"
    made = []
    for bottom, shape, top in zip(bottoms, shapes, tops, strict=True):
        value, planes = _with_axis_1(g, layer, bottom, shape)
        if spatial == 0:
            value = g.add("Unsqueeze", value, g.constant([2]))
        value = g.add(operator, value, *parameters, **window)
        if spatial == 0:
            value = g.add("Squeeze", value, g.constant([2]))
        made.append(value if planes == shape else reshape(g, value, (), top))
    return made


@converts("Im2col")
def _im2col(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    """A convolution of each channel with one filter per tap, which is 1 there and 0 elsewhere."""
    geometry = layer.geometry
    value, planes = _with_axis_1(g, layer, bottoms[0], shapes[0])
    taps = int(np.prod(geometry.kernel))
    if len(geometry.kernel) > 3 or taps * taps * planes[1] > _MOST_FILTER_VALUES:
        raise fail(
            layer,
            f"its windows of {'×'.join(map(str, geometry.kernel))} pixels would be a convolution with "
            f"{taps * planes[1]:,} filters; up to three axes and {_MOST_FILTER_VALUES:,} numbers are converted",
        )
    filters = np.tile(
        np.eye(taps, dtype=np.float32).reshape(taps, 1, *geometry.kernel), (planes[1], 1) + (1,) * len(geometry.kernel)
    )
    columns = g.add(
        "Conv", value, g.constant(filters, "taps"), kernel_shape=geometry.kernel, strides=geometry.stride,
        pads=_pads(geometry.pad, geometry.pad), dilations=geometry.dilation, group=planes[1],
    )  # fmt: skip
    return [columns if planes == shapes[0] else reshape(g, columns, (), tops[0])]


@converts("Pooling")
def _pooling(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    p = layer.param.pooling_param
    if p.global_pooling and len(tops) == 1 and p.pool in (MAX, AVE):
        return [g.add("GlobalMaxPool" if p.pool == MAX else "GlobalAveragePool", bottoms[0])]
    window = PoolingWindow((shapes[0][2], shapes[0][3])) if p.global_pooling else layer.window
    if len(tops) > 1:
        return _max_with_places(g, bottoms[0], shapes[0], window)
    return [_pool(g, bottoms[0], shapes[0], tops[0], window, p.pool)]


@converts("SPP")
def _spp(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    levels = []
    for window in layer._windows(shapes[0]):
        top = (*shapes[0][:2], *window.pooled(*shapes[0][2:]))
        level = _pool(g, bottoms[0], shapes[0], top, window, layer.param.spp_param.pool)
        levels.append(level if layer.height == 1 else g.add("Flatten", level, axis=1))
    return [levels[0] if len(levels) == 1 else g.add("Concat", *levels, axis=1)]


def _pool(g: Graph, bottom: str, shape: Shape, top: Shape, window: PoolingWindow, method: int) -> str:
    """One of the three methods, with Caffe's number of windows."""
    w = window
    # Pads at the end so that rounding down gives Caffe's number of windows. Beyond Caffe's own pad there is no pixel.
    after = [
        max(0, (out - 1) * stride + kernel - size - pad)
        for out, stride, kernel, size, pad in zip(top[2:], w.stride, w.kernel, shape[2:], w.pad, strict=True)
    ]
    outside = any(end >= kernel for end, kernel in zip(after, w.kernel, strict=True))
    if method == MAX:
        pads = _pads(w.pad, after)
        if outside:
            # A window without pixels: Caffe returns the lowest number, ONNX's pooling does not allow it.
            bottom = g.add("Pad", bottom, g.constant([0, 0, *w.pad, 0, 0, *after]), g.constant(_LOWEST))
            pads = [0, 0, 0, 0]
        return g.add("MaxPool", bottom, kernel_shape=w.kernel, strides=w.stride, pads=pads)
    if method != AVE:
        return _expected(g, _padded(g, bottom, shape, w, 0.0), w)
    if outside:
        return _average_with_windows_outside(g, bottom, shape, w)
    if any(w.pad):
        # Caffe averages over its own padding too, but not over what rounding up adds.
        bottom = g.add("Pad", bottom, g.constant([0, 0, *w.pad, 0, 0, *w.pad]))
        after = [max(0, end - pad) for end, pad in zip(after, w.pad, strict=True)]
    pads = _pads((0, 0), after)
    return g.add("AveragePool", bottom, kernel_shape=w.kernel, strides=w.stride, pads=pads, count_include_pad=0)


def _padded(g: Graph, bottom: str, shape: Shape, window: PoolingWindow, value: float) -> str:
    """The image with the margins that complete all windows; negative ones cut pixels off."""
    left, right, above, below = window.margins(*shape[2:])
    if not any((left, right, above, below)):
        return bottom
    return g.add("Pad", bottom, g.constant([0, 0, above, left, 0, 0, below, right]), g.constant(value))


def _average(g: Graph, padded: str, window: PoolingWindow) -> str:
    return g.add("AveragePool", padded, kernel_shape=window.kernel, strides=window.stride)


def _average_with_windows_outside(g: Graph, bottom: str, shape: Shape, window: PoolingWindow) -> str:
    """The sum of each window divided by its size within the padded image; 0 for windows outside."""
    spans = []
    for size, n, stride, kernel, pad in zip(
        shape[2:], window.pooled(*shape[2:]), window.stride, window.kernel, window.pad, strict=True
    ):
        start = np.arange(n) * stride - pad
        spans.append(np.maximum(np.minimum(start + kernel, size + pad) - start, 1))
    share = np.prod(window.kernel) / np.outer(*spans)
    return g.add("Mul", _average(g, _padded(g, bottom, shape, window, 0.0), window), g.constant(share, "share"))


def _expected(g: Graph, padded: str, window: PoolingWindow) -> str:
    """STOCHASTIC pooling in the test phase: each pixel weighted by its share of the window's sum."""
    squares = _average(g, g.add("Mul", padded, padded), window)
    tiny = g.constant(_TINY / float(np.prod(window.kernel)))
    return g.add("Div", squares, g.add("Add", _average(g, padded, window), tiny))


def _max_with_places(g: Graph, bottom: str, shape: Shape, window: PoolingWindow) -> list[str]:
    """The maxima and where they are (row · width + column); −1 for windows without pixels."""
    height, width = shape[2:]
    left, right, above, below = window.margins(height, width)
    padded = _padded(g, bottom, shape, window, _LOWEST)
    top, place = g.add_many("MaxPool", padded, outputs=2, kernel_shape=window.kernel, strides=window.stride)
    # ONNX counts over all images and channels of the padded image
    across = width + left + right
    plane = g.constant((height + above + below) * across)
    place = g.add("Mod", place, plane)
    row = g.add("Sub", g.add("Div", place, g.constant(across)), g.constant(above))
    column = g.add("Sub", g.add("Mod", place, g.constant(across)), g.constant(left))
    inside = None
    for value, size in ((row, height), (column, width)):
        for test in (g.add("GreaterOrEqual", value, g.constant(0)), g.add("Less", value, g.constant(size))):
            inside = test if inside is None else g.add("And", inside, test)
    assert inside is not None
    flat = g.add("Add", g.add("Mul", row, g.constant(width)), column)
    return [top, g.add("Cast", g.add("Where", inside, flat, g.constant(-1)), to=1)]
