"""How the coordinates of one blob map to another's, through convolutions, pooling and the like (pycaffe's `coord_map`).

A map is (axis, scale, shift): the first spatial axis (None if it makes no difference), and for each spatial axis the
factor and offset that take a coordinate of a layer's bottom to its top. `crop` uses it to cut one blob to another's
size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe.errors import NetError
from caffe.net_spec import Function, Top
from caffe.net_spec import layers as L

#: layers that change values but not positions
PASS_THROUGH_LAYERS = [
    "AbsVal", "BatchNorm", "Bias", "BNLL", "Dropout", "Eltwise", "ELU", "Log", "LRN", "Exp", "MVN", "Power", "ReLU",
    "PReLU", "Scale", "Sigmoid", "Split", "TanH", "Threshold",
]  # fmt: skip

Map = tuple[int | None, Any, Any]
IDENTITY: Map = (None, 1, 0)


class UndefinedMapException(NetError):
    """The layer mixes positions: its output has no coordinates in its input."""


class AxisMismatchException(NetError):
    """Two layers on the path have different spatial axes."""


class UnconnectedError(NetError, RuntimeError):
    """No path through layers with coordinates leads from one blob to the other. A RuntimeError, as in pycaffe."""


class CropError(NetError, AssertionError):
    """One blob cannot be cropped to the other. An AssertionError, as in pycaffe."""


def conv_params(fn: Function) -> tuple[int, Any, Any, Any]:
    """(axis, stride, extent of the dilated kernel, pad) of a convolution, deconvolution, pooling or Im2col layer."""
    params = fn.params.get("convolution_param", fn.params)
    by_side = [f"{what}_{side}" for what in ("kernel", "stride", "pad") for side in "hw"]
    if any(name in params for name in by_side):
        raise CropError(f"{fn.type_name}: give kernel_size, stride and pad as lists instead of the _h and _w fields")
    kernel = np.array(params["kernel_size"], ndmin=1)
    dilation = np.array(params.get("dilation", 1), ndmin=1)
    return (
        params.get("axis", 1),
        np.array(params.get("stride", 1), ndmin=1),
        (kernel - 1) * dilation + 1,
        np.array(params.get("pad", 0), ndmin=1),
    )


def crop_params(fn: Function) -> tuple[int, Any]:
    """(axis, offset) of a Crop layer."""
    params = fn.params.get("crop_param", fn.params)
    return params.get("axis", 2), np.array(params.get("offset", 0), ndmin=1)


def coord_map(fn: Function) -> Map:
    """The map from a layer's bottoms to its tops."""
    if fn.type_name in ("Convolution", "Pooling", "Im2col"):
        axis, stride, extent, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (extent - 1) / 2) / stride
    if fn.type_name == "Deconvolution":
        axis, stride, extent, pad = conv_params(fn)
        return axis, stride, (extent - 1) / 2 - pad
    if fn.type_name in PASS_THROUGH_LAYERS:
        return IDENTITY
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        # Counted from the last axis that is not spatial, as in convolutions.
        return axis - 1, 1, -offset
    raise UndefinedMapException(f"a {fn.type_name} layer does not map coordinates")


def compose(base_map: Map, next_map: Map) -> Map:
    """The map that applies `next_map` first, then `base_map`."""
    axis1, scale1, shift1 = base_map
    axis2, scale2, shift2 = next_map
    if axis1 is not None and axis2 is not None and axis1 != axis2:
        raise AxisMismatchException(f"spatial axes start at {axis1} in one layer and at {axis2} in another")
    return (axis2 if axis1 is None else axis1), scale1 * scale2, scale1 * shift2 + shift1


def inverse(coord_map: Map) -> Map:
    """The inverse map."""
    axis, scale, shift = coord_map
    return axis, 1 / scale, -shift / scale


def _mapped_bottoms(top: Top) -> Sequence[Top]:
    # A Crop's second bottom only gives the size.
    return top.fn.inputs[:1] if top.fn.type_name == "Crop" else top.fn.inputs


def _maps_from_ancestors(top: Top) -> dict[Top, Map]:
    """For every blob that leads to `top`, the map from it to `top`."""
    maps = {top: IDENTITY}
    frontier = [top]
    while frontier:
        current = frontier.pop()
        for bottom in _mapped_bottoms(current):
            if bottom in maps:
                continue
            try:
                maps[bottom] = compose(maps[current], coord_map(current.fn))
            except UndefinedMapException:
                break
            frontier.append(bottom)
    return maps


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
    """The map from the coordinates of `top_from` to those of `top_to`, through a blob that both derive from."""
    to_from, to_to = _maps_from_ancestors(top_from), _maps_from_ancestors(top_to)
    for blob, to_map in to_to.items():
        if blob in to_from:
            return compose(to_map, inverse(to_from[blob]))
    raise UnconnectedError(
        f"no path through layers with coordinates connects the tops of {top_from.fn.type_name} and {top_to.fn.type_name}"
    )


def crop(top_from: Top, top_to: Top) -> Top:
    """A Crop layer that cuts the part of `top_from` that `top_to` covers."""
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    scale, shift = np.atleast_1d(scale), np.atleast_1d(shift)
    if not (scale == 1).all():
        raise CropError(f"cannot crop: the blobs differ in resolution, by factors of {scale.tolist()}")
    if not (shift <= 0).all():
        raise CropError(f"cannot crop: the first blob does not cover the second (offsets {(-shift).tolist()})")
    if not (np.round(shift) == shift).all():
        raise CropError(f"cannot crop: offsets {(-shift).tolist()} are not whole numbers")
    first = 1 if axis is None else axis
    result: Top = L.Crop(top_from, top_to, crop_param=dict(axis=first + 1, offset=[int(-s) for s in shift]))
    return result
