"""Average precision as Hoiem computes it: at the true positives alone, normalised or not, with its standard error.

Precision depends on how many objects there are to find, so that scores of few objects and of many cannot be compared.
Normalised precision counts the true positives as if there were N objects: tp · N / objects in place of tp.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from caffe.detection.average_precision import best_at_or_after


class Score(NamedTuple):
    """Average precision and its standard error, both 0 to 1; NaN where there is no object to find."""

    average_precision: float
    error: float


def interpolated_precision(
    true: NDArray[np.bool_], false: NDArray[np.bool_], objects: int, normalize_to: float | None
) -> NDArray[np.float64]:
    """The greatest precision at each detection or any later one, K; best score first.

    true and false, K: true and false positives (neither: ignored); normalize_to: N; None for plain precision.
    """
    hits = np.cumsum(true).astype(np.float64)
    if normalize_to is not None:
        hits = hits * normalize_to / objects
    misses = np.cumsum(false)
    total = hits + misses
    precision = np.divide(hits, total, out=np.zeros(len(hits)), where=total > 0)
    return np.asarray(best_at_or_after(precision), np.float64)


def score(true: NDArray[np.bool_], false: NDArray[np.bool_], objects: int, normalize_to: float | None = None) -> Score:
    """The mean of the interpolated precision at the true positives, times the recall at the end, with its error.

    The error is the standard deviation of those precisions, with a zero for each object never found, over √objects.
    Arguments as those of `interpolated_precision`.
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
