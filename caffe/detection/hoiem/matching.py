"""Matches detections with objects by Hoiem's rules.

They differ from the VOC kit's in three ways. A detection takes the best of the objects that are *not taken yet*, so a
second detection near two objects can find the other one. A difficult object can be taken like any other: its first
detection is ignored, and a second one is a false positive. A detection that overlaps only taken objects is a duplicate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe.detection import pairs
from caffe.detection.pairs import Doubles, Indices, Pairs
from caffe.detection.voc import Detections, GroundTruth, check_detections


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

    images, [K]: the index of each detection's image. scores, [K]. boxes, [K, 4]: corners in pixels.
    """

    images: Indices
    scores: Doubles
    boxes: Doubles

    @staticmethod
    def of(name: str, detections: Detections, truth: GroundTruth, objects: ObjectTable) -> Ranked:
        """Ranks detections. Raises DataError for unknown images and for values that are not finite."""
        check_detections(name, detections, truth)
        order = np.argsort(-detections.scores, kind="stable")
        index = objects.image_index
        numbers = np.fromiter((index[image] for image in detections.images), np.int64, len(order))
        return Ranked(numbers[order], detections.scores[order], detections.boxes[order])


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
    """Returns all pairs in the same image with an overlap of `least` or more."""
    return pairs.overlapping(ranked.images, ranked.boxes, objects.begin, objects.boxes, least)


def match(candidates: Pairs, detections: int, threshold: float) -> Matching:
    """Matches detections, best score first, with the free object that they overlap most, by `threshold` or more.

    The first object wins a tie. detections: their number.
    """
    close = candidates.where(candidates.overlaps >= threshold)
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
