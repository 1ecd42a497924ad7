"""A proposal: default boxes for the sources of a net that reach the most objects, within a limit of boxes.

The method is greedy addition with coordinate ascent. It starts from one square for each source. What is added next is
the move (a min size, the large squares, or aspect ratios of one source) that gains most for each box that it costs,
until no move fits the limit or gains. Then every source in turn is given the best sizes and ratios beside the others,
and exchanges (a move taken back, what it cost spent anew) are tried. The net's own number of boxes for each source, with
sizes found by coordinate ascent from its own, is kept if it does better.

What is maximised is the share of the objects that overlap a default box by 0.5 or more, and a tenth of the mean of all
objects' largest overlaps, which decides among equal shares.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from caffe.default_boxes.candidates import MOST_MIN_SIZES, Ratios
from caffe.default_boxes.fit import Fit, Sizes
from caffe.default_boxes.layout import Layout
from caffe.default_boxes.objects import Objects
from caffe.errors import DataError

#: objects that the search looks at; the result is refined on all
SAMPLE = 3000
#: a move that gains less for the whole net is not worth its boxes
LEAST_MOVE = 0.0005
#: sets of ratios that moves add; coordinate ascent then tries all of as many
FIRST_RATIOS = (Ratios((2,)), Ratios((2,), flip=False), Ratios((0.5,), flip=False), Ratios((1.5,)), Ratios((3,)),
                Ratios((2, 3)), Ratios((1.5, 2.5)), Ratios((2, 4)))  # fmt: skip


def propose(
    layout: Layout, objects: Objects, max_boxes: int | None = None, *, keep_heads: bool = False,
    equal_classes: bool = False, seed: int = 1,
) -> Layout:  # fmt: skip
    """Default boxes for a net's sources.

    max_boxes: the most, over all sources and cells (default: as many as the net has). keep_heads: change sizes and
    ratios only and leave every source its number of boxes, so that all weights of a trained net still load.
    equal_classes: each class counts the same, however many objects it has. Raises DataError if max_boxes is less than
    one box for each cell, or less than the net has with keep_heads.
    """
    limit = layout.count if max_boxes is None else max_boxes
    least = layout.count if keep_heads else sum(source.cells for source in layout.sources)
    if limit < least:
        why = "the net's own, and -keep_heads keeps their number" if keep_heads else "one for each cell of each source"
        raise DataError(f"-max_boxes {limit:,} is under what is possible: {least:,} boxes, {why}")
    weights = _weights(objects, equal_classes)
    fit = Fit(layout, *_sample(objects, weights, seed))
    own = [Sizes.of(source.shapes) for source in layout.sources]
    best = fit.ascend(own, sweeps=4, keep_ratio_count=True)
    if not keep_heads:
        found = _greedy(fit, limit)
        if layout.count > limit or fit.score(fit.all(found)) > fit.score(fit.all(best)):
            best = found
    if len(fit.corners) < len(objects):
        fit = Fit(layout, objects, weights)
    best = _refined(fit, best)
    return layout.with_shapes([sizes.shapes() for sizes in best])


def _weights(objects: Objects, equal_classes: bool) -> NDArray[np.float64]:
    if not equal_classes:
        return np.ones(len(objects))
    _, inverse, counts = np.unique(objects.labels, return_inverse=True, return_counts=True)
    return np.asarray(1 / counts[inverse])


def _sample(objects: Objects, weights: NDArray[np.float64], seed: int) -> tuple[Objects, NDArray[np.float64]]:
    if len(objects) <= SAMPLE:
        return objects, weights
    chosen = np.sort(np.random.default_rng(seed).choice(len(objects), SAMPLE, replace=False))
    return objects.take(chosen), weights[chosen]


def _greedy(fit: Fit, limit: int) -> list[Sizes]:
    """Greedy addition from one square for each source, ascent, and exchanges."""
    state = [Sizes((grid[len(grid) // 2],), (), Ratios()) for grid in fit.grids]
    state = _added(fit, fit.ascend(state, sweeps=2), limit)
    state = _added(fit, fit.ascend(state, sweeps=3), limit)
    top = float(fit.score(fit.all(state)))
    for _ in range(2):
        before = top
        for source in range(len(state)):
            for fewer in _removals(state[source]):
                trial = _with(state, source, fewer)
                trial = _added(fit, trial, limit, barred=(source, state[source].count))
                score = float(fit.score(fit.all(trial)))
                if score > top + LEAST_MOVE:
                    state, top = trial, score
                    break
        if top < before + LEAST_MOVE:
            break
        state = fit.ascend(state, sweeps=2)
        top = float(fit.score(fit.all(state)))
    return state


def _boxes(fit: Fit, state: list[Sizes]) -> int:
    return sum(source.cells * sizes.count for source, sizes in zip(fit.layout.sources, state, strict=True))


def _added(fit: Fit, state: list[Sizes], limit: int, barred: tuple[int, int] = (-1, 0)) -> list[Sizes]:
    """`state` with the moves that gain most for each box, as many as fit the limit.

    Gains only shrink as others are made, so a move is measured again only when it comes to the front. barred: a source
    and a number of boxes a cell that it must not have again.
    """
    state = list(state)
    known: dict[int, tuple[float, Sizes]] = {}
    fresh: set[int] = set()
    while True:
        room = limit - _boxes(fit, state)
        top = float(fit.score(fit.all(state)))
        for source in range(len(state)):
            cells = fit.layout.sources[source].cells
            if source not in known or (known[source][1].count - state[source].count) * cells > room:
                known[source] = _best_move(fit, state, source, room, top, barred)
                fresh.add(source)
        front = max(known, key=lambda source: known[source][0])
        gain, sizes = known[front]
        if gain <= 0:
            return state
        if front not in fresh:
            known[front] = _best_move(fit, state, front, room, top, barred)
            fresh.add(front)
            continue
        state[front] = sizes
        del known[front]
        fresh.clear()


def _best_move(
    fit: Fit, state: list[Sizes], source: int, room: int, top: float, barred: tuple[int, int]
) -> tuple[float, Sizes]:
    """The gain for each box of the best move of a source, and its boxes then; a gain of 0 if there is none."""
    cells = fit.layout.sources[source].cells
    rest = fit.all(state, without=source)
    best = (0.0, state[source])
    for more, free in _moves(state[source], fit.grids[source]):
        cost = (more.count - state[source].count) * cells
        if cost > room or (source, more.count) == barred:
            continue
        found, score = fit.best_min_size(source, more, free, rest)
        gain = score - top
        if gain > LEAST_MOVE and gain / cost > best[0]:
            best = (gain / cost, found)
    return best


def _moves(sizes: Sizes, grid: list[int]) -> Iterator[tuple[Sizes, int]]:
    """What can be added to a source, each with the number of the min size to choose with it."""
    middle = grid[len(grid) // 2]
    if len(sizes.small) < MOST_MIN_SIZES:
        large = (*sizes.large, float(middle + 1)) if sizes.large else ()
        yield replace(sizes, small=(*sizes.small, middle), large=large), len(sizes.small)
    if not sizes.large:
        yield replace(sizes, large=tuple(small * 1.4 for small in sizes.small)), len(sizes.small) - 1
    for ratios in FIRST_RATIOS:
        if ratios.count > sizes.ratios.count:
            yield replace(sizes, ratios=ratios), 0


def _removals(sizes: Sizes) -> Iterator[Sizes]:
    """A source with a part of its boxes less."""
    if len(sizes.small) > 1:
        for index in range(len(sizes.small)):
            yield replace(
                sizes,
                small=sizes.small[:index] + sizes.small[index + 1 :],
                large=sizes.large[:index] + sizes.large[index + 1 :],
            )
    if sizes.large:
        yield replace(sizes, large=())
    if sizes.ratios.values:
        yield replace(sizes, ratios=Ratios())


def _with(state: list[Sizes], source: int, sizes: Sizes) -> list[Sizes]:
    return [*state[:source], sizes, *state[source + 1 :]]


def _refined(fit: Fit, state: list[Sizes]) -> list[Sizes]:
    """The sizes moved by single pixels while that gains, on all objects."""
    state = list(state)
    for source, sizes in enumerate(state):
        low, high = fit.grids[source][0], fit.grids[source][-1]
        rest = fit.all(state, without=source)
        top = float(fit.score(np.maximum(rest, fit.source(source, sizes))))
        improved = True
        while improved:
            improved = False
            for trial in _neighbours(sizes, low, high):
                score = float(fit.score(np.maximum(rest, fit.source(source, trial))))
                if score > top + 1e-4:
                    sizes, top, improved = trial, score, True
                    break
        state[source] = sizes
    return state


def _neighbours(sizes: Sizes, low: int, high: int) -> Iterator[Sizes]:
    for index, small in enumerate(sizes.small):
        for change in (-1, 1):
            below = sizes.large[index] if sizes.large else high + 1
            if low <= small + change < below:
                yield replace(sizes, small=(*sizes.small[:index], small + change, *sizes.small[index + 1 :]))
            if sizes.large and small + 1 < sizes.large[index] + change <= high:
                large = (*sizes.large[:index], sizes.large[index] + change, *sizes.large[index + 1 :])
                yield replace(sizes, large=large)
