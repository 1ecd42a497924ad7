"""Slow versions of the layers that process one value, or one row of values, at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _each(function: Any, x: Array) -> list[Array]:
    return [np.array([function(float(v)) for v in x.ravel()]).reshape(x.shape)]


def relu(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    slope = param.relu_param.negative_slope
    return _each(lambda v: max(v, 0.0) + slope * min(v, 0.0), bottoms[0])


def prelu(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    y = bottoms[0].copy()
    for index in np.ndindex(*y.shape):
        slope = blobs[0] if param.prelu_param.channel_shared else blobs[0][index[1]]
        y[index] *= 1 if y[index] > 0 else float(slope)
    return [y]


def elu(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    alpha = param.elu_param.alpha
    return _each(lambda v: v if v > 0 else alpha * (math.exp(v) - 1), bottoms[0])


def sigmoid(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    return _each(lambda v: 1 / (1 + math.exp(-v)), bottoms[0])


def tanh(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    return _each(math.tanh, bottoms[0])


def bnll(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    return _each(lambda v: math.log(1 + math.exp(v)), bottoms[0])


def threshold(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    return _each(lambda v: float(v > param.threshold_param.threshold), bottoms[0])


def absval(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    return _each(abs, bottoms[0])


def power(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.power_param
    return _each(lambda v: (p.shift + p.scale * v) ** p.power, bottoms[0])


def exp(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.exp_param
    base = math.e if p.base == -1 else p.base
    return _each(lambda v: base ** (p.shift + p.scale * v), bottoms[0])


def log(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.log_param
    base = math.e if p.base == -1 else p.base
    return _each(lambda v: math.log(p.shift + p.scale * v, base), bottoms[0])


def identity(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    return [bottoms[0]]


def eltwise(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.eltwise_param
    coeffs = list(p.coeff) or [1.0] * len(bottoms)
    y = np.empty_like(bottoms[0])
    for index in np.ndindex(*y.shape):
        values = [float(b[index]) for b in bottoms]
        weighted = sum(c * v for c, v in zip(coeffs, values, strict=True))
        y[index] = [math.prod(values), weighted, max(values)][p.operation]
    return [y]


def _operand(axis: int, x: Array, operand: Array) -> Array:
    """`operand` repeated to the shape of `x`, its axes matching x's from `axis` on."""
    axis = axis % x.ndim if operand.ndim else 0
    y = np.empty_like(x)
    for index in np.ndindex(*x.shape):
        y[index] = operand[index[axis : axis + operand.ndim]]
    return y


def scale(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x, p = bottoms[0], param.scale_param
    y = x * _operand(p.axis, x, bottoms[1] if len(bottoms) > 1 else blobs[0])
    return [y + _operand(p.axis, x, blobs[-1]) if p.bias_term else y]


def bias(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x = bottoms[0]
    return [x + _operand(param.bias_param.axis, x, bottoms[1] if len(bottoms) > 1 else blobs[0])]


def inner_product(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x, p = bottoms[0], param.inner_product_param
    axis = p.axis % x.ndim
    weight = blobs[0].T if p.transpose else blobs[0]
    y = np.empty((*x.shape[:axis], p.num_output))
    for index in np.ndindex(*x.shape[:axis]):
        for o in range(p.num_output):
            y[(*index, o)] = float(weight[o] @ x[index].ravel()) + (blobs[1][o] if p.bias_term else 0)
    return [y]


def embed(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.embed_param
    rows = [blobs[0][int(i)] + (blobs[1] if p.bias_term else 0) for i in bottoms[0].ravel()]
    return [np.array(rows).reshape(*bottoms[0].shape, p.num_output)]


def softmax(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x = bottoms[0]
    raised = np.exp(x - x.max(axis=param.softmax_param.axis, keepdims=True))
    return [raised / raised.sum(axis=param.softmax_param.axis, keepdims=True)]


def batch_norm(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x, p = bottoms[0], param.batch_norm_param
    stored = p.use_global_stats if p.HasField("use_global_stats") else phase == 1
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        mean, variance = x[:, c].mean(), x[:, c].var()
        if stored:
            weight = blobs[2][0]
            mean, variance = (blobs[0][c] / weight, blobs[1][c] / weight) if weight else (0.0, 0.0)
        y[:, c] = (x[:, c] - mean) / math.sqrt(variance + p.eps)
    return [y]


def mvn(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.mvn_param
    x = bottoms[0].reshape([*bottoms[0].shape, 1, 1, 1][:4])
    y = np.empty_like(x)
    for index in np.ndindex(*x.shape[: 1 if p.across_channels else 2]):
        y[index] = x[index] - x[index].mean()
        if p.normalize_variance:
            y[index] /= x[index].std() + p.eps
    return [y]
