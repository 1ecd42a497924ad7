"""Slow versions of the loss layers and Accuracy: loops over items and labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FULL, VALID, BATCH_SIZE, NONE, PRE_FIXED = range(5)


def _normalizer(mode: int, outer: int, inner: int, valid: int, fixed: float = 1.0) -> float:
    return max(1.0, {FULL: outer * inner, VALID: valid, BATCH_SIZE: outer, NONE: 1, PRE_FIXED: fixed}[mode])


def _rows(x: Array, axis: int) -> tuple[Array, int, int]:
    """Classes last, one row per position in the order of labels; and the sizes before and after the class axis."""
    axis %= x.ndim
    outer, inner = int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis + 1 :]))
    return np.moveaxis(x.reshape(outer, x.shape[axis], inner), 1, 2).reshape(outer * inner, -1), outer, inner


def softmax_loss(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x, p = bottoms[0], param.loss_param
    axis = param.softmax_param.axis
    rows, outer, inner = _rows(x, axis)
    total, valid = 0.0, 0
    for row, label in zip(rows, bottoms[1].ravel().astype(int), strict=True):
        if p.HasField("ignore_label") and label == p.ignore_label:
            continue
        raised = np.exp(row - row.max())
        total -= math.log(max(raised[label] / raised.sum(), np.finfo(np.float32).tiny))
        valid += 1
    mode = p.normalization
    if p.HasField("normalize") and not p.HasField("normalization"):
        mode = VALID if p.normalize else BATCH_SIZE
    raised = np.exp(x - x.max(axis=axis, keepdims=True))
    loss = np.array(total / _normalizer(mode, outer, inner, valid, p.pre_fixed_normalizer))
    return [loss, raised / raised.sum(axis=axis, keepdims=True)][: len(param.top)]


def sigmoid_cross_entropy(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.loss_param
    total, valid = 0.0, 0
    for x, t in zip(bottoms[0].ravel(), bottoms[1].ravel(), strict=True):
        if p.HasField("ignore_label") and int(t) == p.ignore_label:
            continue
        s = 1 / (1 + math.exp(-x))
        total -= t * math.log(s) + (1 - t) * math.log(1 - s)
        valid += 1
    mode = BATCH_SIZE
    if p.HasField("normalization"):
        mode = p.normalization
    elif p.HasField("normalize") and p.normalize:
        mode = VALID
    outer = len(bottoms[0])
    return [np.array(total / _normalizer(mode, outer, bottoms[0].size // outer, valid))]


def hinge(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    total = 0.0
    for row, label in zip(bottoms[0].reshape(len(bottoms[0]), -1), bottoms[1].ravel().astype(int), strict=True):
        for j, score in enumerate(row):
            margin = max(0.0, 1 - score if j == label else 1 + score)
            total += margin if param.hinge_loss_param.norm == 1 else margin**2
    return [np.array(total / len(bottoms[0]))]


def multinomial_logistic(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    rows = bottoms[0].reshape(len(bottoms[0]), -1)
    losses = [-math.log(max(r[int(t)], 1e-20)) for r, t in zip(rows, bottoms[1].ravel(), strict=True)]
    return [np.array(sum(losses) / len(rows))]


def infogain(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    rows = bottoms[0].reshape(len(bottoms[0]), -1)
    matrix = bottoms[2].reshape(rows.shape[1], rows.shape[1])
    total = 0.0
    for row, label in zip(rows, bottoms[1].ravel(), strict=True):
        total -= sum(matrix[int(label), j] * math.log(max(p, 1e-20)) for j, p in enumerate(row))
    return [np.array(total / len(rows))]


def euclidean(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    return [np.array(np.square(bottoms[0].ravel() - bottoms[1].ravel()).sum() / 2 / len(bottoms[0]))]


def smooth_l1(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    inside = bottoms[2].ravel() if len(bottoms) > 2 else np.ones(bottoms[0].size)
    outside = bottoms[3].ravel() if len(bottoms) > 3 else np.ones(bottoms[0].size)
    sharpness = param.smooth_l1_loss_param.sigma**2
    total = 0.0
    for a, b, w_in, w_out in zip(bottoms[0].ravel(), bottoms[1].ravel(), inside, outside, strict=True):
        d = abs(w_in * (a - b))
        total += w_out * (0.5 * sharpness * d * d if d < 1 / sharpness else d - 0.5 / sharpness)
    return [np.array(total / len(bottoms[0]))]


def contrastive(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.contrastive_loss_param
    total = 0.0
    for a, b, like in zip(*bottoms[:2], bottoms[2].ravel(), strict=True):
        squared = float(np.square(a - b).sum())
        if like:
            total += squared
        elif p.legacy_version:
            total += max(p.margin - squared, 0.0)
        else:
            total += max(p.margin - math.sqrt(squared), 0.0) ** 2
    return [np.array(total / len(bottoms[0]) / 2)]


def accuracy(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.accuracy_param
    rows, _, _ = _rows(bottoms[0], p.axis)
    classes = rows.shape[1]
    hits, seen = np.zeros(classes), np.zeros(classes)
    for row, label in zip(rows, bottoms[1].ravel().astype(int), strict=True):
        if p.HasField("ignore_label") and label == p.ignore_label:
            continue
        best = sorted(((float(v), i) for i, v in enumerate(row)), reverse=True)[: p.top_k]
        hits[label] += label in [i for _, i in best]
        seen[label] += 1
    per_class = np.array([h / s if s else 0.0 for h, s in zip(hits, seen, strict=True)])
    return [np.array(hits.sum() / seen.sum()), per_class][: len(param.top)]
