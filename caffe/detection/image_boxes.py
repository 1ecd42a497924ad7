"""From boxes of the net's input to boxes of the original image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe.errors import NetError
from caffe.proto import caffe_pb2

Floats = NDArray[np.float32]

_Mode = caffe_pb2.ResizeParameter.Resize_mode
_FIT_SMALL_SIZE, _FIT_LARGE_SIZE_AND_PAD = _Mode.Value("FIT_SMALL_SIZE"), _Mode.Value("FIT_LARGE_SIZE_AND_PAD")


def in_image(boxes: Floats, height: int, width: int, resize: Any | None = None) -> tuple[Floats, Floats]:
    """Boxes K×4 (corners in units of the net's input) in pixels of an image of `height` × `width`; and their areas, K.

    Clipped to the image. `resize` is the ResizeParameter that made the input from the image; None stands for
    warping. Areas are computed as in Caffe: both border pixels belong to a box, except where FIT_SMALL_SIZE gives the
    scale. Raises NetError for a `resize` without height and width. (Caffe's OutputBBox, in its single precision.)
    """
    boxes = np.asarray(boxes, np.float32)
    if resize is not None:
        if resize.height == 0 or resize.width == 0:
            raise NetError("resize_param needs the height and width of the net's input")
        if resize.resize_mode == _FIT_SMALL_SIZE and resize.height_scale and resize.width_scale:
            scaled = boxes * _scale(resize.height_scale, resize.width_scale)
            clipped = np.clip(scaled, 0, _scale(height, width))
            return clipped, _areas(clipped, 0)
        if resize.resize_mode == _FIT_LARGE_SIZE_AND_PAD:
            boxes = _without_padding(boxes, height, width, resize)
    pixels = np.clip(boxes, 0, 1) * _scale(height, width)
    return pixels, _areas(pixels, 1 if width > 1 or height > 1 else 0)


def _scale(height: float, width: float) -> Floats:
    return np.array([width, height, width, height], np.float32)


def _areas(boxes: Floats, border: int) -> Floats:
    sides = boxes[:, 2:] - boxes[:, :2]
    areas: Floats = (sides[:, 0] + np.float32(border)) * (sides[:, 1] + np.float32(border))
    areas[(sides < 0).any(axis=1)] = 0
    return areas


def _without_padding(boxes: Floats, height: int, width: int, resize: Any) -> Floats:
    """Boxes in units of the part of the input that the image fills; those entirely in the padding are unchanged."""
    input_height, input_width = np.float32(resize.height), np.float32(resize.width)
    aspect = np.float32(width) / np.float32(height)
    left = top = np.float32(0)
    if aspect > input_width / input_height:
        top = (input_height - input_width / aspect) / 2 / input_height
    else:
        left = (input_width - input_height * aspect) / 2 / input_width
    low, high = np.array([left, top], np.float32), np.array([1 - left, 1 - top], np.float32)
    inside = np.all((boxes[:, :2] < high) & (boxes[:, 2:] > low), axis=1, keepdims=True)
    projected = (boxes - np.tile(low, 2)) / np.tile(high - low, 2)
    result: Floats = np.where(inside, projected, boxes).astype(np.float32)
    return result
