"""Slow versions of the layers that slide a window over an image, as loops over every window and pixel."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _per_axis(param: Any, field: str, stem: str, axes: int, default: int) -> list[int]:
    if stem and (param.HasField(f"{stem}_h") or param.HasField(f"{stem}_w")):
        return [getattr(param, f"{stem}_h"), getattr(param, f"{stem}_w")]
    given = list(getattr(param, field)) or [default]
    return given * axes if len(given) == 1 else given


def geometry(param: Any, axes: int) -> tuple[list[int], list[int], list[int], list[int]]:
    return (
        _per_axis(param, "kernel_size", "kernel", axes, 0),
        _per_axis(param, "stride", "stride", axes, 1),
        _per_axis(param, "pad", "pad", axes, 0),
        _per_axis(param, "dilation", "", axes, 1),
    )


def _by_pixel(array: Array) -> Array:
    """A view of N×C×H×W… as H×W×…×N×C, so that a pixel (or a tap of a kernel) is one index."""
    return np.moveaxis(array, (0, 1), (-2, -1))


def convolution(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    """Every output is a sum over the group's channels and the window's pixels that are in the image."""
    conv = param.convolution_param
    tops = []
    for x in bottoms:
        channel_axis = conv.axis % x.ndim
        lead, image = x.shape[:channel_axis], x.reshape(-1, *x.shape[channel_axis:])
        sizes = image.shape[2:]
        kernel, stride, pad, dilation = geometry(conv, len(sizes))
        out = [
            (n + 2 * p - (d * (k - 1) + 1)) // s + 1
            for n, k, s, p, d in zip(sizes, kernel, stride, pad, dilation, strict=True)
        ]
        weight, group = blobs[0], conv.group
        per_group_in, per_group_out = image.shape[1] // group, conv.num_output // group
        y = np.zeros((image.shape[0], conv.num_output, *out))
        pixels, results, taps = _by_pixel(image), _by_pixel(y), _by_pixel(weight)
        for o in range(conv.num_output):
            channels = slice((o // per_group_out) * per_group_in, (o // per_group_out + 1) * per_group_in)
            for at in itertools.product(*map(range, out)):
                for tap in itertools.product(*map(range, kernel)):
                    where = [a * s - p + t * d for a, s, p, t, d in zip(at, stride, pad, tap, dilation, strict=True)]
                    if all(0 <= w < n for w, n in zip(where, sizes, strict=True)):
                        results[at][:, o] += pixels[tuple(where)][:, channels] @ taps[tap][o]
            if conv.bias_term:
                y[:, o] += blobs[1][o]
        tops.append(y.reshape(*lead, *y.shape[1:]))
    return tops


def deconvolution(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    """Every input pixel adds its filter to the output."""
    conv = param.convolution_param
    tops = []
    for x in bottoms:
        sizes = x.shape[2:]
        kernel, stride, pad, dilation = geometry(conv, len(sizes))
        out = [
            s * (n - 1) + d * (k - 1) + 1 - 2 * p
            for n, k, s, p, d in zip(sizes, kernel, stride, pad, dilation, strict=True)
        ]
        per_group_in, per_group_out = x.shape[1] // conv.group, conv.num_output // conv.group
        y = np.zeros((x.shape[0], conv.num_output, *out))
        pixels, results, taps = _by_pixel(x), _by_pixel(y), _by_pixel(blobs[0])
        for c in range(x.shape[1]):
            first = (c // per_group_in) * per_group_out
            for at in itertools.product(*map(range, sizes)):
                for tap in itertools.product(*map(range, kernel)):
                    where = [a * s - p + t * d for a, s, p, t, d in zip(at, stride, pad, tap, dilation, strict=True)]
                    if all(0 <= w < n for w, n in zip(where, out, strict=True)):
                        added = np.outer(pixels[at][:, c], taps[tap][c])
                        results[tuple(where)][:, first : first + per_group_out] += added
        if conv.bias_term:
            y += blobs[1].reshape(-1, *(1,) * len(sizes))
        tops.append(y)
    return tops


def im2col(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    """Channel (c, row, column of the kernel) of output pixel p is the pixel under that part of the kernel."""
    x = bottoms[0]
    sizes = x.shape[2:]
    kernel, stride, pad, dilation = geometry(param.convolution_param, len(sizes))
    out = [
        (n + 2 * p - (d * (k - 1) + 1)) // s + 1
        for n, k, s, p, d in zip(sizes, kernel, stride, pad, dilation, strict=True)
    ]
    y = np.zeros((x.shape[0], x.shape[1] * math.prod(kernel), *out))
    pixels, results = _by_pixel(x), _by_pixel(y)
    rows = itertools.product(range(x.shape[1]), *map(range, kernel))
    for row, (c, *tap) in enumerate(rows):
        for at in itertools.product(*map(range, out)):
            where = [a * s - p + t * d for a, s, p, t, d in zip(at, stride, pad, tap, dilation, strict=True)]
            if all(0 <= w < n for w, n in zip(where, sizes, strict=True)):
                results[at][:, row] = pixels[tuple(where)][:, c]
    return [y]


def pool(
    x: Array, kernel: list[int], stride: list[int], pad: list[int], method: int, train: bool, up: bool = True
) -> list[Array]:
    """MAX (0), AVE (1) or STOCHASTIC in test (2), and where the maxima are."""
    height, width = x.shape[2:]
    whole = math.ceil if up else math.floor
    down = whole((height + 2 * pad[0] - kernel[0]) / stride[0]) + 1
    across = whole((width + 2 * pad[1] - kernel[1]) / stride[1]) + 1
    if pad[0] or pad[1]:
        down -= (down - 1) * stride[0] >= height + pad[0]
        across -= (across - 1) * stride[1] >= width + pad[1]
    y = np.zeros((*x.shape[:2], down, across))
    mask = np.full(y.shape, -1.0)
    for n, c, i, j in np.ndindex(*y.shape):
        top, left = i * stride[0] - pad[0], j * stride[1] - pad[1]
        bottom, right = min(top + kernel[0], height + pad[0]), min(left + kernel[1], width + pad[1])
        size = (bottom - top) * (right - left)
        rows, columns = range(max(top, 0), min(bottom, height)), range(max(left, 0), min(right, width))
        inside = [(x[n, c, h, w], h * width + w) for h in rows for w in columns]
        values = np.array([value for value, _ in inside])
        if method == 0:
            y[n, c, i, j] = np.finfo(np.float32).min
            for value, where in inside:
                if value > y[n, c, i, j]:
                    y[n, c, i, j], mask[n, c, i, j] = value, where
        elif method == 1:
            y[n, c, i, j] = values.sum() / size if inside else 0
        else:
            assert not train, "drawn at random in training"
            y[n, c, i, j] = np.square(values).sum() / values.sum()
    return [y, mask]


def pooling(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.pooling_param
    kernel = [p.kernel_size] * 2 if p.HasField("kernel_size") else [p.kernel_h, p.kernel_w]
    stride = [p.stride_h, p.stride_w] if p.HasField("stride_h") else [p.stride] * 2
    pad = [p.pad_h, p.pad_w] if p.HasField("pad_h") else [p.pad] * 2
    if p.global_pooling:
        kernel = list(bottoms[0].shape[2:])
    up = p.ceil_mode and p.round_mode == 0
    return pool(bottoms[0], kernel, stride, pad, p.pool, phase == 0, up)[: len(param.top)]


def spp(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x, p = bottoms[0], param.spp_param
    levels = []
    for level in range(p.pyramid_height):
        kernel = [math.ceil(size / 2**level) for size in x.shape[2:]]
        pad = [(k * 2**level - size + 1) // 2 for k, size in zip(kernel, x.shape[2:], strict=True)]
        levels.append(pool(x, kernel, kernel, pad, p.pool, phase == 0)[0])
    if len(levels) == 1:
        return levels
    return [np.concatenate([y.reshape(len(x), -1) for y in levels], axis=1)]


def lrn(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    """Each value over a power of the squares around it, channel by channel or pixel by pixel."""
    x, p = bottoms[0], param.lrn_param
    half = p.local_size // 2
    if p.norm_region == 1:
        around = pool(np.square(x), [p.local_size] * 2, [1, 1], [half] * 2, 1, False)[0]
        return [x * (1 + p.alpha * around) ** -p.beta]
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        near = np.square(x[:, max(c - half, 0) : c + half + 1]).sum(axis=1)
        y[:, c] = x[:, c] * (p.k + p.alpha / p.local_size * near) ** -p.beta
    return [y]
