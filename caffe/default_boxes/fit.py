"""How well shapes fit objects: the score that a proposal maximizes, and the best sizes for one source at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from caffe.default_boxes.candidates import Ratios, ratio_sets, same_kind, size_grid, size_limits
from caffe.default_boxes.layout import Layout, Shapes
from caffe.default_boxes.objects import Objects
from caffe.default_boxes.reach import THRESHOLD, shape_overlap

#: weight of the mean overlap in the score, relative to the share of objects that are reached
OVERLAP_WEIGHT = 0.1
#: a change with a smaller gain is not made, so that boxes that already fit stay as they are
LEAST_GAIN = 0.001

#: limit of the caches: tables × objects, where a table holds about 20 sizes of 4 bytes per object
_CACHED = 1 << 20

Vector = NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True)
class Sizes:
    """The boxes of one source during the search.

    `small` has the sides of the small squares in pixels, and `large` those of the large squares, if any. In terms of
    PriorBox, small is the min size and large is sqrt(min size · max size).
    """

    small: tuple[int, ...]
    large: tuple[float, ...]
    ratios: Ratios

    @property
    def count(self) -> int:
        """The number of boxes per cell."""
        return len(self.small) * (1 + bool(self.large) + self.ratios.count)

    def shapes(self) -> Shapes:
        """Returns the boxes as fields of PriorBox. Max sizes are whole pixels."""
        pairs = list(zip(sorted(self.small), sorted(self.large), strict=False))
        largest = tuple(max(small + 1, round(large * large / small)) for small, large in pairs)
        return Shapes(tuple(sorted(self.small)), largest, self.ratios.values, self.ratios.flip)

    @staticmethod
    def of(shapes: Shapes) -> Sizes:
        """Converts fields of PriorBox, with sizes truncated to whole pixels as PriorBox does."""
        small = tuple(int(size) for size in shapes.min_sizes)
        large = tuple((int(a) * int(b)) ** 0.5 for a, b in zip(small, shapes.max_sizes, strict=False))
        return Sizes(small, large, Ratios(shapes.aspect_ratios, shapes.flip))


class Fit:
    """Scores boxes of a net's sources on n objects, and searches for better ones.

    A `Vector` has one overlap (intersection over union) per object, [n].

    groups: the index of each object's group, [n]. free: the indices of the sources whose boxes may change.
    """

    def __init__(self, layout: Layout, objects: Objects, groups: NDArray[np.int64], free: Sequence[int]) -> None:
        self.layout = layout
        self.free = list(free)
        self.corners = objects.corners
        members = groups[:, None] == np.arange(groups.max() + 1)
        #: [n, groups]: a vector of one value per object times this matrix is the mean of each group
        self.means = (members / members.sum(axis=0)).astype(np.float32)
        self.mean = self.means.mean(axis=1)
        self.grids = [size_grid(*size_limits(layout, source)) for source in layout.sources]
        self._known: dict[tuple[int, float, float], Vector] = {}
        self._grids: dict[tuple[int, Ratios], Vector] = {}

    def box(self, source: int, width: float, height: float) -> Vector:
        """Returns each object's largest overlap with the boxes of `width` × `height` pixels of a source, [n]."""
        key = (source, width, height)
        if key not in self._known:
            if len(self._known) * len(self.corners) > 20 * _CACHED:
                self._known.clear()
            image = (self.layout.height, self.layout.width)
            overlap = shape_overlap(self.layout.sources[source], self.corners, width, height, image)
            self._known[key] = overlap.astype(np.float32)
        return self._known[key]

    def min_size_boxes(self, source: int, small: int, ratios: Ratios) -> Vector:
        """Returns each object's largest overlap with the square and the aspect ratios of one min size, [n]."""
        best = self.box(source, small, small)
        for ratio in ratios.values:
            root = ratio**0.5
            best = np.maximum(best, self.box(source, small * root, small / root))
            if ratios.flip:
                best = np.maximum(best, self.box(source, small / root, small * root))
        return best

    def grid_boxes(self, source: int, ratios: Ratios) -> Vector:
        """Returns `min_size_boxes` for every size of a source's grid, [sizes, n]."""
        key = (source, ratios)
        if key not in self._grids:
            if len(self._grids) * len(self.corners) > _CACHED:
                self._grids.clear()
            self._grids[key] = np.stack([self.min_size_boxes(source, size, ratios) for size in self.grids[source]])
        return self._grids[key]

    def source(self, source: int, sizes: Sizes, without: int = -1) -> Vector:
        """Returns each object's largest overlap with a source's boxes, [n], without those of min size `without`."""
        best = np.zeros(len(self.corners), np.float32)
        for index, small in enumerate(sizes.small):
            if index != without:
                best = np.maximum(best, self.min_size_boxes(source, small, sizes.ratios))
                if sizes.large:
                    best = np.maximum(best, self.box(source, sizes.large[index], sizes.large[index]))
        return best

    def all(self, state: Sequence[Sizes], without: int = -1) -> Vector:
        """Returns each object's largest overlap with the boxes of all sources except source `without`, [n]."""
        best = np.zeros(len(self.corners), np.float32)
        for source, sizes in enumerate(state):
            if source != without:
                best = np.maximum(best, self.source(source, sizes))
        return best

    def score(self, overlaps: Vector) -> NDArray[np.float32]:
        """Returns the score of overlaps, [..., n]; higher is better.

        It is OVERLAP_WEIGHT times the mean overlap, minus the root mean square over the groups of the share of objects
        that do not reach THRESHOLD. The root mean square gives most weight to the group that is covered worst.
        """
        missed = 1 - (overlaps >= THRESHOLD).astype(np.float32) @ self.means
        return np.asarray(OVERLAP_WEIGHT * (overlaps @ self.mean) - np.sqrt((missed**2).mean(axis=-1)))

    def best_min_size(self, source: int, sizes: Sizes, index: int, rest: Vector) -> tuple[Sizes, float]:
        """Chooses the best min size number `index` and, if `sizes` has large squares, its large square from the grid.

        rest: each object's largest overlap with the boxes of all other sources, [n]. Returns the new sizes and their
        score, or `sizes` and its score if no choice is better.
        """
        best, top = sizes, float(self.score(np.maximum(rest, self.source(source, sizes))))
        rest = np.maximum(rest, self.source(source, sizes, without=index))
        grid = self.grids[source]
        bases = np.maximum(rest, self.grid_boxes(source, sizes.ratios))
        if not sizes.large:
            scores = self.score(bases)
            if scores.max() > top:
                place = int(scores.argmax())
                best, top = replace(sizes, small=_with(sizes.small, index, grid[place])), float(scores[place])
            return best, top
        squares = self.grid_boxes(source, Ratios())
        for place in range(len(grid) - 1):
            scores = self.score(np.maximum(bases[place], squares[place + 1 :]))
            choice = int(scores.argmax())
            if scores[choice] > top:
                top = float(scores[choice])
                small, large = grid[place], float(grid[place + 1 + choice])
                best = replace(sizes, small=_with(sizes.small, index, small), large=_with(sizes.large, index, large))
        return best, top

    def best_sizes(self, source: int, sizes: Sizes, rest: Vector) -> tuple[Sizes, float]:
        """Applies `best_min_size` to each min size in turn. Returns the new sizes and their score."""
        top = 0.0
        for index in range(len(sizes.small)):
            sizes, top = self.best_min_size(source, sizes, index, rest)
        return sizes, top

    def improved(self, source: int, sizes: Sizes, rest: Vector, keep_ratio_count: bool) -> tuple[Sizes, float]:
        """Returns the best sizes and ratios for a source, with their number unchanged, and their score.

        Returns `sizes` and its score if no choice is better.
        """
        choices = same_kind(sizes.ratios) if keep_ratio_count else ratio_sets(sizes.ratios.count)
        best, top = sizes, float(self.score(np.maximum(rest, self.source(source, sizes))))
        for ratios in choices:
            found, score = self.best_sizes(source, replace(sizes, ratios=ratios), rest)
            if score > top:
                best, top = found, score
        return best, top

    def ascend(
        self, state: list[Sizes], sweeps: int, keep_ratio_count: bool = False, least_gain: float = LEAST_GAIN
    ) -> list[Sizes]:
        """Coordinate ascent: optimizes each free source in turn, with the others fixed, until nothing improves."""
        state = list(state)
        for _ in range(sweeps):
            changed = False
            for source in self.free:
                sizes, rest = state[source], self.all(state, without=source)
                before = float(self.score(np.maximum(rest, self.source(source, sizes))))
                found, score = self.improved(source, sizes, rest, keep_ratio_count)
                if score > before + least_gain:
                    state[source], changed = found, True
            if not changed:
                break
        return state


def _with(values: tuple[T, ...], index: int, value: T) -> tuple[T, ...]:
    return (*values[:index], value, *values[index + 1 :])
