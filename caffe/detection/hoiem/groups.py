"""Divides the objects of a class into five groups by a characteristic: the lowest 10 %, then 20, 40, 20 and 10 %."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

#: the groups by area, from smallest to largest
SIZES = ("XS", "S", "M", "L", "XL")
#: the groups by width over height, from narrowest to widest
ASPECTS = ("XT", "T", "M", "W", "XW")
#: where the groups end, as shares of the sorted objects
_ENDS = (0.1, 0.3, 0.7, 0.9)


def areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the areas of boxes, [K], in pixels including the border. boxes: corners, [K, 4]."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    return np.asarray(sides[:, 0] * sides[:, 1])


def aspect_ratios(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns width over height of boxes, [K], including the border pixels; infinite for a box without height."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sides[:, 0] / sides[:, 1])


def group_of(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns the group of each object, [K], from 0 to 4, according to its value.

    An object's group is the number of borders strictly below its value. The borders are the sorted values at the places
    round(K · share), counted from 1, with halves rounded away from zero. So equal values are in the same group, and a
    group may be empty.
    """
    if not len(values):
        return np.zeros(0, np.int64)
    ordered = np.sort(values)
    places = [max(math.floor(len(values) * end + 0.5), 1) for end in _ENDS]
    return np.searchsorted(ordered[np.array(places) - 1], values, side="left").astype(np.int64)
