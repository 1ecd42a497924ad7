"""Slow versions of MNC's mask layers, SphereFace's product and OpenPose's Maximum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def mask_pooling(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x, mask = bottoms
    top = np.empty_like(x)
    for n, c, i, j in np.ndindex(*x.shape):
        top[n, c, i, j] = x[n, c, i, j] * mask[n, 0, i, j]
    return [top]


def _line(place: np.float32, size: int) -> list[tuple[int, float]]:
    """Pixels and their weights at a place of a line."""
    if place < -0.5 or place > size - 0.5:
        return []
    low = int(max(float(place), 0.0))
    if low >= size - 1:
        return [(size - 1, 1.0)]
    return [(low, 1 - (float(place) - low)), (low + 1, float(place) - low)]


def mask_resize(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p, x = param.mask_resize_param, bottoms[0]
    height, width = x.shape[2:]
    out_h = int(height * p.factor_height) if p.factor_height > 0 else p.output_height
    out_w = int(width * p.factor_width) if p.factor_width > 0 else p.output_width
    down, across = np.float32(height) / np.float32(out_h), np.float32(width) / np.float32(out_w)
    top = np.zeros((*x.shape[:2], out_h, out_w))
    for i, j in np.ndindex(out_h, out_w):
        for y, of_y in _line(np.float32(i) * down, height):
            for z, of_z in _line(np.float32(j) * across, width):
                top[:, :, i, j] += of_y * of_z * x[:, :, y, z]
    return [top]


def maximum(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x = bottoms[0]
    top = np.empty((*x.shape[:2], 1, 3))
    for n, c in np.ndindex(*x.shape[:2]):
        best = (-math.inf, 0, 0)
        for i, j in np.ndindex(*x.shape[2:]):
            if x[n, c, i, j] > best[0]:
                best = (float(x[n, c, i, j]), i, j)
        top[n, c, 0] = best[2], best[1], best[0]
    return [top]


def _unit(rows: Array) -> Array:
    return np.array([row / math.sqrt((row**2).sum()) for row in rows])


def lambda_of(param: Any, number: int) -> float:
    p = param.margin_inner_product_param
    return float(max(p.base * (1 + p.gamma * (p.iteration + number)) ** -p.power, p.lambda_min))


def margin_inner_product(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    """By the angles themselves: (−1)^k cos(m · angle) − 2k from k · 180° / m on."""
    p = param.margin_inner_product_param
    vectors, m, share = _unit(blobs[0]), p.type + 1, lambda_of(param, 1)
    x = bottoms[0].reshape(-1, vectors.shape[1])
    top = x @ vectors.T
    for row, item, label in zip(top, x, bottoms[1].ravel().astype(int), strict=True):
        if m == 1:
            continue
        length = math.sqrt((item**2).sum())
        angle = math.acos(row[label] / length)
        k = min(int(angle * m / math.pi), m - 1)
        psi = (-1) ** k * math.cos(m * angle) - 2 * k
        row[label] = (length * psi + share * row[label]) / (1 + share)
    return [top.reshape(*bottoms[0].shape[: p.axis], -1), np.array([share])][: len(param.top)]


def margin_gradients(
    param: Any, x: Array, labels: NDArray[np.int64], weights: Array, diff: Array
) -> tuple[Array, Array]:
    """Of items M × K and of vectors N × K, as the fork's formulas give them."""
    kind, share = param.margin_inner_product_param.type, lambda_of(param, 1)
    w = _unit(weights)
    gradient = np.zeros_like(x)
    for i, j in np.ndindex(*diff.shape):
        if j != labels[i] or kind == 0:
            gradient[i] += diff[i, j] * w[j]
            continue
        length = math.sqrt((x[i] ** 2).sum())
        cos = x[i] @ w[j] / length
        s0 = np.sign(cos)
        if kind == 1:
            of_w, of_x = 4 * s0 * cos, 2 * s0 * cos**2 + 1
        elif kind == 2:
            s1 = np.sign(abs(cos) - 0.5)
            of_w, of_x = s1 * (12 * cos**2 - 3), 8 * s1 * cos**3 - (s0 * (1 + s1) - 2)
        else:
            s3 = s0 * np.sign(2 * cos**2 - 1)
            of_w, of_x = s3 * (32 * cos**3 - 16 * cos), s3 * (24 * cos**4 - 8 * cos**2 - 1) - (2 * s0 + s3 - 3)
        of_x = -of_x / length
        size = math.hypot(of_w, of_x)
        gradient[i] += diff[i, j] / (1 + share) * (of_w / size * w[j] + of_x / size * x[i])
        gradient[i] += diff[i, j] * share / (1 + share) * w[j]
    return gradient, diff.T @ x


def prior_boxes(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.prior_box_param
    (height, width), image = bottoms[0].shape[2:], bottoms[1].shape[2:]
    step = (p.step, p.step) if p.step else (image[0] / height, image[1] / width)
    boxes = []
    for i, j in np.ndindex(height, width):
        x, y = (j + p.offset) * step[1], (i + p.offset) * step[0]
        for w, h in zip(p.width, p.height, strict=True):
            box = [(x - w / 2) / image[1], (y - h / 2) / image[0], (x + w / 2) / image[1], (y + h / 2) / image[0]]
            boxes.append([min(max(v, 0), 1) for v in box] if p.clip else box)
    variance = list(p.variance) * (4 // len(p.variance)) if p.variance else [0.1] * 4
    return [np.array([boxes, [variance] * len(boxes)]).reshape(1, 2, -1)]
