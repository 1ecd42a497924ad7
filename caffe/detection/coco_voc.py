"""COCO's measures for a data set in VOC's form, so that sizes can be compared with COCO's and AI-TOD's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from caffe.detection.coco import COCO_AREAS, MAX_DETS, Area, CocoScore, score
from caffe.detection.coco_files import FoundInCoco
from caffe.detection.voc import Detections, GroundTruth, check_detections


def evaluate_voc(
    truth: GroundTruth, found: Mapping[str, Detections], *, areas: Sequence[Area] = COCO_AREAS,
    max_dets: Sequence[int] = MAX_DETS,
) -> CocoScore:  # fmt: skip
    """Scores the detections of one model, by class, with COCO's method.

    Boxes include their border pixels, as elsewhere in VOC's form. Difficult objects are ignored as COCO's crowds are.
    Raises DataError for unknown images and for values that are not finite.
    """
    names = list(dict.fromkeys([*found, *truth.classes]))
    category = {name: number for number, name in enumerate(names, 1)}
    image = {name: number for number, name in enumerate(truth.images, 1)}
    annotations: list[dict[str, Any]] = []
    for name, by_image in truth.objects.items():
        for where, objects in by_image.items():
            for (xmin, ymin, xmax, ymax), difficult in zip(
                objects.boxes.tolist(), objects.difficult.tolist(), strict=True
            ):
                width, height = xmax - xmin + 1, ymax - ymin + 1
                annotations.append(
                    {
                        "id": len(annotations) + 1, "image_id": image[where], "category_id": category[name],
                        "bbox": [xmin, ymin, width, height], "area": width * height, "iscrowd": int(difficult),
                    }
                )  # fmt: skip
    dataset = {
        "images": [{"id": number} for number in image.values()],
        "categories": [{"id": number, "name": name} for name, number in category.items()],
        "annotations": annotations,
    }
    for name, detections in found.items():
        check_detections(name, detections, truth)
    parts = list(found.items())
    boxes = np.concatenate([d.boxes for _, d in parts] or [np.zeros((0, 4))]).copy()
    boxes[:, 2:] += 1 - boxes[:, :2]
    return score(
        dataset,
        FoundInCoco(
            np.array([image[where] for _, d in parts for where in d.images], np.int64),
            np.repeat(np.array([category[name] for name, _ in parts], np.int64), [len(d.scores) for _, d in parts]),
            boxes,
            np.concatenate([d.scores for _, d in parts] or [np.zeros(0)]),
        ),
        areas=areas,
        max_dets=max_dets,
    )
