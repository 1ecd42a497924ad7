"""Deformable convolutions, slowly: one place at a time, with the borders and derivatives of the forks' kernels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.reference.windows import geometry

Array = NDArray[np.float64]
#: of a place along a line: pixels with their weights, and with the weights' derivatives
Line = tuple[dict[int, float], dict[int, float]]


def _line(at: float, size: int, modulated: bool) -> Line | None:
    """None outside. The derivatives are those to the right."""
    low = math.floor(at)
    if modulated:
        if not -1 < at < size:
            return None
        inside = [p for p in (low, low + 1) if 0 <= p < size]
        return {p: 1 - abs(at - p) for p in inside}, {p: -1.0 if p == low else 1.0 for p in inside}
    if not 0 <= at < size:
        return None
    if low >= size - 1:
        return {size - 1: 1.0}, {size - 1: 0.0}
    return {low: 1 - (at - low), low + 1: at - low}, {low: -1.0, low + 1: 1.0}


class Place:
    """One tap of one group at one position of the top."""

    def __init__(self, n: int, group: int, tap: int, i: int, j: int, down: Line | None, across: Line | None) -> None:
        self.n, self.group, self.tap, self.i, self.j = n, group, tap, i, j
        self.down, self.across = (down, across) if down and across else (({}, {}), ({}, {}))

    def weights(self, by: int | None = None) -> Iterator[tuple[int, int, float]]:
        """Row, column and weight of each pixel; `by`: the derivative by the offset down (0) or across (1)."""
        down, across = self.down[by == 0], self.across[by == 1]
        for (y, of_y), (x, of_x) in itertools.product(down.items(), across.items()):
            yield y, x, of_y * of_x

    def value(self, image: Array, by: int | None = None) -> Array:
        """Of channels × H × W: each channel's value there."""
        values = [image[:, y, x] * weight for y, x, weight in self.weights(by)]
        return np.sum(values, axis=0) if values else np.zeros(len(image))


def places(param: Any, x: Array, offsets: Array, modulated: bool) -> Iterator[Place]:
    kernel, stride, pad, dilation = geometry(param, 2)
    taps = kernel[0] * kernel[1]
    groups = offsets.shape[1] // (2 * taps)
    for n, group, tap, i, j in np.ndindex(len(x), groups, taps, *offsets.shape[2:]):
        move = offsets[n, 2 * (group * taps + tap) :, i, j]
        y = i * stride[0] - pad[0] + tap // kernel[1] * dilation[0] + float(move[0])
        z = j * stride[1] - pad[1] + tap % kernel[1] * dilation[1] + float(move[1])
        yield Place(n, group, tap, i, j, _line(y, x.shape[2], modulated), _line(z, x.shape[3], modulated))


def deformable_convolution(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x, offsets, *mask = bottoms
    modulated = bool(mask)
    p = param.modulated_deformable_convolution_param if modulated else param.deformable_convolution_param
    weight = blobs[0].reshape(*blobs[0].shape[:2], -1)
    top = np.zeros((len(x), p.num_output, *offsets.shape[2:]))
    each = x.shape[1] * 2 * weight.shape[2] // offsets.shape[1]  # the channels of a deformable group
    for at in places(p, x, offsets, modulated):
        first = at.group * each
        seen = at.value(x[at.n, first : first + each])
        if mask:
            seen = seen * mask[0][at.n, at.group * weight.shape[2] + at.tap, at.i, at.j]
        for output, channel in np.ndindex(p.num_output, each):
            group = output // (p.num_output // p.group)
            within = first + channel - group * weight.shape[1]
            if 0 <= within < weight.shape[1]:
                top[at.n, output, at.i, at.j] += weight[output, within, at.tap] * seen[channel]
    if p.bias_term:
        top += blobs[1][:, None, None]
    return [top]


def gradients(param: Any, bottoms: list[Array], weight: Array, diff: Array) -> list[Array]:
    """Of images, offsets and factors, for group 1."""
    x, offsets, *mask = bottoms
    modulated = bool(mask)
    p = param.modulated_deformable_convolution_param if modulated else param.deformable_convolution_param
    weight = weight.reshape(*weight.shape[:2], -1)
    found = [np.zeros_like(b) for b in bottoms]
    each = x.shape[1] * 2 * weight.shape[2] // offsets.shape[1]
    for at in places(p, x, offsets, modulated):
        channels = slice(at.group * each, (at.group + 1) * each)
        back = weight[:, channels, at.tap].T @ diff[at.n, :, at.i, at.j]
        tap = at.group * weight.shape[2] + at.tap
        if mask:
            found[2][at.n, tap, at.i, at.j] = at.value(x[at.n, channels]) @ back
            back = back * mask[0][at.n, tap, at.i, at.j]
        for y, z, part in at.weights():
            found[0][at.n, channels, y, z] += part * back
        for by in (0, 1):
            found[1][at.n, 2 * tap + by, at.i, at.j] = at.value(x[at.n, channels], by) @ back
    return found
