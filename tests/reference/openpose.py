"""Slow versions of OpenPose's layers: one pixel after the other, as the original's kernels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _cubic(v: list[float], d: float) -> float:
    return (
        (-0.5 * v[0] + 1.5 * v[1] - 1.5 * v[2] + 0.5 * v[3]) * d**3
        + (v[0] - 2.5 * v[1] + 2.0 * v[2] - 0.5 * v[3]) * d**2
        + (-0.5 * v[0] + 0.5 * v[2]) * d
        + v[1]
    )


def _neighbors(at: int, size: int, length: int, pad: int) -> tuple[list[int], float]:
    place = (at - (size / length / 2 - 0.5)) * (length / size)
    first = max(int(place + 1e-5), 0)
    before = first if first - 1 < 0 else first - 1
    after = length - 1 if first + 1 >= length else first + 1
    last = length - 1 if after + 1 >= length else after + 1
    return [before + pad, first + pad, after + pad, last + pad], place - first


def im_resize(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p, x = param.imresize_param, bottoms[0]
    scales, channels, height, width = x.shape
    th, tw = p.target_spatial_height, p.target_spatial_width
    if p.factor:
        th, tw = int(height * p.factor), int(width * p.factor)
    top = np.zeros((1, channels, th, tw))
    for c in range(channels):
        for i in range(th):
            for j in range(tw):
                total = 0.0
                for n in range(scales):
                    part = float(np.float32(1) - np.float32(p.start_scale) + np.float32(n) * np.float32(p.scale_gap))
                    pad_w, pad_h = math.floor(width // 2 * part), math.floor(height // 2 * part)
                    columns, dx = _neighbors(j, tw, width - 2 * pad_w, pad_w)
                    rows, dy = _neighbors(i, th, height - 2 * pad_h, pad_h)
                    total += _cubic([_cubic([x[n, c, r, q] for q in columns], dx) for r in rows], dy)
                top[0, c, i, j] = total / scales
    return [top]


def nms(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p, x = param.nms_param, bottoms[0]
    _, _, height, width = x.shape
    top = np.zeros((len(x), p.num_parts, p.max_peaks + 1, 3))
    for n in range(len(x)):
        for c in range(p.num_parts):
            found = 0
            for i in range(1, height - 1):
                for j in range(1, width - 1):
                    value = x[n, c, i, j]
                    around = [x[n, c, i + a, j + b] for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]
                    if not (value > p.threshold and all(value > other for other in around)):
                        continue
                    found += 1
                    if found > p.max_peaks:
                        continue
                    sums = np.zeros(3)
                    for a in range(-3, 4):
                        for b in range(-3, 4):
                            if 0 < i + a < height and 0 < j + b < width and x[n, c, i + a, j + b] > 0:
                                sums += np.array([j + b, i + a, 1]) * x[n, c, i + a, j + b]
                    top[n, c, found] = [sums[0] / sums[2], sums[1] / sums[2], value]
            top[n, c, 0, 0] = found
    return [top]
