"""Views of images with objects, as MS-CNN and Cascade R-CNN take them: scaled around an object, cut or padded to a size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe.data.images import Image, deep

Boxes = NDArray[np.float64]

#: an image that is enlarged more than this is cut first
_LARGE = 1.5
#: a view is placed up to this many pixels beside where it would be
_NOISE = 10


def nearest(value: float) -> int:
    """The nearest integer, halves up."""
    return math.floor(value + 0.5)


@dataclass
class ObjectView:
    """A part of a canvas of `height` × `width` that an image fills, and boxes (corners, N × 4) on the canvas."""

    image: Image
    boxes: Boxes
    regions: Boxes
    #: where the image's pixels begin on the canvas
    left: int = 0
    top: int = 0

    def mirror(self) -> None:
        """Turns the image over, before it is placed."""
        self.image = deep(cv2.flip(self.image, 1))
        for boxes in (self.boxes, self.regions):
            boxes[:, [0, 2]] = self.image.shape[1] - boxes[:, [2, 0]]

    def resize(self, height: int, width: int) -> None:
        """Warps the image to a size."""
        old_height, old_width = self.image.shape[:2]
        if (height, width) != (old_height, old_width):
            self._warp(height, width, width / old_width, height / old_height)

    def _warp(self, height: int, width: int, across: float, down: float) -> None:
        self.image = deep(cv2.resize(self.image, (width, height), interpolation=cv2.INTER_LINEAR))
        for boxes in (self.boxes, self.regions):
            boxes *= [across, down, across, down]

    def _shift(self, right: float, down: float) -> None:
        for boxes in (self.boxes, self.regions):
            boxes += [right, down, right, down]

    def choose(self, canvas: tuple[int, int], rng: np.random.Generator) -> tuple[int | None, tuple[float, float]]:
        """An object at random, and its center; without objects None, and a center that leaves a canvas in the image."""
        if len(self.boxes):
            chosen = int(rng.integers(len(self.boxes)))
            x1, y1, x2, y2 = self.boxes[chosen].tolist()
            return chosen, ((x1 + x2) / 2, (y1 + y2) / 2)
        height, width = self.image.shape[:2]
        x, y = (
            size / 2 if size < wanted else int(rng.integers(size - wanted + 1)) + wanted / 2
            for size, wanted in ((width, canvas[1]), (height, canvas[0]))
        )
        return None, (x, y)

    def place(
        self, canvas: tuple[int, int], center: tuple[float, float], scale: tuple[float, float], rng: np.random.Generator
    ) -> None:
        """Scales the image (across, down), and puts it on a canvas (height, width).

        Of a larger image, the part around `center` is left; a smaller one comes to the canvas's middle: both moved by up
        to 10 pixels at random.
        """
        x, y = center
        if scale != (1, 1):
            if max(scale) > _LARGE:
                x, y = self._cut(x, y, scale)
            high, wide = (max(1, nearest(self.image.shape[axis] * scale[1 - axis])) for axis in (0, 1))
            self._warp(high, wide, *scale)
        noise_x, noise_y = (int(rng.integers(2 * _NOISE)) - _NOISE for _ in range(2))
        self.left, from_x, across = _interval(self.image.shape[1], canvas[1], x * scale[0], noise_x)
        self.top, from_y, down = _interval(self.image.shape[0], canvas[0], y * scale[1], noise_y)
        self.image = self.image[from_y : from_y + down, from_x : from_x + across]
        self._shift(self.left - from_x, self.top - from_y)

    def _cut(self, x: float, y: float, scale: tuple[float, float]) -> tuple[float, float]:
        """Leaves 1.2 times what the scaled image would show of itself, around a point; where that point is then."""
        height, width = self.image.shape[:2]
        across, down = (
            max(1, min(nearest(1.2 * size / by), size)) for size, by in ((width, scale[0]), (height, scale[1]))
        )
        left = min(max(nearest(x - across / 2), 0), width - across)
        top = min(max(nearest(y - down / 2), 0), height - down)
        self.image = self.image[top : top + down, left : left + across]
        self._shift(-left, -top)
        return x - left, y - top


def _interval(size: int, room: int, center: float, noise: int) -> tuple[int, int, int]:
    """Along one axis: where an image of `size` begins in the room, its first pixel that is shown, how many are."""
    if size <= room:
        return min(max(nearest((room - size) / 2) + noise, 0), room - size), 0, size
    first = nearest(center) + noise - nearest(room / 2)
    return 0, min(max(first, 0), size - room), room
