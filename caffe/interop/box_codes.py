"""Location heads for other default boxes: the same predicted boxes from other priors.

A location head predicts a box relative to a default box: center = prior's center + l · variance · prior's size, and
size = prior's size · exp(l · variance). For a prior of another size, or with other variances, another factor and
another bias of the head give the same predicted box, at every position. Centers that differ by the same part of the
prior's size everywhere are absorbed as well; what remains is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: relative differences below this are rounding, and change nothing
_ROUNDING = 1e-5


@dataclass(frozen=True)
class BoxCode:
    """l' = factor · l + offset for each of a map's boxes, boxes × 4 in the order x, y, width, height.

    `different`: how many boxes (of each 1) differ in size or variance. `left`: the largest distance in pixels between
    the two priors' centers, or sizes, that this cannot absorb.
    """

    factor: Floats
    offset: Floats
    different: int
    left: float

    def apply(self, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """A location head's weight (4·boxes × C × kH × kW) and bias for the other priors."""
        factor, offset = self.factor.reshape(-1), self.offset.reshape(-1)
        if (factor == 1).all() and not offset.any():
            return weight, bias
        return (
            (weight * factor.reshape(-1, 1, 1, 1)).astype(np.float32),
            (bias * factor + offset).astype(np.float32),
        )


def between(old: Floats, old_variance: Sequence[float], new: Floats, new_variance: Sequence[float]) -> BoxCode:
    """The code that makes predictions relative to `old` priors into predictions relative to `new` ones.

    old, new: rows × columns × boxes × 4, center x, center y, width, height in pixels. Variances: four each.
    """
    by_box = np.swapaxes(np.array([old, new]).reshape(2, -1, *old.shape[2:]), 0, 1)  # positions × 2 × boxes × 4
    variance, new_variances = np.array(old_variance), np.array(new_variance)
    sizes = np.median(by_box[..., 2:], axis=0)  # 2 × boxes × 2
    ratio = sizes[0] / sizes[1]
    ratio[np.abs(ratio - 1) < _ROUNDING] = 1
    shift = np.median((by_box[:, 0, :, :2] - by_box[:, 1, :, :2]), axis=0) / sizes[1]
    shift[np.abs(shift) < _ROUNDING] = 0
    scale = variance / new_variances
    scale[np.abs(scale - 1) < _ROUNDING] = 1
    factor = np.concatenate([ratio * scale[:2], np.broadcast_to(scale[2:], ratio.shape)], axis=1)
    offset = np.concatenate([shift / new_variances[:2], np.log(ratio) / new_variances[2:]], axis=1)
    centers = by_box[:, 1, :, :2] + shift * sizes[1] - by_box[:, 0, :, :2]
    extents = by_box[..., 2:] - sizes
    different = int(((factor != 1) | (offset != 0)).any(axis=1).sum())
    return BoxCode(factor, offset, different, float(max(np.abs(centers).max(), np.abs(extents).max())))
