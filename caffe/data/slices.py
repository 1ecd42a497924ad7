"""Detection on overlapping slices of a large image, after "Slicing Aided Hyper Inference" (Akyon et al. 2022).

A net's input is small. An object of 20 pixels in an image of 3000 is gone when the image is resized to 300; in a slice
of 300 × 300 it keeps its size. Slices overlap, so that an object that one cuts is whole in the next, and what several
slices find of one object is merged by non-maximum suppression.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caffe.errors import CaffeError

#: left, top, right, bottom in pixels; right and bottom are outside
Window = tuple[int, int, int, int]
#: an image that would be cut into more slices than this is refused: a slice of few pixels is a mistake
MAX_SLICES = 20_000


@dataclass(frozen=True)
class Slices:
    """How to cut images: `height` × `width` pixels (both 0: the size of the net's input), each slice sharing `overlap`
    of its height and width with the next.

    `whole`: the whole image is searched as well, for objects larger than a slice. Of two detections of one class, the
    weaker is dropped if they overlap by `merge_threshold` or more: their intersection over the smaller of them ("ios"),
    or over their union ("iou").
    """

    height: int = 0
    width: int = 0
    overlap: float = 0.2
    whole: bool = True
    merge: Literal["ios", "iou"] = "ios"
    merge_threshold: float = 0.5

    def __post_init__(self) -> None:
        if not (self.height > 0 and self.width > 0) and (self.height, self.width) != (0, 0):
            raise CaffeError(f"slices of {self.height} x {self.width} pixels: both sides must be over 0")
        if not 0 <= self.overlap < 1:
            raise CaffeError(f"slices: the overlap is {self.overlap:g}; it must be at least 0 and less than 1")
        if self.merge not in ("ios", "iou"):
            raise CaffeError(f"slices: merge is '{self.merge}'; known: ios, iou")
        if not 0 < self.merge_threshold <= 1:
            raise CaffeError(f"slices: merge_threshold is {self.merge_threshold:g}; it must be over 0 and at most 1")

    @classmethod
    def parse(cls, text: str, overlap: float = 0.2, **settings: Any) -> Slices:
        """Slices from `AUTO` (the size of the net's input) or `HxW` in pixels, such as 512x640."""
        if text.upper() == "AUTO":
            return cls(0, 0, overlap, **settings)
        found = re.fullmatch(r"(\d{1,6})[xX×](\d{1,6})", text.strip())
        if found is None:
            raise CaffeError(f"slices '{text}': give AUTO or height x width in pixels, such as 512x512")
        return cls(int(found[1]), int(found[2]), overlap, **settings)

    def windows(self, height: int, width: int, input_size: tuple[int, int] = (0, 0)) -> list[Window]:
        """The slices of an image of `height` × `width`, row by row, and last the whole image if it is searched too.

        `input_size`, height and width of the net's input, is the size of slices that have none of their own. The last
        slice of a row or column ends with the image and overlaps more. An image that fits into one slice is not cut.
        """
        tall, wide = (self.height, self.width) if self.height else input_size
        rows, columns = list(self._starts(height, tall)), list(self._starts(width, wide))
        if len(rows) * len(columns) > MAX_SLICES:
            raise CaffeError(
                f"an image of {width} x {height} pixels would be cut into {len(rows) * len(columns):,} slices of "
                f"{wide} x {tall}; at most {MAX_SLICES:,} are allowed: give larger slices or less overlap"
            )
        windows = [(x, y, min(x + wide, width), min(y + tall, height)) for y in rows for x in columns]
        if self.whole and len(windows) > 1:
            windows.append((0, 0, width, height))
        return windows

    def _starts(self, size: int, side: int) -> Iterator[int]:
        step = max(1, side - int(self.overlap * side))
        start = 0
        while start + side < size:
            yield start
            start += step
        yield max(0, size - side)

    def merged(self, labels: NDArray[np.int64], scores: NDArray[np.float64], corners: NDArray[np.float64]) -> Any:
        """The indices of the detections that remain, best score first. labels, scores: [n]; corners: pixels, [n, 4]."""
        order = np.argsort(-scores, kind="stable")
        kept = [_suppressed(order[labels[order] == label], corners, self) for label in np.unique(labels)]
        remaining = np.concatenate(kept) if kept else np.zeros(0, np.int64)
        return remaining[np.lexsort((remaining, -scores[remaining]))]


def as_slices(slices: Slices | str | None) -> Slices | None:
    """Slices as they are, or from their text (see Slices.parse)."""
    return Slices.parse(slices) if isinstance(slices, str) else slices


def _suppressed(order: NDArray[Any], corners: NDArray[np.float64], slices: Slices) -> NDArray[Any]:
    """Greedy non-maximum suppression of one class, in `order`."""
    boxes = corners[order]
    area = np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)
    left = np.arange(len(order))
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(order[best])
        low, high = np.maximum(boxes[best, :2], boxes[left, :2]), np.minimum(boxes[best, 2:], boxes[left, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        smaller = np.minimum(area[best], area[left])
        whole = smaller if slices.merge == "ios" else area[best] + area[left] - shared
        left = left[shared < slices.merge_threshold * np.maximum(whole, np.finfo(np.float64).tiny)]
    return np.array(kept, np.int64)
