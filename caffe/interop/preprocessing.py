"""What images go through before a network, and how a first convolution absorbs another way of doing it.

A network's input is (pixel − mean) × scale, for pixels from 0 to 255. A convolution is linear, so one that was trained
with one mean, scale and order of channels computes the same from another, with other weights and another bias. Only
zero padding is not linear: outside the image a network sees its own mean. With two different means the outermost
outputs therefore differ a little; `absorb` returns how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

#: the mean of the nets in models/, blue, green, red
SSD_MEAN = (104.0, 117.0, 123.0)


@dataclass(frozen=True)
class Preprocessing:
    """`order`: the channels, "BGR" or "RGB". `mean`, `scale`: one value per channel, in that order."""

    order: str
    mean: tuple[float, float, float]
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @classmethod
    def of_unit_range(cls, order: str, mean: Sequence[float], std: Sequence[float]) -> Preprocessing:
        """(pixel / 255 − mean) / std, as torchvision's models have it."""
        (m0, m1, m2), (s0, s1, s2) = mean, std
        return cls(order, (255 * m0, 255 * m1, 255 * m2), (1 / (255 * s0), 1 / (255 * s1), 1 / (255 * s2)))


def caffe_input(mean: Sequence[float] = SSD_MEAN) -> Preprocessing:
    """Caffe's: blue, green, red, 0 to 255, less `mean`."""
    blue, green, red = mean
    return Preprocessing("BGR", (blue, green, red))


def absorb(
    weight: NDArray[Any], bias: NDArray[Any], old: Preprocessing, new: Preprocessing
) -> tuple[Array, Array, float]:
    """A first convolution for `new` input that computes what `weight` (O × 3 × kH × kW) and `bias` compute for `old`.

    Returns its weight and bias, and by how much an output can differ where the kernel reaches over the image's border
    (0 where the means agree). Computed in double precision.
    """
    places = [old.order.index(channel) for channel in new.order]
    kernel = weight[:, places].astype(np.float64)
    old_mean, old_scale = (np.array([values[i] for i in places]) for values in (old.mean, old.scale))
    new_mean, new_scale = np.array(new.mean), np.array(new.scale)
    ratio, shift = old_scale / new_scale, (new_mean - old_mean) * old_scale
    if np.allclose(ratio, 1, rtol=1e-12):
        ratio = np.ones(3)  # the weights keep their bits
    taps = kernel * shift.reshape(1, 3, 1, 1)
    moved = bias.astype(np.float64) + taps.sum((1, 2, 3))
    return (
        (kernel * ratio.reshape(1, 3, 1, 1)).astype(np.float32),
        moved.astype(np.float32) if shift.any() else bias.astype(np.float32),
        _border_change(taps.sum(1)),
    )


def _border_change(taps: NDArray[np.float64]) -> float:
    """The largest sum of those taps (O × kH × kW) that lie outside the image, over all its sides and corners."""
    whole = taps.sum((1, 2))
    rows, columns = (_reaches(extent) for extent in taps.shape[1:])
    parts = (taps[:, row, column].sum((1, 2)) for row in rows for column in columns)
    return float(max(np.abs(whole - part).max() for part in parts))


def _reaches(extent: int) -> list[slice]:
    """The taps of one axis that are inside the image, for every position near either border."""
    return [slice(out, extent) for out in range(extent // 2 + 1)] + [
        slice(0, extent - out) for out in range(1, extent // 2 + 1)
    ]
