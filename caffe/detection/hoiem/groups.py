"""Five groups of a class's objects by a characteristic: the lowest tenth, the next 20, 40 and 20 %, the last tenth."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

#: the groups by area, smallest first
SIZES = ("XS", "S", "M", "L", "XL")
#: the groups by width over height, narrowest first
ASPECTS = ("XT", "T", "M", "W", "XW")
#: where the groups end, as shares of the objects in order
_ENDS = (0.1, 0.3, 0.7, 0.9)


def areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas of boxes K×4 (corners) in pixels, border pixels included."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    return np.asarray(sides[:, 0] * sides[:, 1])


def aspect_ratios(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Width over height of boxes K×4, border pixels included; infinite where a box has no height."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sides[:, 0] / sides[:, 1])


def group_of(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The group of each of K objects, 0 to 4, by its value among all.

    An object's group is the number of borders strictly below its value: the values at places round(K · share), counted
    from 1 with halves away from zero. So equal values are in one group, and a group may be empty.
    """
    if not len(values):
        return np.zeros(0, np.int64)
    ordered = np.sort(values)
    places = [max(math.floor(len(values) * end + 0.5), 1) for end in _ENDS]
    return np.searchsorted(ordered[np.array(places) - 1], values, side="left").astype(np.int64)
