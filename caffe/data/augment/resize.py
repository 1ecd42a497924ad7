"""ResizeParameter: WARP, FIT_SMALL_SIZE and FIT_LARGE_SIZE_AND_PAD of a window of an image."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from caffe.data.augment.canvas import resize_window
from caffe.data.images import Image, deep
from caffe.errors import NetError
from caffe.proto import caffe_pb2

_Resize = caffe_pb2.ResizeParameter
_INTERPOLATIONS = {
    _Resize.LINEAR: cv2.INTER_LINEAR,
    _Resize.AREA: cv2.INTER_AREA,
    _Resize.NEAREST: cv2.INTER_NEAREST,
    _Resize.CUBIC: cv2.INTER_CUBIC,
    _Resize.LANCZOS4: cv2.INTER_LANCZOS4,
}
_BORDERS = {
    _Resize.CONSTANT: cv2.BORDER_CONSTANT,
    _Resize.MIRRORED: cv2.BORDER_REFLECT_101,
    _Resize.REPEAT_NEAREST: cv2.BORDER_REPLICATE,
}


def check_resize(param: Any, where: str) -> None:
    """Raises NetError, beginning with `where`, for an invalid size."""
    if param.height < 1 or param.width < 1:
        raise NetError(
            f"{where}: resize_param needs a height and a width over 0; found {param.height} and {param.width}"
        )


def draw_interpolation(param: Any, rng: np.random.Generator) -> int:
    """One of the parameter's interpolations, with equal probability; linear if it names none."""
    modes = param.interp_mode
    if not modes:
        return cv2.INTER_LINEAR
    return _INTERPOLATIONS[modes[rng.integers(len(modes)) if len(modes) > 1 else 0]]


def resized_size(param: Any, height: int, width: int) -> tuple[int, int]:
    """(height, width) that an image of `height` × `width` gets."""
    if param.resize_mode != _Resize.FIT_SMALL_SIZE:
        return param.height, param.width
    aspect, wanted = _aspect(height, width), _aspect(param.height, param.width)
    return _at_width(param, aspect) if aspect < wanted else _at_height(param, aspect)


def _aspect(height: int, width: int) -> np.float32:
    return np.float32(width) / np.float32(height)


def _at_width(param: Any, aspect: np.float32) -> tuple[int, int]:
    return max(1, math.floor(np.float32(param.width) / aspect)), param.width


def _at_height(param: Any, aspect: np.float32) -> tuple[int, int]:
    return param.height, max(1, math.floor(aspect * np.float32(param.height)))


def resize(
    part: Image, borders: tuple[int, int, int, int], ground: tuple[int, ...], param: Any, interpolation: int
) -> Image:
    """Resizes a window, `part` with `borders` of color `ground` (see `resize_window`), as the parameter says."""
    height, width = part.shape[0] + borders[0] + borders[1], part.shape[1] + borders[2] + borders[3]
    if param.resize_mode != _Resize.FIT_LARGE_SIZE_AND_PAD:
        return resize_window(part, borders, ground, resized_size(param, height, width), interpolation)
    aspect, wanted = _aspect(height, width), _aspect(param.height, param.width)
    inner = _at_width(param, aspect) if aspect > wanted else _at_height(param, aspect)
    image = resize_window(part, borders, ground, inner, interpolation)
    spare_rows, spare_columns = param.height - inner[0], param.width - inner[1]
    top, left = spare_rows // 2, spare_columns // 2
    padded = cv2.copyMakeBorder(
        image, top, spare_rows - top, left, spare_columns - left, _BORDERS[param.pad_mode],
        value=pad_value(param, image.shape[2]),
    )  # fmt: skip
    return deep(padded)


def pad_value(param: Any, channels: int) -> tuple[float, ...]:
    """The color of constant padding, black by default."""
    values = tuple(param.pad_value) or (0.0,)
    return values * channels if len(values) == 1 else values[:channels]
