"""Scores a snapshot's detections on the test images by object size, with the methods of Hoiem et al. and of COCO."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caffe.detection import coco, hoiem, voc
from caffe.detection.average_precision import mean

#: the measures of COCO that are used, and their names in the tables
COCO = {
    "AP": "COCO AP", "AP 0.50": "COCO AP50", "AP 0.75": "COCO AP75", "AP small": "AP small", "AP medium": "AP medium",
    "AP large": "AP large", "AR 100": "AR", "AR small": "AR small", "AR medium": "AR medium", "AR large": "AR large",
}  # fmt: skip
#: all measures, from 0 to 1, in the order of the tables
MEASURES = ("mAP", "AP_N", *hoiem.SIZES, *COCO.values())


def score(results: Path, truth: voc.GroundTruth, instances: Path, classes: Sequence[str]) -> dict[str, Any]:
    """Scores the VOC result files in a directory.

    Returns `measures`: the values by the names in MEASURES, None without objects; `errors`: the standard errors over
    objects of AP_N and of each size; and `classes`: Hoiem's analysis of each class.
    """
    files = voc.find_result_files(results)
    found = {name: voc.read_detections(files[name]) for name in classes}
    wanted = [name for name in classes if truth.count(name)]
    voc_scores = [voc.score_class(name, found[name], truth, eleven_points=True) for name in wanted]
    diagnoses = list(hoiem.diagnose(truth, found).values())
    measures = {"mAP": mean([s.average_precision for s in voc_scores])}
    errors: dict[str, float] = {}
    overall = [(d.normalized.average_precision, d.normalized.error) for d in diagnoses]
    measures["AP_N"], errors["AP_N"] = _mean_with_error(overall)
    for i, size in enumerate(hoiem.SIZES):
        groups = [(d.size[i].average_precision, d.size[i].error) for d in diagnoses if d.size[i].objects]
        measures[size], errors[size] = _mean_with_error(groups)
    detections = results / "coco.json"
    detections.write_text(json.dumps(coco_results(found)), encoding="utf-8")
    of_coco = coco.evaluate(detections, instances).measures
    detections.unlink()
    measures.update({COCO[name]: value if value >= 0 else math.nan for name, value in of_coco.items() if name in COCO})
    return {
        "measures": {name: _number(measures[name]) for name in MEASURES},
        "errors": {name: _number(value) for name, value in errors.items()},
        "classes": {d.name: hoiem.as_json(d) for d in diagnoses},
    }


def coco_results(found: dict[str, voc.Detections]) -> list[dict[str, Any]]:
    """Returns detections in the format of COCO's results files."""
    return [
        {"image_id": image, "category_id": name, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": value}
        for name, detections in found.items()
        for image, value, (x0, y0, x1, y1) in zip(
            detections.images, detections.scores.tolist(), detections.boxes.tolist(), strict=True
        )
    ]


def _mean_with_error(values: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Returns the mean over classes and its standard error, from (value, standard error) of each class."""
    if not values:
        return math.nan, math.nan
    return mean([v for v, _ in values]), math.sqrt(math.fsum(e * e for _, e in values)) / len(values)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
