"""ROIWarping, slowly: one place at a time, with the gradient of regions by the fork's formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _rounded(x: float) -> int:
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


def _corners(param: Any, region: Array) -> list[int]:
    return [_rounded(float(np.float32(v) * np.float32(param.spatial_scale))) for v in region[1:]]


def _place(param: Any, corners: list[int], i: int, j: int, height: int, width: int) -> tuple[float, float] | None:
    """Row and column on the map; None outside."""
    x1, y1, x2, y2 = corners
    h = y1 + i * (max(y2 - y1, 0) / param.pooled_h)
    w = x1 + j * (max(x2 - x1, 0) / param.pooled_w)
    if h < -0.5 or h > height - 0.5 or w < -0.5 or w > width - 0.5:
        return None
    return min(max(h, 0), height - 1), min(max(w, 0), width - 1)


def roi_warping(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p, x = param.roi_warping_param, bottoms[0]
    regions = bottoms[1].reshape(-1, 5)
    height, width = x.shape[2:]
    top = np.zeros((len(regions), x.shape[1], p.pooled_h, p.pooled_w))
    for r, i, j in np.ndindex(len(regions), p.pooled_h, p.pooled_w):
        place = _place(p, _corners(p, regions[r]), i, j, height, width)
        if place is None:
            continue
        h, w = place
        y, z = int(h), int(w)
        below, right = min(y + 1, height - 1), min(z + 1, width - 1)
        v = x[int(regions[r, 0])]
        upper = (1 - (w - z)) * v[:, y, z] + (w - z) * v[:, y, right]
        lower = (1 - (w - z)) * v[:, below, z] + (w - z) * v[:, below, right]
        top[r, :, i, j] = (1 - (h - y)) * upper + (h - y) * lower
    return [top]


def regions_gradient(param: Any, bottoms: list[Array], diff: Array) -> Array:
    """The fork's: by the center and the size of a region, then by its corners."""
    p, x = param.roi_warping_param, bottoms[0]
    regions = bottoms[1].reshape(-1, 5)
    height, width = x.shape[2:]
    gradient = np.zeros_like(regions)
    for r, c, i, j in np.ndindex(*diff.shape):
        corners = _corners(p, regions[r])
        place = _place(p, corners, i, j, height, width)
        if place is None:
            continue
        h, w = place
        y, z = int(h), int(w)
        if y + 1 > height - 1 or z + 1 > width - 1:
            continue
        x1, y1, x2, y2 = corners
        ratio_h = (h - y1) / max(y2 - y1 + 1, 1)
        ratio_w = (w - x1) / max(x2 - x1 + 1, 1)
        v = x[int(regions[r, 0]), c]
        by_x = (1 - (h - y)) * (v[y, z + 1] - v[y, z]) + (h - y) * (v[y + 1, z + 1] - v[y + 1, z])
        by_y = (1 - (w - z)) * (v[y + 1, z] - v[y, z]) + (w - z) * (v[y + 1, z + 1] - v[y, z + 1])
        by_width, by_height = (ratio_w - 0.5) * by_x, (ratio_h - 0.5) * by_y
        of_corners = [0.5 * by_x - by_width, 0.5 * by_y - by_height, 0.5 * by_x + by_width, 0.5 * by_y + by_height]
        gradient[r, 1:] += p.spatial_scale * diff[r, c, i, j] * np.array(of_corners)
    return gradient.reshape(bottoms[1].shape)
