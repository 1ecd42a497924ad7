"""Normalize, slowly: one group after another, in double precision, with the forward and gradient of Caffe's layer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def _groups(shape: tuple[int, ...], across_spatial: bool) -> Iterator[tuple[slice | int, ...]]:
    """Index tuples, each of which selects the elements that share one norm, channels first."""
    for item in range(shape[0]):
        if across_spatial:
            yield (item,)
        else:
            for position in np.ndindex(*shape[2:]):
                yield (item, slice(None), *position)


def _scales(scale: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The scale of every element."""
    per_channel = np.broadcast_to(scale.astype("f8").reshape(-1), (shape[1],))
    return np.broadcast_to(per_channel.reshape(1, -1, *[1] * (len(shape) - 2)), shape)


def forward(x: np.ndarray, scale: np.ndarray, across_spatial: bool, eps: float) -> np.ndarray:
    x, s = x.astype("f8"), _scales(scale, x.shape)
    y = np.zeros_like(x)
    for group in _groups(x.shape, across_spatial):
        y[group] = s[group] * x[group] / np.sqrt(eps + (x[group] ** 2).sum())
    return y


def backward(
    dy: np.ndarray, x: np.ndarray, scale: np.ndarray, across_spatial: bool, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """dx and dscale. dx leaves the scale out of the projection, as Caffe does."""
    dy, x, s = dy.astype("f8"), x.astype("f8"), _scales(scale, x.shape)
    dx, dscale = np.zeros_like(x), np.zeros_like(x)
    for group in _groups(x.shape, across_spatial):
        norm = np.sqrt(eps + (x[group] ** 2).sum())
        projection = x[group] * (x[group] * dy[group]).sum() / norm**2
        dx[group] = s[group] * (dy[group] - projection) / norm
        dscale[group] = dy[group] * x[group] / norm
    per_channel = dscale.sum(axis=(0, *range(2, x.ndim)))
    return dx, per_channel if scale.ndim else per_channel.sum()
