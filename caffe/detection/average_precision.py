"""Average precision of one class from its detections, in the three ways that Caffe's `ap_version` names.

`11point` is VOC 2007's: the mean, over the recalls 0, 0.1, …, 1, of the best precision at that recall or a higher one.
`MaxIntegral` is VOC 2010's and ILSVRC's: the area under that best precision. `Integral` is the area under the
precision itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe.errors import CaffeError

AP_VERSIONS = ("11point", "MaxIntegral", "Integral")
#: a step in recall that counts; smaller ones come from rounding
_STEP = 1e-6

#: a curve may be in single precision, as Caffe's are, or in double
Curve = NDArray[np.floating[Any]]


def precision_recall(scores: ArrayLike, true_positive: ArrayLike, objects: int) -> tuple[Curve, Curve]:
    """Precision and recall after each detection, best score first (ties in the given order), each of length K.

    scores, K; true_positive, K: whether each detection found an object that none before it had found; objects: how many
    there are to find, at least 1. In single precision, as Caffe computes them.
    """
    order = np.argsort(-np.asarray(scores, np.float32), kind="stable")
    found = np.cumsum(np.asarray(true_positive, bool)[order], dtype=np.int64)
    precision = found.astype(np.float32) / np.arange(1, len(order) + 1, dtype=np.float32)
    recall = found.astype(np.float32) / np.float32(objects)
    return precision, recall


def average_precision(scores: ArrayLike, true_positive: ArrayLike, objects: int, version: str = "Integral") -> float:
    """Average precision, 0 to 1; arguments as those of `precision_recall`. 0 if there is nothing to find or nothing was
    found.

    Raises CaffeError for an unknown version. (Caffe's ComputeAP.)
    """
    if version not in AP_VERSIONS:
        raise CaffeError(f"unknown ap_version '{version}'; known: {', '.join(AP_VERSIONS)}")
    if objects <= 0 or not np.size(scores):
        return 0.0
    precision, recall = precision_recall(scores, true_positive, objects)
    if version == "11point":
        return eleven_point(precision, recall)
    if version == "MaxIntegral":
        return max_integral(precision, recall)
    steps = np.diff(recall, prepend=recall.dtype.type(0)).astype(np.float64)
    return float((precision * steps)[steps > _STEP].sum())


def eleven_point(precision: Curve, recall: Curve) -> float:
    """VOC 2007's average precision of a curve, best score first."""
    # recall is in single precision, the points in double: with 7 of 10 objects found, recall does not reach 0.7
    best = [precision[recall >= point / 10.0].max(initial=0) for point in range(11)]
    return float(np.mean(best, dtype=np.float64))


def max_integral(precision: Curve, recall: Curve) -> float:
    """The area under the best precision at a recall or any higher one; VOC 2010's average precision of a curve."""
    steps = np.diff(recall, prepend=recall.dtype.type(0)).astype(np.float64)
    best = best_at_or_after(precision)
    # in Caffe the limit does not apply to the first step
    counts = steps > _STEP
    counts[0] = True
    return float((best * steps)[counts].sum())


def best_at_or_after(precision: Curve) -> Curve:
    """The highest precision from each point of a curve on."""
    result: Curve = np.maximum.accumulate(precision[::-1])[::-1]
    return result


def mean(values: Sequence[float]) -> float:
    """The mean over classes; 0 if there are none."""
    return sum(values) / len(values) if values else 0.0
