"""The confusion matrix of a detector: what the objects of each class were taken for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe.detection.detection_table import DetectionTable
from caffe.detection.hoiem import ObjectTable
from caffe.detection.pairs import Indices, overlaps_of_pairs
from caffe.detection.voc import Detections, GroundTruth

#: the last column and the last row
MISSED, NO_OBJECT = "missed", "no object"


@dataclass(frozen=True)
class ConfusionMatrix:
    """Numbers of objects and detections of C classes, at a score and an overlap.

    counts, [C + 1, C + 1]: the row is the class of the object, the column that of the detection. The last column counts
    the objects that were missed, the last row the detections on no object.
    """

    names: tuple[str, ...]
    counts: Indices
    score: float
    overlap: float


def confusion_matrix(
    truth: GroundTruth, found: Mapping[str, Detections], *, score: float = 0.5, overlap: float = 0.5
) -> ConfusionMatrix:
    """Counts what the detections with a score of `score` or more are, for one model.

    Detections first take objects of their own class, best score first, each the one that it overlaps most, by
    `overlap` or more. Those that are left take the remaining objects of any class in the same way. Difficult objects
    are not counted, and neither are detections that overlap only these. Raises DataError for unknown images and for
    values that are not finite.
    """
    objects = ObjectTable.of(truth)
    table = DetectionTable.of(truth, found, objects, least_score=score)
    size = len(table.names)
    counts = np.zeros((size + 1, size + 1), np.int64)
    for image in range(len(truth.images)):
        inside = slice(int(objects.begin[image]), int(objects.begin[image + 1]))
        rows = slice(int(table.begin[image]), int(table.begin[image + 1]))
        true_class, hard = objects.classes[inside], objects.difficult[inside]
        found_class = table.classes[rows]
        taken = _take(
            overlaps_of_pairs(table.boxes[rows][:, None], objects.boxes[inside][None]),
            found_class[:, None] == true_class[None],
            overlap,
        )
        on_object = taken >= 0
        normal = on_object.copy()
        normal[on_object] = ~hard[taken[on_object]]
        np.add.at(counts, (true_class[taken[normal]], found_class[normal]), 1)
        np.add.at(counts[size], found_class[~on_object], 1)
        missed = ~hard
        missed[taken[on_object]] = False
        np.add.at(counts[:, size], true_class[missed], 1)
    return ConfusionMatrix(table.names, counts, score, overlap)


def _take(overlaps: NDArray[np.float64], same: NDArray[np.bool_], least: float) -> Indices:
    """Returns the object that each of D detections takes, [D], or -1. overlaps, same, [D, G]."""
    taken = np.full(len(overlaps), -1, np.int64)
    if not overlaps.size:
        return taken
    free = np.ones(overlaps.shape[1], bool)
    for allowed in (overlaps * same, overlaps):
        for row in np.flatnonzero((allowed >= least).any(axis=1) & (taken < 0)).tolist():
            best = int((allowed[row] * free).argmax())
            if free[best] and allowed[row, best] >= least:
                taken[row] = best
                free[best] = False
    return taken


def as_json(matrix: ConfusionMatrix) -> dict[str, Any]:
    """Returns the matrix as it is written to `confusion.json`."""
    return {
        "score": matrix.score,
        "overlap": matrix.overlap,
        "rows": [*matrix.names, NO_OBJECT],
        "columns": [*matrix.names, MISSED],
        "counts": matrix.counts.tolist(),
    }
