"""The detections of all classes in one table, sorted by image, for analyses that look at whole images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from caffe.detection.hoiem import ObjectTable
from caffe.detection.pairs import Doubles, Indices
from caffe.detection.voc import Detections, GroundTruth, check_detections


@dataclass(frozen=True)
class DetectionTable:
    """K detections in I images, sorted by image, then best score first; equal scores keep their order.

    names: all classes, those of the objects first. classes, [K]: indices into `names`. scores, [K]. boxes, [K, 4]:
    corners in pixels. begin, [I + 1]: the index of each image's first detection, and K.
    """

    names: tuple[str, ...]
    classes: Indices
    scores: Doubles
    boxes: Doubles
    begin: Indices

    @staticmethod
    def of(
        truth: GroundTruth, found: Mapping[str, Detections], objects: ObjectTable, *, least_score: float = -np.inf,
        most_per_image: int | None = None,
    ) -> DetectionTable:  # fmt: skip
        """Makes the table from the detections of each class.

        least_score: leaves out detections with a lower score. most_per_image: keeps only the best ones of each image.
        Raises DataError for unknown images and for values that are not finite.
        """
        names = objects.names + tuple(name for name in found if name not in objects.names)
        classes, images, scores, boxes = [], [], [], []
        for name, detections in found.items():
            check_detections(name, detections, truth)
            index = objects.image_index
            numbers = np.fromiter((index[image] for image in detections.images), np.int64, len(detections.images))
            chosen = detections.scores >= least_score
            images.append(numbers[chosen])
            classes.append(np.full(len(images[-1]), names.index(name), np.int64))
            scores.append(detections.scores[chosen])
            boxes.append(detections.boxes[chosen])
        image = np.concatenate(images or [np.zeros(0, np.int64)])
        score = np.concatenate(scores or [np.zeros(0)])
        order = np.lexsort((-score, image))
        if most_per_image is not None:
            first = np.searchsorted(image[order], image[order], side="left")
            order = order[np.arange(len(order)) - first < most_per_image]
        return DetectionTable(
            names,
            np.concatenate(classes or [np.zeros(0, np.int64)])[order],
            score[order],
            np.concatenate(boxes or [np.zeros((0, 4))])[order],
            np.searchsorted(image[order], np.arange(len(truth.images) + 1)),
        )
