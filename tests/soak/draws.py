"""Draws of the batch samplers on random and on adversarial boxes: every crop lies in the image and has an area."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from caffe.data.augment.boxes import Corners
from caffe.data.augment.sampler import BatchSampler, BatchSamplers

_OVERLAPS = (0.1, 0.3, 0.5, 0.7, 0.9)


def samplers() -> list[BatchSamplers]:
    """SSD's own samplers, and those at the ends of what is allowed."""
    unlimited = (None, None)

    def one(
        scale: tuple[float, float], ratio: tuple[float, float], jaccard: tuple[float | None, float | None] = unlimited
    ) -> BatchSampler:
        return BatchSampler(scale, ratio, jaccard, unlimited, unlimited, 1, 50)

    ssd = [one((0.3, 1), (0.5, 2), (least, None)) for least in _OVERLAPS] + [one((0.3, 1), (0.5, 2), (None, 1.0))]
    ends = [
        one((1, 1), (1, 1)),
        one((1, 1), (1e-6, 1e6)),
        one((1e-3, 1e-3), (1e-6, 1e6)),
        one((1e-20, 1), (1e-20, 1e20)),
        one((0.999999, 1), (0.999999, 1.000001), (0.0, None)),
    ]
    return [BatchSamplers(ssd), BatchSamplers(ends)]


def boxes(rng: np.random.Generator) -> Corners:
    """Boxes of an image [n, 4]: random ones, and some that annotation tools write by mistake."""
    count = int(rng.choice([0, 1, 2, 5, 30]))
    start, size = rng.random((count, 2)), rng.random((count, 2)) * rng.choice([1e-7, 0.01, 0.5, 2])
    found = np.concatenate([start, start + size], axis=1)
    kind = rng.integers(7)
    if kind == 0:
        found = np.clip(found, 0, 1)
    elif kind == 1 and count:
        found[0] = rng.choice([0, 1, -1, 2, 0.5, 1e-38, 1e30, -1e30, np.inf, -np.inf, np.nan], size=4)
    elif kind == 2:
        found = found[:, [2, 3, 0, 1]]  # inverted
    elif kind == 3:
        found[:, 2:] = found[:, :2]  # without area
    elif kind == 4:
        found = found - 3  # outside
    elif kind == 5 and count:
        found[:] = [0, 0, 1, 1]
    return found.astype(np.float32)


def crops(seed: int) -> Iterator[tuple[Corners, Corners]]:
    """Endlessly: all trials of all samplers, and the crops that were taken for some image's boxes."""
    rng = np.random.default_rng(seed)
    groups = samplers()
    while True:
        for group in groups:
            with np.errstate(all="ignore"):
                yield group.draw(rng), group.crops(boxes(rng), rng)


def invalid(found: Corners) -> int:
    """How many of some crops [n, 4] leave the unit square by more than rounding, or have no positive side."""
    inside = (found > -1e-6) & (found < 1 + 1e-6)
    sides = found[:, 2:] > found[:, :2]
    return int((~(inside.all(axis=1) & sides.all(axis=1))).sum())


def check(count: int, seed: int = 1) -> tuple[int, int, int]:
    """Draws at least `count` trials. Returns how many were drawn, taken as crops, and invalid."""
    drawn = taken = bad = 0
    for trials, chosen in crops(seed):
        drawn, taken = drawn + len(trials), taken + len(chosen)
        bad += invalid(trials) + invalid(chosen)
        if drawn >= count:
            return drawn, taken, bad
    raise AssertionError
