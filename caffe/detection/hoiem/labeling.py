"""What each detection of a class is: true or false, the object that it finds, and the kind of a false positive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe.detection.hoiem.false_positives import WEAK, FalsePositives, classify
from caffe.detection.hoiem.matching import Matching, ObjectTable, Ranked, match, overlapping
from caffe.detection.hoiem.similar_classes import SimilarClasses
from caffe.detection.pairs import Indices
from caffe.detection.voc import Detections, GroundTruth

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Labeled:
    """K detections of one class, best score first.

    own: the index of the class in the table of objects, or None without objects. matching: the objects found. true,
    false, [K]: detections that find a difficult object are neither. kinds: the kind of each false positive.
    """

    ranked: Ranked
    own: int | None
    matching: Matching
    true: Mask
    false: Mask
    kinds: FalsePositives

    @property
    def found(self) -> Indices:
        """The index of the object that each true positive finds, [K]; -1 for the others."""
        return np.where(self.true, self.matching.found, -1)


def label(
    name: str, detections: Detections, truth: GroundTruth, objects: ObjectTable, similar: SimilarClasses,
    threshold: float = 0.5,
) -> Labeled:  # fmt: skip
    """Labels the detections of a class. threshold: the overlap at which an object counts as found.

    Raises DataError for unknown images and for values that are not finite.
    """
    ranked = Ranked.of(name, detections, truth, objects)
    own = objects.names.index(name) if name in objects.names else None
    pairs = overlapping(ranked, objects, min(WEAK, threshold))
    of_own = objects.classes[pairs.objects] == (-1 if own is None else own)
    matching = match(pairs.where(of_own), len(ranked.images), threshold)
    found = matching.found
    on_any = found >= 0
    true = on_any.copy()
    true[on_any] = ~objects.difficult[found[on_any]]
    kinds = classify(~on_any, pairs.where(pairs.overlaps >= WEAK), objects, own, similar.to(name))
    return Labeled(ranked, own, matching, true, ~on_any, kinds)
