"""Average precision as Hoiem computes it: at the true positives only, normalized or not, with its standard error.

Precision depends on the number of objects to find, so scores for few objects and for many cannot be compared.
Normalized precision counts the true positives as if there were N objects: tp · N / objects in place of tp.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from caffe.detection.average_precision import best_at_or_after


class Score(NamedTuple):
    """Average precision and its standard error, both from 0 to 1, or NaN without an object to find."""

    average_precision: float
    error: float


def interpolated_precision(
    true: NDArray[np.bool_], false: NDArray[np.bool_], objects: int, normalize_to: float | None
) -> NDArray[np.float64]:
    """Returns the highest precision at each detection or any later one, [K].

    true, false, [K]: which detections are true and false positives, best score first. Those that are neither are
    ignored. objects: the number of objects to find. normalize_to: N, or None for plain precision.
    """
    hits = np.cumsum(true).astype(np.float64)
    if normalize_to is not None:
        hits = hits * normalize_to / objects
    misses = np.cumsum(false)
    total = hits + misses
    precision = np.divide(hits, total, out=np.zeros(len(hits)), where=total > 0)
    return np.asarray(best_at_or_after(precision), np.float64)


def score(true: NDArray[np.bool_], false: NDArray[np.bool_], objects: int, normalize_to: float | None = None) -> Score:
    """Returns the mean of the interpolated precision over the objects, and its standard error.

    An object that is not found has precision 0. The error is the standard deviation of these values divided by
    √objects. The arguments are those of `interpolated_precision`.
    """
    if not objects:
        return Score(np.nan, np.nan)
    precisions = interpolated_precision(true, false, objects, normalize_to)[true]
    found = len(precisions)
    if not found:
        return Score(0.0, 0.0)
    values = np.concatenate([precisions, np.zeros(objects - found)])
    deviation = float(values.std(ddof=1)) if objects > 1 else 0.0
    return Score(float(precisions.mean()) * (found / objects), deviation / objects**0.5)
