"""Proposes default boxes for the sources of a net that reach as many objects as possible within a limit of boxes.

The method is iterated greedy search (Ruiz and Stützle 2007) with coordinate ascent. A construction starts with few
boxes per source. It repeatedly makes the addition with the highest gain relative to its cost in boxes: a min size, the
large squares, or aspect ratios of one source. It stops when no addition fits the limit or improves the score. Then the
sizes and ratios of each source in turn are optimized with the others fixed.

The search makes one construction for each structure of the finest source. After that, it repeatedly resets two sources,
constructs them again with a different cost of boxes, and keeps the better result. The net's own number of boxes per
source, with sizes found by coordinate ascent from the net's own, is used instead if its score is higher.

The score: objects are divided into groups (ranges of size, or classes). The root mean square over the groups of the
share of objects that do not reach an overlap of 0.5 is minimized. A tenth of the mean overlap is added, which decides
between boxes that reach the same objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from caffe.default_boxes.candidates import MOST_MIN_SIZES, Ratios
from caffe.default_boxes.fit import Fit, Sizes
from caffe.default_boxes.layout import Layout
from caffe.default_boxes.objects import Objects
from caffe.errors import DataError

#: number of objects that the search uses; the result is refined on all objects
SAMPLE = 2000
#: an addition must gain at least this much for the whole net to be worth its boxes
LEAST_MOVE = 0.0005
#: the same for a change of sizes, which costs no boxes
SMALL_GAIN = 0.0001
#: the sets of ratios with which the finest source starts
STARTS = (Ratios(), Ratios((2,), flip=False), Ratios((2,)))
#: how often some of the sources are reset and constructed again
ROUNDS = 40
#: "sizes" merges a range with a smaller share of the objects into the next
LEAST_RANGE = 0.03
BALANCES = ("sizes", "classes", "none")
#: the factor by which ratios are refined, and the least distance of their logarithms from each other and from 0
RATIO_FACTOR, LEAST_RATIO = 1.04, 0.2
#: a source whose own boxes are at most this share of the limit keeps at least these
FEW = 0.02
#: sets of ratios that moves add; coordinate ascent then tries all sets with the same number of boxes
FIRST_RATIOS = (Ratios((2,)), Ratios((2,), flip=False), Ratios((0.5,), flip=False), Ratios((1.5,)), Ratios((3,)),
                Ratios((2, 3)), Ratios((1.5, 2.5)), Ratios((2, 4)))  # fmt: skip


def propose(
    layout: Layout, objects: Objects, max_boxes: int | None = None, *, keep_heads: bool = False,
    sources: Sequence[str] = (), balance: str = "sizes", seed: int = 1, rounds: int = ROUNDS,
) -> Layout:  # fmt: skip
    """Proposes default boxes for a net's sources. Returns its layout with these boxes.

    max_boxes: the maximum number of boxes over all sources and cells (default: as many as the net has). keep_heads:
    change only sizes and ratios and keep each source's number of boxes, so that all weights of a trained net load.
    sources: names of the sources that get new boxes; the others keep theirs (default: all).
    balance: what has equal weight: ranges of size ("sizes"), classes ("classes"), or objects ("none"). seed: of the
    sample and the search. rounds: how often some of the sources are reset and constructed again.

    Raises DataError if max_boxes is less than one box per cell (with keep_heads: less than the net has), or if the net
    does not have one of `sources`.
    """
    limit = layout.count if max_boxes is None else max_boxes
    free = _places(layout, sources)
    least = sum(
        source.cells * (source.shapes.count if keep_heads or place not in free else 1)
        for place, source in enumerate(layout.sources)
    )
    if limit < least:
        why = "one for each cell of each source, and all of the sources that keep theirs"
        if keep_heads:
            why = "the net's own, and -keep_heads keeps their number"
        raise DataError(f"-max_boxes {limit:,} is less than the minimum of {least:,} boxes, {why}")
    groups = object_groups(objects, balance)
    fit = Fit(layout, *_sample(objects, groups, seed), free)
    own = [Sizes.of(source.shapes) for source in layout.sources]
    best = fit.ascend(own, sweeps=4, keep_ratio_count=True)
    if not keep_heads:
        found = _greedy(fit, own, limit, np.random.default_rng(seed), rounds)
        if layout.count > limit or fit.score(fit.all(found)) > fit.score(fit.all(best)):
            best = found
    if len(fit.corners) < len(objects):
        fit = Fit(layout, objects, groups, free)
    best = _refined(fit, best)
    return layout.with_shapes([sizes.shapes() for sizes in best])


def _places(layout: Layout, names: Sequence[str]) -> list[int]:
    known = [source.name for source in layout.sources]
    for name in names:
        if name not in known:
            raise DataError(f"-sources: the net has no source '{name}'; it predicts from {', '.join(known)}")
    return [place for place, name in enumerate(known) if not names or name in names]


def object_groups(objects: Objects, balance: str) -> NDArray[np.int64]:
    """Returns the group of each object, [n], numbered from 0. Raises DataError for an unknown `balance`."""
    if balance not in BALANCES:
        raise DataError(f"balance '{balance}' is unknown; it must be one of {', '.join(BALANCES)}")
    if balance == "none":
        return np.zeros(len(objects), np.int64)
    values = objects.labels if balance == "classes" else _octaves(objects.size)
    return np.asarray(np.unique(values, return_inverse=True)[1], np.int64)


def _octaves(size: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns each object's octave of size, [n]. Octaves with few objects are merged toward that of the median."""
    octaves = np.floor(np.log2(size)).astype(np.int64)
    middle = int(np.floor(np.log2(np.median(size))))
    for octave in range(int(octaves.min()), middle):
        if (octaves == octave).mean() < LEAST_RANGE:
            octaves[octaves == octave] = octave + 1
    for octave in range(int(octaves.max()), middle, -1):
        if (octaves == octave).mean() < LEAST_RANGE:
            octaves[octaves == octave] = octave - 1
    return octaves


def _sample(objects: Objects, groups: NDArray[np.int64], seed: int) -> tuple[Objects, NDArray[np.int64]]:
    """Returns about SAMPLE objects at most and their groups, the same number from each group where possible."""
    rng = np.random.default_rng(seed)
    each = SAMPLE // (int(groups.max()) + 1) + 1
    chosen = [rng.permutation(np.flatnonzero(groups == group))[:each] for group in range(int(groups.max()) + 1)]
    rows = np.sort(np.concatenate(chosen))
    return objects.take(rows), groups[rows]


def _greedy(fit: Fit, own: list[Sizes], limit: int, rng: np.random.Generator, rounds: int) -> list[Sizes]:
    """Iterated greedy search: constructs boxes for all sources, then repeatedly reconstructs some of them."""
    sources = fit.layout.sources
    least = [
        sizes
        if place not in fit.free or source.cells * sizes.count <= FEW * limit
        else Sizes((grid[len(grid) // 2],), (), Ratios())
        for place, (source, sizes, grid) in enumerate(zip(sources, own, fit.grids, strict=True))
    ]
    if _boxes(fit, least) > limit:
        for place in fit.free:
            least[place] = Sizes((fit.grids[place][len(fit.grids[place]) // 2],), (), Ratios())
    best, top = least, -np.inf
    for start in _starts(fit, least, limit):
        trial = _filled(fit, start, limit, 1.0)
        score = float(fit.score(fit.all(trial)))
        if score > top:
            best, top = trial, score
    shares = np.array([sources[place].cells for place in fit.free], float) ** 0.5
    for _ in range(rounds):
        emptied = rng.choice(fit.free, size=min(2, len(fit.free)), replace=False, p=shares / shares.sum())
        trial = [least[source] if source in emptied else sizes for source, sizes in enumerate(best)]
        trial = _filled(fit, trial, limit, float(rng.uniform(0.3, 1.0)))
        score = float(fit.score(fit.all(trial)))
        if score > top:
            best, top = trial, score
    return best


def _starts(fit: Fit, least: list[Sizes], limit: int) -> Iterator[list[Sizes]]:
    """Yields `least`, and `least` with each structure of the finest free source that fits the limit.

    The finest source has the most cells, so its boxes decide how many are left for the others.
    """
    yield least
    finest = min(fit.free, key=lambda source: fit.layout.sources[source].step)
    grid = fit.grids[finest]
    for count, has_large, ratios in product(range(1, MOST_MIN_SIZES), (False, True), STARTS):
        places = np.linspace(0, len(grid) - 1, 2 * count + 1).round().astype(int)[:-1]
        small, large = [grid[place] for place in places[::2]], [float(grid[place]) for place in places[1::2]]
        sizes = Sizes(tuple(small), tuple(large) if has_large else (), ratios)
        start = [sizes if source == finest else other for source, other in enumerate(least)]
        if sizes.count > 1 and _boxes(fit, start) <= limit:
            yield start


def _filled(fit: Fit, state: list[Sizes], limit: int, exponent: float) -> list[Sizes]:
    """Returns `state` with additions up to the limit, sizes optimized, and further additions if they gain."""
    state = fit.ascend(_added(fit, state, limit, exponent), sweeps=2, least_gain=SMALL_GAIN)
    return _added(fit, state, limit, exponent)


def _boxes(fit: Fit, state: list[Sizes]) -> int:
    return sum(source.cells * sizes.count for source, sizes in zip(fit.layout.sources, state, strict=True))


def _added(fit: Fit, state: list[Sizes], limit: int, exponent: float) -> list[Sizes]:
    """Returns `state` with the moves of the highest gain relative to their cost, as many as fit the limit.

    The cost of a move is the number of its boxes to the power of `exponent`. Gains shrink as other moves are made, so a
    move is evaluated again only when it is the best one.
    """
    state = list(state)
    known: dict[int, tuple[float, Sizes]] = {}
    fresh: set[int] = set()
    while True:
        room = limit - _boxes(fit, state)
        top = float(fit.score(fit.all(state)))
        for source in fit.free:
            cells = fit.layout.sources[source].cells
            if source not in known or (known[source][1].count - state[source].count) * cells > room:
                known[source] = _best_move(fit, state, source, room, top, exponent)
                fresh.add(source)
        front = max(known, key=lambda source: known[source][0])
        gain, sizes = known[front]
        if gain <= 0:
            return state
        if front not in fresh:
            known[front] = _best_move(fit, state, front, room, top, exponent)
            fresh.add(front)
            continue
        state[front] = sizes
        del known[front]
        fresh.clear()


def _best_move(
    fit: Fit, state: list[Sizes], source: int, room: int, top: float, exponent: float
) -> tuple[float, Sizes]:
    """Returns a source's best move: its gain relative to its cost, and the new boxes. The gain is 0 if there is none."""
    cells = fit.layout.sources[source].cells
    rest = fit.all(state, without=source)
    best = (0.0, state[source])
    for more, free in _moves(state[source], fit.grids[source]):
        cost = (more.count - state[source].count) * cells
        if cost > room:
            continue
        found, score = fit.best_min_size(source, more, free, rest)
        gain = score - top
        if gain > LEAST_MOVE and gain / cost**exponent > best[0]:
            best = (gain / cost**exponent, found)
    return best


def _moves(sizes: Sizes, grid: list[int]) -> Iterator[tuple[Sizes, int]]:
    """Yields the boxes after each possible addition, with the index of the min size to optimize for it."""
    middle = grid[len(grid) // 2]
    if len(sizes.small) < MOST_MIN_SIZES:
        large = (*sizes.large, float(middle + 1)) if sizes.large else ()
        yield replace(sizes, small=(*sizes.small, middle), large=large), len(sizes.small)
    if not sizes.large:
        yield replace(sizes, large=tuple(small * 1.4 for small in sizes.small)), len(sizes.small) - 1
    for ratios in FIRST_RATIOS:
        if ratios.count > sizes.ratios.count:
            yield replace(sizes, ratios=ratios), 0


def _refined(fit: Fit, state: list[Sizes]) -> list[Sizes]:
    """Changes sizes by single pixels and ratios slightly, one or two of them at a time, while the score improves."""
    state = list(state)
    for source in fit.free:
        sizes = state[source]
        low, high = fit.grids[source][0], fit.grids[source][-1]
        rest = fit.all(state, without=source)
        top = float(fit.score(np.maximum(rest, fit.source(source, sizes))))
        improved = True
        while improved:
            improved = False
            near = list(_neighbors(sizes, low, high))
            # pairs of changes only while their number is small
            pairs = (further for step in near for further in _neighbors(step, low, high)) if len(near) <= 8 else ()
            for trial in (*near, *pairs):
                score = float(fit.score(np.maximum(rest, fit.source(source, trial))))
                if score > top + SMALL_GAIN:
                    sizes, top, improved = trial, score, True
                    break
        state[source] = sizes
    return state


def _neighbors(sizes: Sizes, low: int, high: int) -> Iterator[Sizes]:
    for index, small in enumerate(sizes.small):
        for change in (-1, 1):
            below = sizes.large[index] if sizes.large else high + 1
            if low <= small + change < below:
                yield replace(sizes, small=(*sizes.small[:index], small + change, *sizes.small[index + 1 :]))
            if sizes.large and small + 1 < sizes.large[index] + change <= high:
                large = (*sizes.large[:index], sizes.large[index] + change, *sizes.large[index + 1 :])
                yield replace(sizes, large=large)
    values = sizes.ratios.values
    for index, value in enumerate(values):
        for factor in (1 / RATIO_FACTOR, RATIO_FACTOR):
            others = [*values[:index], *values[index + 1 :]]
            new = round(value * factor, 2)
            if abs(np.log(new)) > LEAST_RATIO and all(abs(np.log(new / other)) > LEAST_RATIO for other in others):
                ratios = replace(sizes.ratios, values=(*values[:index], new, *values[index + 1 :]))
                yield replace(sizes, ratios=ratios)
