"""The focal loss of softmax, slowly: one position at a time, by the formulas of its forks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.reference import losses

Array = NDArray[np.float64]
TINY = float(np.finfo(np.float32).tiny)


def _softmax(x: NDArray[Any]) -> list[float]:
    raised = [math.exp(float(v) - float(max(x))) for v in x]
    return [v / sum(raised) for v in raised]


def focal_loss(x: NDArray[Any], label: int, alpha: float, gamma: float) -> float:
    p = _softmax(x)[label]
    return float(-alpha * (1 - p) ** gamma * math.log(max(p, TINY)))


def focal_gradient(x: NDArray[Any], label: int, alpha: float, gamma: float) -> Array:
    """By the scores of one position. Not for a probability of 1, where the formulas divide by zero."""
    prob = _softmax(x)
    p = prob[label]
    log_p = math.log(max(p, TINY))
    others = (1 - p) ** gamma - gamma * (1 - p) ** (gamma - 1) * p * log_p
    gradient = [alpha * others * q for q in prob]
    gradient[label] = alpha * (1 - p) ** gamma * (gamma * p * log_p + p - 1)
    return np.array(gradient)


def focal_loss_layer(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    """As SoftmaxWithLoss, with the factor."""
    focal, loss = param.focal_loss_param, param.loss_param
    axis = focal.axis if focal.HasField("axis") else param.softmax_param.axis
    moved = np.moveaxis(bottoms[0], axis, -1)
    rows, labels = moved.reshape(-1, moved.shape[-1]), bottoms[1].ravel().astype(int)
    kept = [i for i, label in enumerate(labels) if not (loss.HasField("ignore_label") and label == loss.ignore_label)]
    total = sum(focal_loss(rows[i], labels[i], focal.alpha, focal.gamma) for i in kept)
    mode = losses.VALID if loss.HasField("normalize") and loss.normalize else loss.normalization
    axis %= bottoms[0].ndim
    outer = int(np.prod(bottoms[0].shape[:axis]))
    by = {losses.FULL: len(rows), losses.VALID: len(kept), losses.BATCH_SIZE: outer, losses.NONE: 1}[mode]
    prob = np.array([_softmax(row) for row in rows]).reshape(moved.shape)
    return [np.array(total / max(by, 1)), np.moveaxis(prob, -1, axis)][: len(param.top)]
