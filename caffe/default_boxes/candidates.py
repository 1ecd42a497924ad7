"""Which shapes a proposal may choose for a source: sizes that its cells can see, and sets of aspect ratios.

A prediction layer is a 3 × 3 convolution on cells that are a step apart, so a box far smaller than that leaves little
to predict from, and neighbouring cells differ by more than the box; a far larger one is better told apart on a coarser
map. In the released SSD models boxes are 2.1 to 7.5 steps wide but for the last, whose one cell sees the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from caffe.default_boxes.layout import Layout, Source

#: the smallest and the largest box of a source, in steps
SMALLEST, LARGEST = 2.0, 8.0
#: the smallest box of the finest source, in steps: nothing else is there for the smallest objects
SMALLEST_OF_FINEST = 1.0
#: no source starts higher than this share of the image, so that a last one with a single cell has sizes too
HIGHEST_START = 0.7
#: neighbouring sizes of the grid differ by this factor, or a pixel
SIZE_FACTOR = 1.08
#: long sides over short sides that are tried
RATIOS = (1.5, 2, 2.5, 3, 4, 6)
#: min sizes that a source may get
MOST_MIN_SIZES = 4


@dataclass(frozen=True)
class Ratios:
    """Aspect ratios besides 1, as PriorBox's aspect_ratio and flip."""

    values: tuple[float, ...] = ()
    flip: bool = True

    @property
    def count(self) -> int:
        """Boxes that they add to each min size."""
        return len(self.values) * (2 if self.flip else 1)


def size_limits(layout: Layout, source: Source) -> tuple[int, int]:
    """The least and the greatest side of a square box of a source, in whole pixels."""
    side = min(layout.height, layout.width)
    finest = source.step <= min(other.step for other in layout.sources)
    low = min((SMALLEST_OF_FINEST if finest else SMALLEST) * source.step, HIGHEST_START * side)
    return max(1, round(low)), max(2, round(min(LARGEST * source.step, side)))


def size_grid(low: int, high: int) -> list[int]:
    """Whole sizes from `low` to `high`, each SIZE_FACTOR times or a pixel more than the one before."""
    count = max(1, round(np.log(high / low) / np.log(SIZE_FACTOR)))
    return sorted({round(size) for size in np.geomspace(low, high, count + 1)})


def ratio_sets(count: int) -> list[Ratios]:
    """The sets of ratios that add `count` boxes: of both orientations, or of one where the objects have one."""
    if count == 0:
        return [Ratios()]
    sets = [Ratios(values) for values in combinations(RATIOS, count // 2)] if count % 2 == 0 else []
    if count <= 2:
        upright = [round(1 / ratio, 4) for ratio in RATIOS]
        for one_way in (RATIOS, upright):
            sets += [Ratios(values, flip=False) for values in combinations(one_way, count)]
    return sets


def same_kind(ratios: Ratios) -> list[Ratios]:
    """The sets with as many ratios and the same flip: those that a trained head can take over."""
    if not ratios.values:
        return [ratios]
    choices: Sequence[tuple[float, ...]] = list(combinations(RATIOS, len(ratios.values)))
    if not ratios.flip:
        choices = [*choices, *combinations([round(1 / ratio, 4) for ratio in RATIOS], len(ratios.values))]
    return [ratios, *(Ratios(values, ratios.flip) for values in choices)]
