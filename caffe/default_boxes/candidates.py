"""The shapes that a proposal may choose for a source: box sizes that suit its step, and sets of aspect ratios.

A prediction layer is a 3 × 3 convolution on cells that are one step apart. A box much smaller than a step covers too
little of the map to predict from, and can lie between two cells. A much larger box is better predicted from a coarser
map. In the released SSD models, boxes are 2.1 to 7.5 steps wide, except in the last source, whose single cell sees the
whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from caffe.default_boxes.layout import Layout, Source

#: the smallest and the largest box of a source, in steps
SMALLEST, LARGEST = 2.0, 8.0
#: the smallest box of the finest source, in steps: no other source can serve the smallest objects
SMALLEST_OF_FINEST = 1.0
#: the smallest box of a source is at most this share of the image, so that a source with a single cell has sizes, too
HIGHEST_START = 0.7
#: neighboring sizes of the grid differ by this factor or by one pixel
SIZE_FACTOR = 1.08
#: aspect ratios to try, long side over short side
RATIOS = (1.5, 2, 2.5, 3, 4, 6)
#: the maximum number of min sizes per source
MOST_MIN_SIZES = 4


@dataclass(frozen=True)
class Ratios:
    """Aspect ratios other than 1, in the terms of PriorBox: aspect_ratio and flip."""

    values: tuple[float, ...] = ()
    flip: bool = True

    @property
    def count(self) -> int:
        """The number of boxes that the ratios add to each min size."""
        return len(self.values) * (2 if self.flip else 1)


def size_limits(layout: Layout, source: Source) -> tuple[int, int]:
    """Returns the smallest and the largest side of a source's square boxes, in whole pixels."""
    side = min(layout.height, layout.width)
    finest = source.step <= min(other.step for other in layout.sources)
    low = min((SMALLEST_OF_FINEST if finest else SMALLEST) * source.step, HIGHEST_START * side)
    return max(1, round(low)), max(2, round(min(LARGEST * source.step, side)))


def size_grid(low: int, high: int) -> list[int]:
    """Returns the sizes in whole pixels from `low` to `high`, each SIZE_FACTOR times or one pixel above the last."""
    count = max(1, round(np.log(high / low) / np.log(SIZE_FACTOR)))
    return sorted({round(size) for size in np.geomspace(low, high, count + 1)})


def ratio_sets(count: int) -> list[Ratios]:
    """Returns the sets of ratios that add `count` boxes to each min size: in both orientations, or in only one."""
    if count == 0:
        return [Ratios()]
    sets = [Ratios(values) for values in combinations(RATIOS, count // 2)] if count % 2 == 0 else []
    if count <= 2:
        upright = [round(1 / ratio, 4) for ratio in RATIOS]
        for one_way in (RATIOS, upright):
            sets += [Ratios(values, flip=False) for values in combinations(one_way, count)]
    return sets


def same_kind(ratios: Ratios) -> list[Ratios]:
    """Returns the sets with the same number of ratios and the same flip, with which a trained head can be kept."""
    if not ratios.values:
        return [ratios]
    choices: Sequence[tuple[float, ...]] = list(combinations(RATIOS, len(ratios.values)))
    if not ratios.flip:
        choices = [*choices, *combinations([round(1 / ratio, 4) for ratio in RATIOS], len(ratios.values))]
    return [ratios, *(Ratios(values, ratios.flip) for values in choices)]
