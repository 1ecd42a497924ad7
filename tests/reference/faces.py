"""Slow versions of caffe-windows' layers: loops in the order of its sources."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def unit_norm(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x = bottoms[0].reshape(*bottoms[0].shape, *(1,) * (4 - bottoms[0].ndim))
    unit, norms = np.empty_like(x), np.empty((len(x), 1, *x.shape[2:]))
    for n, i, j in np.ndindex(len(x), *x.shape[2:]):
        vector = x[n, :, i, j]
        if param.normalize_param.normalize_type == "L1":
            norms[n, 0, i, j] = sum(abs(v) for v in vector) + 1e-6
        else:
            norms[n, 0, i, j] = math.sqrt(sum(v * v for v in vector) + 1e-12)
        unit[n, :, i, j] = vector / norms[n, 0, i, j]
    return [unit, norms][: len(param.top)]


def flip(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x = bottoms[0].reshape(*bottoms[0].shape, *(1,) * (4 - bottoms[0].ndim))
    height, width = x.shape[2:]
    top = np.empty_like(x)
    for i in range(height):
        for j in range(width):
            row = height - 1 - i if param.flip_param.flip_height else i
            column = width - 1 - j if param.flip_param.flip_width else j
            top[:, :, i, j] = x[:, :, row, column]
    return [top.reshape(bottoms[0].shape)]


def _row_of_length_1(row: Array) -> Array:
    return row / math.sqrt(sum(v * v for v in row) + 1e-12)


def inner_distance(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.inner_distance_param
    x = bottoms[0]
    vectors = blobs[0] if len(bottoms) == 1 else bottoms[1].reshape(len(bottoms[1]), -1)
    if len(bottoms) == 1 and p.normalize:
        vectors = np.array([_row_of_length_1(row) for row in vectors])
    rows = x.reshape(-1, vectors.shape[1])
    top = np.zeros((len(rows), len(vectors)))
    for m, n in np.ndindex(*top.shape):
        for a, b in zip(rows[m], vectors[n], strict=True):
            top[m, n] += abs(a - b) if p.distance_type == "L1" else (a - b) ** 2
    return [top.reshape(*x.shape[: p.axis], len(vectors))]


def inner_product(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.inner_product_param
    weights = blobs[0] if len(bottoms) == 1 else bottoms[1].reshape(len(bottoms[1]), -1)
    if len(bottoms) == 1 and p.normalize:
        weights = np.array([_row_of_length_1(row) for row in weights])
    top = bottoms[0].reshape(-1, weights.shape[1]) @ weights.T
    if p.bias_term:
        top = top + (bottoms[2].ravel() if len(bottoms) > 2 else blobs[-1])
    return [top.reshape(*bottoms[0].shape[: p.axis], len(weights))]


def channel_scale(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p, (x, scale) = param.channel_scale_param, bottoms
    kept = blobs[0][0] if p.global_scale else 0.0
    if p.global_scale and phase == 0:
        mean = np.abs(scale).mean()
        kept = mean if kept < 0 else kept * 0.99 + mean * 0.01
        kept = max(min(kept, p.max_global_scale), p.min_global_scale)
    top = np.empty_like(x)
    for n, c in np.ndindex(*x.shape[:2]):
        factor = kept if p.global_scale else scale[n].reshape(x.shape[2:])
        top[n, c] = x[n, c] * (factor if p.do_forward else 1)
    return [top, np.array([kept])][: len(param.top)]


def label_specific_add(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p, top = param.label_specific_add_param, bottoms[0].copy()
    bias = p.bias
    if p.HasField("bias_base"):
        bias = p.bias_base + (1 + p.bias_gamma * p.iteration) ** p.bias_power - 1
        bias = min(max(bias, p.bias_min), p.bias_max)
    for row, label in zip(top.reshape(len(top), -1), bottoms[1].ravel(), strict=True):
        if phase == 0 and row[int(label)] > -bias:
            row[int(label)] += bias
    return [top, np.array([bias])][: len(param.top)]


def contrastive(param: Any, bottoms: list[Array], intra: float = 0.0) -> tuple[Array, Array, Array, float]:
    """Loss, its gradient, the second top, and the next running mean."""
    p = param.general_contrastive_loss_param
    x = (bottoms[2] if len(bottoms) > 2 else bottoms[0]).reshape(len(bottoms[0]), -1)
    labels = bottoms[1].ravel().astype(int)
    num, dim = x.shape
    margin = p.negative_margin + (intra if p.add_intra_mae else 0)
    diff, grad = np.zeros_like(x), np.zeros_like(x)
    positive, negative, chosen, largest = 0.0, 0.0, 0, [0] * num
    for i in range(num):
        for j in range(dim):
            if j == labels[i]:
                value = min(p.positive_outlier_thresh, max(0.0, x[i, j] - p.positive_margin))
                diff[i, j] = value * p.positive_weight
                positive += value
                if p.max_positive_only and diff[i, j] < diff[chosen, labels[chosen]]:
                    chosen = i
            elif x[i, j] < margin:
                diff[i, j] = p.negative_weight * (math.exp(-x[i, j]) if p.exp_negative_weight else margin - x[i, j])
                negative += margin - x[i, j]
                if p.max_negative_only and diff[i, j] > diff[i, largest[i]]:
                    largest[i] = j
        if p.positive_first and x[i, labels[i]] > p.positive_upper_bound:
            diff[i] = np.where(np.arange(dim) == labels[i], diff[i], 0)
    for i in range(num):
        for j in range(dim):
            if j == labels[i] and p.max_positive_only and i != chosen:
                diff[i, j] = 0
            if j != labels[i] and p.max_negative_only and j != largest[i]:
                diff[i, j] = 0
    total = 0.0
    for i in range(num):
        if p.positive_first and x[i, labels[i]] > p.positive_upper_bound:
            grad[i, labels[i]] = p.positive_weight
            continue
        for j in range(dim):
            if j == labels[i]:
                inside = p.positive_margin < x[i, j] < p.positive_outlier_thresh
                if inside and not (p.max_positive_only and i != chosen):
                    grad[i, j] = p.positive_weight
            elif x[i, j] < margin and not (p.max_negative_only and j != largest[i]):
                size = p.negative_weight * (math.exp(-x[i, j]) if p.exp_negative_weight else 1)
                grad[i, j] = -size
                total += size
    if p.HasField("normalize_negative"):
        total = abs(total) / p.normalize_negative / num
        if total > p.positive_weight:
            for i in range(num):
                grad[i] = [g if j == labels[i] else g / total for j, g in enumerate(grad[i])]
    intra = min(0.99 * intra + 0.01 * positive / num, p.max_negative_margin)
    means = [positive / num, negative / num / (dim - 1), *([intra] if p.add_intra_mae else [])]
    return np.array(np.abs(diff).sum() / num), (grad / num).reshape(bottoms[0].shape), np.array(means), intra


def triplet(param: Any, bottoms: list[Array]) -> tuple[Array, Array, Array]:
    """Loss, its gradient, and the second top."""
    p = param.general_triplet_loss_param
    x, labels = bottoms[0].reshape(len(bottoms[0]), -1), bottoms[1].ravel().astype(int)
    num, dim = x.shape
    loss, positive, negative = 0.0, 0.0, 0.0
    grad = np.zeros_like(x)
    for i in range(num):
        same = x[i, labels[i]]
        positive += same
        negative += x[i].sum() - same
        near = [j for j in range(dim) if j != labels[i] and same + p.margin > x[i, j]]
        if p.hardest_only and near:
            near = [max(near, key=lambda j: same + p.margin - x[i, j])]
        if p.positive_first and same > p.positive_upper_bound:
            grad[i, labels[i]] = p.positive_weight
        else:
            loss += sum((same + p.margin - x[i, j]) * p.negative_weight for j in near)
            for j in near:
                grad[i, j] = -p.negative_weight
            if near or p.add_center_loss:
                grad[i, labels[i]] = p.positive_weight
        if len(bottoms) > 2:
            grad[i] *= bottoms[2].ravel()[i]
    means = np.array([positive / num, negative / num / (dim - 1)])
    return np.array(loss / num), (grad / num).reshape(bottoms[0].shape), means


def general_contrastive_loss(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    loss, _, means, _ = contrastive(param, bottoms)
    return [loss, means][: len(param.top)]


def general_triplet_loss(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    loss, _, means = triplet(param, bottoms)
    return [loss, means][: len(param.top)]
