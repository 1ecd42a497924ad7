"""Statistics over seeds: mean and spread of a measure, and the mean of paired differences with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

#: Student's t at 97.5 %, for 1 to 30 degrees of freedom
_T = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip


class Summary(NamedTuple):
    """The mean of n values, their standard deviation (n − 1), and half the width of the mean's 95 % interval.

    The mean is NaN for no value, and the others are NaN for fewer than two.
    """

    n: int
    mean: float
    deviation: float
    half_width: float

    @property
    def decided(self) -> bool:
        """Whether the interval excludes 0."""
        return abs(self.mean) > self.half_width  # False for NaN


def summarize(values: Sequence[float]) -> Summary:
    """Summarizes values that are independent and approximately normal. NaNs are left out."""
    known = [value for value in values if not math.isnan(value)]
    n = len(known)
    if not n:
        return Summary(0, math.nan, math.nan, math.nan)
    mean = math.fsum(known) / n
    if n == 1:
        return Summary(1, mean, math.nan, math.nan)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (n - 1))
    t = _T[n - 2] if n - 2 < len(_T) else _T[-1]
    return Summary(n, mean, deviation, t * deviation / math.sqrt(n))


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Summary:
    """Summarizes first − second over the seeds that both have."""
    return summarize([first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())])
