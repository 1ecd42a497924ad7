"""Matches detections with objects by Hoiem's rules.

They differ from the VOC kit's in three ways. A detection takes the best of the objects that are *not taken yet*, so a
second detection near two objects can find the other one. A difficult object can be taken like any other: its first
detection is ignored, and a second one is a false positive. A detection that overlaps only taken objects is a duplicate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe.detection.voc import Detections, GroundTruth, check_detections

Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]

#: number of pairs of a detection and an object that are compared at once; limits memory for crowded images
_PAIRS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class ObjectTable:
    """The N objects in the I images of a data set, sorted by image, then by class, then in the order of the annotation.

    boxes, [N, 4]: corners in pixels. difficult, [N]. classes, [N]: indices into `names`. begin, [I + 1]: the index of
    each image's first object, and N. image_index: the index of each image by name.
    """

    names: tuple[str, ...]
    boxes: Doubles
    difficult: NDArray[np.bool_]
    classes: Indices
    begin: Indices
    image_index: dict[str, int]

    @staticmethod
    def of(truth: GroundTruth) -> ObjectTable:
        """Makes the table of a ground truth, with classes in alphabetical order."""
        names = tuple(truth.classes)
        image_index = {image: i for i, image in enumerate(truth.images)}
        groups = sorted(
            (image_index[image], c, objects)
            for c, name in enumerate(names)
            for image, objects in truth.objects[name].items()
        )
        counts = np.array([len(objects.boxes) for _, _, objects in groups], np.int64)
        images = np.repeat(np.array([image for image, _, _ in groups], np.int64), counts)
        return ObjectTable(
            names,
            np.concatenate([objects.boxes for _, _, objects in groups] or [np.zeros((0, 4))]),
            np.concatenate([objects.difficult for _, _, objects in groups] or [np.zeros(0, bool)]),
            np.repeat(np.array([c for _, c, _ in groups], np.int64), counts),
            np.searchsorted(images, np.arange(len(truth.images) + 1)),
            image_index,
        )


@dataclass(frozen=True)
class Ranked:
    """K detections of one class, best score first; equal scores keep their order.

    images, [K]: the index of each detection's image. boxes, [K, 4]: corners in pixels.
    """

    images: Indices
    boxes: Doubles

    @staticmethod
    def of(name: str, detections: Detections, truth: GroundTruth, objects: ObjectTable) -> Ranked:
        """Ranks detections. Raises DataError for unknown images and for values that are not finite."""
        check_detections(name, detections, truth)
        order = np.argsort(-detections.scores, kind="stable")
        numbers = np.array([objects.image_index[image] for image in detections.images], np.int64)
        return Ranked(numbers[order], detections.boxes[order])


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


@dataclass(frozen=True)
class Matching:
    """The objects that K ranked detections find.

    found, [K]: the index of the object, or -1. duplicate, [K]: whether the detection overlaps only taken objects.
    overlaps, [K]: intersection over union with the object found; the largest one for a duplicate; otherwise 0.
    """

    found: Indices
    duplicate: NDArray[np.bool_]
    overlaps: Doubles


def overlapping(ranked: Ranked, objects: ObjectTable, least: float) -> Pairs:
    """Returns all pairs in the same image with an overlap of `least` or more. Boxes include their border pixels."""
    counts = objects.begin[ranked.images + 1] - objects.begin[ranked.images]
    parts = [Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for chunk in _chunks(counts):
        inside = np.arange(counts[chunk].sum())
        ends = np.cumsum(counts[chunk])
        detections = np.repeat(np.arange(chunk.start, chunk.stop), counts[chunk])
        starts = objects.begin[ranked.images[chunk]] - (ends - counts[chunk])
        numbers = inside + np.repeat(starts, counts[chunk])
        overlaps = _overlaps(ranked.boxes[detections], objects.boxes[numbers])
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


def _overlaps(first: Doubles, second: Doubles) -> Doubles:
    """Returns the intersection over union of each pair of boxes, [P]; 0 if they do not meet. Both are [P, 4]."""
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2]) + 1
    shared = np.where((sides > 0).all(axis=1), sides[:, 0] * sides[:, 1], 0.0)
    areas = (first[:, 2:] - first[:, :2] + 1).prod(axis=1) + (second[:, 2:] - second[:, :2] + 1).prod(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Doubles = np.where(shared > 0, shared / (areas - shared), 0.0)
    return result


def match(pairs: Pairs, detections: int, threshold: float) -> Matching:
    """Matches detections, best score first, with the free object that they overlap most, by `threshold` or more.

    The first object wins a tie. detections: their number.
    """
    close = pairs.where(pairs.overlaps >= threshold)
    found = np.full(detections, -1, np.int64)
    duplicate = np.zeros(detections, bool)
    overlaps = np.zeros(detections)
    taken: set[int] = set()
    ranks, begin, counts = np.unique(close.detections, return_index=True, return_counts=True)
    numbers, values = close.objects.tolist(), close.overlaps.tolist()
    for rank, start, count in zip(ranks.tolist(), begin.tolist(), counts.tolist(), strict=True):
        everything = range(start, start + count)
        free = [i for i in everything if numbers[i] not in taken]
        best = max(free or everything, key=values.__getitem__)  # the first of equal ones
        overlaps[rank] = values[best]
        if free:
            found[rank] = numbers[best]
            taken.add(numbers[best])
        else:
            duplicate[rank] = True
    return Matching(found, duplicate, overlaps)
