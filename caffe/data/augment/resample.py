"""Resizing an image on a larger plain background, as OpenCV would resize the whole, without laying out the whole.

All of OpenCV's interpolations are separable and their weights sum to one. So a resized pixel is a weighted sum over
the taps that fall on the image, and the background has the rest of the weight. Pixels without such taps are background.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe.data.images import Image, deep, fill

#: coefficient of OpenCV's bicubic kernel
_A = -0.75


def resample(
    part: Image, offset: tuple[int, int], window: tuple[int, int], ground: tuple[int, ...], size: tuple[int, int],
    interpolation: int,
) -> Image:  # fmt: skip
    """A window of `window` (height, width) pixels of background, with `part` at `offset` (row, column) in it, resized
    to `size`. It must shrink both ways. Within one gray level of OpenCV, which uses 11-bit fixed-point weights.
    """
    channels = len(ground)
    rows, taken_rows, row_weights = _on_image(*_taps(window[0], size[0], interpolation), offset[0], part.shape[0])
    columns, taken, weights = _on_image(*_taps(window[1], size[1], interpolation), offset[1], part.shape[1])
    if rows.start == rows.stop or columns.start == columns.stop:
        return fill(*size, ground)
    # Rows first, as whole rows of width · channels values, where numpy is fast; then columns of the result.
    mixed = _weigh(part.reshape(part.shape[0], -1).astype(np.float32), taken_rows, row_weights)
    taken = (taken[:, None] * channels + np.arange(channels)[:, None]).reshape(-1, taken.shape[1])
    block = _weigh(np.ascontiguousarray(mixed.T), taken, np.repeat(weights, channels, axis=0)).T
    rest = 1 - row_weights.sum(axis=1)[:, None] * np.repeat(weights.sum(axis=1), channels)[None]
    block += rest * np.tile(np.array(ground, np.float32), columns.stop - columns.start)
    rounded = np.clip(np.rint(block), 0, 255).astype(np.uint8).reshape(len(mixed), -1, channels)
    borders = (rows.start, size[0] - rows.stop, columns.start, size[1] - columns.stop)
    return deep(cv2.copyMakeBorder(rounded, *borders, cv2.BORDER_CONSTANT, value=ground))


def _weigh(lines: NDArray[Any], taken: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """Weighted sums [outputs, length] of lines [count, length]; `taken` and `weights` are [outputs, taps]."""
    total: NDArray[Any] = lines[taken[:, 0]] * weights[:, :1]
    for tap in range(1, taken.shape[1]):
        term = lines[taken[:, tap]]
        term *= weights[:, tap, None]
        total += term
    return total


def _on_image(
    indices: NDArray[Any], weights: NDArray[Any], offset: int, count: int
) -> tuple[slice, NDArray[Any], NDArray[Any]]:
    """The outputs with a tap on the image, the pixels of their taps, and their weights (0 for the background)."""
    indices = indices - offset
    inside = (indices >= 0) & (indices < count) & (weights != 0)
    touched = np.flatnonzero(inside.any(axis=1))
    outputs = slice(touched[0], touched[-1] + 1) if touched.size else slice(0, 0)
    indices, weights = np.clip(indices, 0, count - 1)[outputs], np.where(inside, weights, 0)[outputs]
    used = weights.any(axis=0)
    return outputs, indices[:, used], weights[:, used].astype(np.float32)


def _taps(before: int, after: int, interpolation: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """For resizing `before` pixels to `after`, fewer ones: each output's source pixels and their weights, [after,
    taps].

    Taps beyond an edge repeat the pixel at the edge.
    """
    scale = 1 / (after / before)  # as OpenCV rounds it
    if interpolation == cv2.INTER_NEAREST:
        return np.minimum(np.arange(after) * scale, before - 1).astype(int)[:, None], np.ones((after, 1))
    if interpolation == cv2.INTER_AREA:
        start = np.arange(after)[:, None] * scale
        pixels = np.floor(start).astype(int) + np.arange(int(scale) + 2)
        covered = np.minimum(pixels + 1, start + scale) - np.maximum(pixels, start)
        weights = np.where(pixels < before, np.clip(covered, 0, 1), 0)
        return np.minimum(pixels, before - 1), weights / weights.sum(axis=1, keepdims=True)
    center = (np.arange(after)[:, None] + 0.5) * scale - 0.5
    first, fraction = np.floor(center).astype(int), center - np.floor(center)
    if interpolation == cv2.INTER_LINEAR:
        reach, weights = np.arange(2), np.concatenate([1 - fraction, fraction], axis=1)
    elif interpolation == cv2.INTER_CUBIC:
        reach, near, far = np.arange(-1, 3), np.concatenate([fraction, 1 - fraction], 1), 1 + fraction
        outer = ((_A * far - 5 * _A) * far + 8 * _A) * far - 4 * _A
        inner = ((_A + 2) * near - (_A + 3)) * near * near + 1
        weights = np.concatenate([outer, inner, 1 - outer - inner.sum(axis=1, keepdims=True)], axis=1)
    else:  # Lanczos over four pixels to each side
        reach = np.arange(-3, 5)
        weights = np.sinc(fraction - reach) * np.sinc((fraction - reach) / 4)
        weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(first + reach, 0, before - 1), weights
