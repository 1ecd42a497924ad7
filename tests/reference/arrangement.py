"""NumPy versions of the layers that move, select or sum values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def concat(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.concat_param
    return [np.concatenate(bottoms, axis=p.concat_dim if p.HasField("concat_dim") else p.axis)]


def slice_(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.slice_param
    cuts = list(p.slice_point) or len(param.top)
    return list(np.split(bottoms[0], cuts, axis=p.slice_dim if p.HasField("slice_dim") else p.axis))


def flatten(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x, p = bottoms[0], param.flatten_param
    start, end = p.axis % x.ndim, p.end_axis % x.ndim
    return [x.reshape(*x.shape[:start], int(np.prod(x.shape[start : end + 1])), *x.shape[end + 1 :])]


def reshaped_to(*shape: int) -> Any:
    """A reference for Reshape that knows the answer; −1 is the batch."""
    return lambda param, bottoms, blobs, phase: [bottoms[0].reshape(shape)]


def permute(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    order = list(param.permute_param.order)
    order += [axis for axis in range(bottoms[0].ndim) if axis not in order]
    return [np.transpose(bottoms[0], order)]


def tile(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    return [np.concatenate([bottoms[0]] * param.tile_param.tiles, axis=param.tile_param.axis)]


def crop(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    (x, like), p = bottoms, param.crop_param
    axis = p.axis % x.ndim
    offsets = list(p.offset) or [0]
    offsets = offsets * (x.ndim - axis) if len(offsets) == 1 else offsets
    for i, offset in enumerate(offsets, start=axis):
        x = np.take(x, range(offset, offset + like.shape[i]), axis=i)
    return [x]


def batch_reindex(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    return [np.stack([bottoms[0][int(i)] for i in bottoms[1]])]


def filter_(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    *items, selector = bottoms
    return [np.stack([row for row, keep in zip(x, selector.ravel(), strict=True) if keep]) for x in items]


def argmax(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x, p = bottoms[0], param.argmax_param

    def largest(row: Array) -> list[tuple[float, int]]:
        return sorted(((float(v), i) for i, v in enumerate(row)), reverse=True)[: p.top_k]

    if p.HasField("axis"):
        return [np.apply_along_axis(lambda row: [pair[0 if p.out_max_val else 1] for pair in largest(row)], p.axis, x)]
    y = np.zeros((len(x), 2 if p.out_max_val else 1, p.top_k, *(1,) * (x.ndim - 3)))
    for n, item in enumerate(x):
        for k, (value, index) in enumerate(largest(item.ravel())):
            y[n, 0, k] = index
            if p.out_max_val:
                y[n, 1, k] = value
    return [y]


def reduction(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x, p = bottoms[0], param.reduction_param
    axis = p.axis % x.ndim
    y = np.empty(x.shape[:axis])
    for index in np.ndindex(*y.shape):
        values = x[index].ravel()
        sums = {1: values.sum(), 2: np.abs(values).sum(), 3: np.square(values).sum(), 4: values.mean()}
        y[index] = p.coeff * sums[p.operation]
    return [y]


def nothing(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    return []


def parameter(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    return [blobs[0]]
