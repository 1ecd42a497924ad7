"""Box arithmetic and crops of the data layers, one box at a time, in float32: slow and obvious."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

F = np.float32


@dataclass
class Box:
    xmin: np.float32
    ymin: np.float32
    xmax: np.float32
    ymax: np.float32

    @classmethod
    def of(cls, values: Any) -> Box:
        return cls(*(F(value) for value in values))

    def array(self) -> np.ndarray:
        return np.array([self.xmin, self.ymin, self.xmax, self.ymax], F)

    @property
    def area(self) -> np.float32:
        if self.xmax < self.xmin or self.ymax < self.ymin:
            return F(0)
        return (self.xmax - self.xmin) * (self.ymax - self.ymin)


def shared_area(a: Box, b: Box) -> np.float32:
    if a.xmin > b.xmax or a.xmax < b.xmin or a.ymin > b.ymax or a.ymax < b.ymin:
        return F(0)
    width = min(a.xmax, b.xmax) - max(a.xmin, b.xmin)
    height = min(a.ymax, b.ymax) - max(a.ymin, b.ymin)
    return width * height if width > 0 and height > 0 else F(0)


def jaccard(a: Box, b: Box) -> np.float32:
    shared = shared_area(a, b)
    return shared / (a.area + b.area - shared) if shared > 0 else F(0)


def covered(box: Box, by: Box) -> np.float32:
    shared = shared_area(box, by)
    return shared / box.area if shared > 0 else F(0)


def project(box: Box, crop: Box) -> Box | None:
    """The box in the crop's coordinates, clipped; None if nothing is left of it."""
    if box.xmin >= crop.xmax or box.xmax <= crop.xmin or box.ymin >= crop.ymax or box.ymax <= crop.ymin:
        return None
    width, height = crop.xmax - crop.xmin, crop.ymax - crop.ymin
    moved = [
        (box.xmin - crop.xmin) / width,
        (box.ymin - crop.ymin) / height,
        (box.xmax - crop.xmin) / width,
        (box.ymax - crop.ymin) / height,
    ]
    clipped = Box.of([max(min(value, F(1)), F(0)) for value in moved])
    return clipped if clipped.area > 0 else None


def stays(box: Box, crop: Box, overlap: float | None) -> bool:
    """CENTER (overlap None) or MIN_OVERLAP."""
    if overlap is not None:
        return bool(covered(box, crop) > F(overlap))
    x, y = (box.xmin + box.xmax) / F(2), (box.ymin + box.ymax) / F(2)
    return bool(crop.xmin <= x <= crop.xmax and crop.ymin <= y <= crop.ymax)


def satisfies(crop: Box, objects: list[Box], limits: dict[str, tuple[float | None, float | None]]) -> bool:
    """Whether a crop satisfies a SampleConstraint; `limits` of jaccard, sample, object in that order where given.

    The first kind that an object passes is remembered even if a later kind fails for it.
    """
    if not limits:
        return True
    measures: dict[str, Callable[[Box, Box], np.float32]] = {
        "jaccard": jaccard,
        "sample": covered,
        "object": lambda crop, each: covered(each, crop),
    }
    found = False
    for each in objects:
        passed = True
        for kind, (least, most) in limits.items():
            value = measures[kind](crop, each)
            if (least is not None and value < F(least)) or (most is not None and value > F(most)):
                passed = False
                break
            found = True
        if passed:
            return True
    return found
