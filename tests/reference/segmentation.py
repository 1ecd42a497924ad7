"""Slow versions of the losses and scores of segmentation nets: loops over items and pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def balanced_cross_entropy(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    total = 0.0
    for x, target in zip(bottoms[0], bottoms[1], strict=True):
        x, target = x.ravel(), target.ravel()
        ones, zeros = (target == 1).sum(), (target == 0).sum()
        for score, label in zip(x, target, strict=True):
            if label == 1:
                total += math.log(1 + math.exp(-score)) * zeros / (ones + zeros)
            elif label == 0:
                total += math.log(1 + math.exp(score)) * ones / (ones + zeros)
    return [np.array(total / len(bottoms[0]))]


def balanced_cross_entropy_gradient(x: Array, target: Array) -> Array:
    """Items along the first axis; the gradient of the loss with weight 1."""
    gradient = np.empty_like(x)
    for n in range(len(x)):
        ones, zeros = (target[n] == 1).sum(), (target[n] == 0).sum()
        for place in np.ndindex(*x.shape[1:]):
            label = target[n][place]
            slope = 1 / (1 + math.exp(-x[n][place])) - label
            if label in (0, 1):
                slope *= (zeros if label == 1 else ones) / (ones + zeros)
            gradient[n][place] = slope / len(x)
    return gradient


def confusion(param: Any, scores: Array, labels: Array) -> NDArray[np.int64]:
    """How many pixels of a class (row) are found to be of a class (column)."""
    classes = scores.shape[1]
    matrix = np.zeros((classes, classes), np.int64)
    for n, i, j in np.ndindex(len(scores), *scores.shape[2:]):
        label = int(labels[n, 0, i, j])
        if label in param.seg_accuracy_param.ignore_label:
            continue
        best = max(range(classes), key=lambda c: (scores[n, c, i, j], c))
        matrix[label, best] += 1
    return matrix


def scores_of(matrix: NDArray[np.int64]) -> Array:
    classes = range(len(matrix))
    recalls = [matrix[c, c] / matrix[c].sum() for c in classes if matrix[c].sum()]
    unions = [matrix[c].sum() + matrix[:, c].sum() - matrix[c, c] for c in classes]
    overlaps = [matrix[c, c] / unions[c] if unions[c] else 1.0 for c in classes]
    accuracy = np.trace(matrix) / matrix.sum() if matrix.sum() else 0.0
    return np.array([accuracy, np.mean(recalls) if recalls else 0.0, np.mean(overlaps)])


def seg_accuracy(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    scores, labels = (x.reshape(*x.shape, *(1,) * (4 - x.ndim)) for x in bottoms)
    return [scores_of(confusion(param, scores, labels)).reshape(1, 1, 1, 3)]
