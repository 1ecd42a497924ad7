"""Which objects are small, and how often they are repeated and copied: the settings of small_objects.py."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe.data.augment.boxes import Corners, areas


@dataclass(frozen=True)
class SmallObjects:
    """Which objects count as small, and how they are repeated and copied."""

    #: maximum number of copies to paste into each image with small objects
    copies: int = 0
    #: number of records per image with small objects; if there are several, the first stays unchanged
    repeats: int = 1
    #: small: the square root of the box's area is less than `side` pixels when the image is warped to `at` × `at`
    side: float = 32
    at: int = 300
    #: the maximum share of a copy or of any box that the two may have in common
    overlap: float = 0
    #: width in pixels of the border around a copy over which it fades into the image
    soft_edge: int = 2
    seed: int = 0

    @property
    def definition(self) -> str:
        """What "small" means, for log messages."""
        return f"under {self.side:g} pixels, square root of area, at {self.at} x {self.at}"

    def are_small(self, corners: Corners) -> NDArray[np.bool_]:
        """Returns which boxes are small, [n]. corners: normalized, [n, 4]. Boxes without area are not small."""
        area = areas(corners)
        return np.asarray((area > 0) & (np.sqrt(area) * self.at < self.side))
