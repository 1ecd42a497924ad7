"""SSD's batch samplers: random crops that satisfy overlap constraints (SSD paper, section 2.2, data augmentation)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe.data.augment.boxes import Corners, areas, coverage, intersections
from caffe.errors import NetError

#: of a crop, in units of the image's side; float32 has still steps of less near 1
_LEAST_SIDE = np.float32(1e-6)
_Limits = tuple[float | None, float | None]


@dataclass(frozen=True)
class BatchSampler:
    """A BatchSampler message, checked. Limits are (minimum, maximum), or None."""

    scale: tuple[float, float]
    aspect_ratio: tuple[float, float]
    jaccard: _Limits
    sample_coverage: _Limits
    object_coverage: _Limits
    max_sample: int
    max_trials: int

    @classmethod
    def of(cls, message: Any, where: str) -> BatchSampler:
        """From the message; raises NetError, beginning with `where`, for values that no crop can have."""
        sampler, limits = message.sampler, message.sample_constraint
        if not 0 < sampler.min_scale <= sampler.max_scale <= 1:
            raise NetError(
                f"{where}: batch_sampler needs 0 < min_scale <= max_scale <= 1; found {sampler.min_scale:g} and "
                f"{sampler.max_scale:g}"
            )
        if not 0 < sampler.min_aspect_ratio <= sampler.max_aspect_ratio < float("inf"):
            raise NetError(
                f"{where}: batch_sampler needs 0 < min_aspect_ratio <= max_aspect_ratio; found "
                f"{sampler.min_aspect_ratio:g} and {sampler.max_aspect_ratio:g}"
            )

        def pair(name: str) -> _Limits:
            least, most = (
                getattr(limits, f"{end}_{name}") if limits.HasField(f"{end}_{name}") else None for end in ("min", "max")
            )
            return least, most

        return cls(
            (sampler.min_scale, sampler.max_scale),
            (sampler.min_aspect_ratio, sampler.max_aspect_ratio),
            pair("jaccard_overlap"),
            pair("sample_coverage"),
            pair("object_coverage"),
            message.max_sample if message.HasField("max_sample") else message.max_trials,
            message.max_trials,
        )

    def satisfied(self, overlaps: Overlaps, trials: slice) -> NDArray[Any]:
        """Which of its trials satisfy the constraint.

        If there are several kinds of limits, the first one decides alone. So it does in the original, where an object
        that passes it is remembered even if it fails the others.
        """
        if _limited(self.jaccard):
            return _within(overlaps.jaccard[trials], self.jaccard)
        if _limited(self.sample_coverage):
            return _within(overlaps.of_crops[trials], self.sample_coverage)
        if _limited(self.object_coverage):
            return _within(overlaps.of_objects[trials], self.object_coverage)
        return np.ones(trials.stop - trials.start, bool)


class BatchSamplers:
    """A layer's batch samplers. All trials of all samplers are drawn and evaluated at once."""

    def __init__(self, samplers: Sequence[BatchSampler]) -> None:
        self.samplers = tuple(samplers)
        trials = [sampler.max_trials for sampler in self.samplers]
        ends = np.cumsum(trials, dtype=int)
        self._slices = [slice(end - count, end) for end, count in zip(ends, trials, strict=True)]
        limits = np.array([(*sampler.scale, *sampler.aspect_ratio) for sampler in self.samplers], np.float32)
        self._limits = np.repeat(limits.reshape(-1, 4), trials, axis=0).T

    def __bool__(self) -> bool:
        return bool(self.samplers)

    def draw(self, rng: np.random.Generator) -> Corners:
        """Every sampler's trials, one after the other: crops [n, 4] of the unit square.

        A trial draws its scale, then an aspect ratio that fits that scale, then its position.
        """
        least_scale, most_scale, least_ratio, most_ratio = self._limits
        uniform = rng.random((4, len(least_scale)), np.float32)
        scale = least_scale + (most_scale - least_scale) * uniform[0]
        square = scale * scale
        ratio = np.clip(least_ratio + (most_ratio - least_ratio) * uniform[1], square, np.float32(1) / square)
        root = np.sqrt(ratio)
        # a side that is lost in rounding, beside its position, would leave a crop without area
        size = np.maximum(np.stack([scale * root, scale / root]), _LEAST_SIDE)
        # rounding can make a side a little over 1, where the original aborts because the interval is empty
        start = uniform[2:] * np.maximum(np.float32(0), np.float32(1) - size)
        return np.ascontiguousarray(np.concatenate([start, start + size]).T)

    def crops(self, objects: Corners, rng: np.random.Generator) -> Corners:
        """The crops that satisfy their sampler's constraint for some object, up to its max_sample of each sampler."""
        crops = self.draw(rng)
        overlaps = Overlaps(crops, objects)
        found = [
            crops[trials][sampler.satisfied(overlaps, trials)][: sampler.max_sample]
            for sampler, trials in zip(self.samplers, self._slices, strict=True)
        ]
        return np.concatenate(found) if found else crops

    def crop(self, objects: Corners, rng: np.random.Generator) -> Corners | None:
        """One of all the crops, with equal probability; None if no sampler found one (the image then stays whole)."""
        crops = self.crops(objects, rng)
        if not len(crops):
            return None
        chosen: Corners = crops[rng.integers(len(crops))]
        return chosen


class Overlaps:
    """The overlap of crops [n, 4] with objects [m, 4]; each measure is [n, m], computed when first used."""

    def __init__(self, crops: Corners, objects: Corners) -> None:
        self._shared = intersections(crops[:, None], objects[None])
        self._crop_areas, self._object_areas = areas(crops)[:, None], areas(objects)[None]

    @cached_property
    def jaccard(self) -> NDArray[Any]:
        return coverage(self._shared, self._crop_areas + self._object_areas - self._shared)

    @cached_property
    def of_crops(self) -> NDArray[Any]:
        """The share of each crop that an object covers."""
        return coverage(self._shared, np.broadcast_to(self._crop_areas, self._shared.shape))

    @cached_property
    def of_objects(self) -> NDArray[Any]:
        """The share of each object that a crop shows."""
        return coverage(self._shared, np.broadcast_to(self._object_areas, self._shared.shape))


def _limited(limits: _Limits) -> bool:
    return limits != (None, None)


def _within(values: NDArray[Any], limits: _Limits) -> NDArray[Any]:
    """Which rows have a value within the limits."""
    least, most = limits
    inside: NDArray[Any] = np.ones(values.shape, bool)
    if least is not None:
        inside &= values >= np.float32(least)
    if most is not None:
        inside &= values <= np.float32(most)
    return np.asarray(inside.any(axis=1))
