"""Resizing a window of a canvas with an image on a plain background, without making the canvas.

SSD's expansion puts the image on a canvas of up to 16 times its area, of which a crop is then resized to the net's
input. Here only what the result depends on is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from caffe.data.augment.resample import resample
from caffe.data.images import Image, deep, fill

#: a window of more than this many times the image it shows is resampled without being laid out
_MUCH = 3


@dataclass(frozen=True)
class Window:
    """`width` × `height` pixels at (`x`, `y`) of the image; it may reach beyond the image on any side."""

    x: int
    y: int
    width: int
    height: int

    def visible(self, image: Image) -> Image:
        """The part of the image that the window shows; a view, possibly empty."""
        top, left = max(0, self.y), max(0, self.x)
        return image[top : max(top, self.y + self.height), left : max(left, self.x + self.width)]

    def borders(self, image_height: int, image_width: int) -> tuple[int, int, int, int]:
        """Rows above and below, columns left and right of the image, that the window shows."""
        return (
            max(0, -self.y),
            max(0, self.y + self.height - image_height),
            max(0, -self.x),
            max(0, self.x + self.width - image_width),
        )


def lay_out(part: Image, borders: tuple[int, int, int, int], ground: tuple[int, ...]) -> Image:
    """`part` with rows above and below and columns left and right in the background's color."""
    if part.size == 0:
        return fill(borders[0] + borders[1], borders[2] + borders[3], ground)
    if not any(borders):
        return part
    return deep(cv2.copyMakeBorder(part, *borders, cv2.BORDER_CONSTANT, value=ground))


def resize_window(
    part: Image, borders: tuple[int, int, int, int], ground: tuple[int, ...], size: tuple[int, int], interpolation: int
) -> Image:
    """The window, `part` with its borders of background, resized to `size` (height, width).

    A small border is laid out around the image, because OpenCV is fastest on whole images; a large one never is.
    """
    top, bottom, left, right = borders
    height, width = part.shape[0] + top + bottom, part.shape[1] + left + right
    if part.size == 0:
        return fill(*size, ground)
    shrinks = height >= size[0] and width >= size[1]
    much = height * width > _MUCH * part.shape[0] * part.shape[1]
    if much and shrinks and part.dtype == np.uint8:
        return resample(part, (top, left), (height, width), ground, size, interpolation)
    laid = lay_out(part, borders, ground)
    if laid.shape[:2] == size:
        return laid
    return deep(cv2.resize(laid, size[::-1], interpolation=interpolation))
