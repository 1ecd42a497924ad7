"""Pairs of a box and an object in the same image that overlap: the first step of every matching."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]

#: number of pairs that are compared at once; limits memory for crowded images
_PAIRS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Pairs:
    """P pairs of a detection and an object that overlap, sorted by detection, then by object.

    detections, objects, [P]: their indices. overlaps, [P]: intersection over union.
    """

    detections: Indices
    objects: Indices
    overlaps: Doubles

    def where(self, chosen: NDArray[np.bool_]) -> Pairs:
        """Returns the pairs that a mask, [P], selects."""
        return Pairs(self.detections[chosen], self.objects[chosen], self.overlaps[chosen])


def overlapping(images: Indices, boxes: Doubles, begin: Indices, objects: Doubles, least: float) -> Pairs:
    """Returns all pairs in the same image with an overlap of `least` or more. Boxes include their border pixels.

    images, [K], boxes, [K, 4]: the image and the corners of each detection. objects, [N, 4]: corners, sorted by image;
    those of image i are begin[i] to begin[i + 1], with begin of length I + 1.
    """
    counts = begin[images + 1] - begin[images]
    parts = [Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for chunk in _chunks(counts):
        inside = np.arange(counts[chunk].sum())
        ends = np.cumsum(counts[chunk])
        detections = np.repeat(np.arange(chunk.start, chunk.stop), counts[chunk])
        starts = begin[images[chunk]] - (ends - counts[chunk])
        numbers = inside + np.repeat(starts, counts[chunk])
        overlaps = overlaps_of_pairs(boxes[detections], objects[numbers])
        parts.append(Pairs(detections, numbers, overlaps).where(overlaps >= least))
    return Pairs(
        np.concatenate([p.detections for p in parts]),
        np.concatenate([p.objects for p in parts]),
        np.concatenate([p.overlaps for p in parts]),
    )


def _chunks(counts: Indices) -> Iterator[slice]:
    """Yields ranges of detections with about _PAIRS_AT_ONCE pairs each. counts: pairs of each detection."""
    total = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, before + _PAIRS_AT_ONCE, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


def overlaps_of_pairs(first: Doubles, second: Doubles) -> Doubles:
    """Returns the intersection over union of boxes [..., 4] with boxes [..., 4], broadcast; 0 if they do not meet."""
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2]) + 1
    shared = np.where((sides > 0).all(axis=-1), sides[..., 0] * sides[..., 1], 0.0)
    areas = (first[..., 2:] - first[..., :2] + 1).prod(axis=-1) + (second[..., 2:] - second[..., :2] + 1).prod(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Doubles = np.where(shared > 0, shared / (areas - shared), 0.0)
    return result
