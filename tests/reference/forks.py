"""Slow versions of other forks' layers: loops over regions, cells and pixels, in the order of the original sources."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.reference import losses

Array = NDArray[np.float64]


def relu6(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    slope = param.relu6_param.negative_slope
    return [np.vectorize(lambda x: min(max(x, 0.0) + slope * min(x, 0.0), 6.0))(bottoms[0])]


def clip(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.clip_param
    return [np.vectorize(lambda x: max(p.min, min(x, p.max)))(bottoms[0])]


def swish(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    return [np.vectorize(lambda x: x / (1 + math.exp(-param.swish_param.beta * x)))(bottoms[0])]


def selu(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    factor, alpha = getattr(param.selu_param, "lambda"), param.selu_param.alpha
    return [np.vectorize(lambda x: factor * (x if x > 0 else alpha * (math.exp(x) - 1)))(bottoms[0])]


def last(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    return [bottoms[-1].reshape(bottoms[0].shape)]


def axpy(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    a, x, top = bottoms[0], bottoms[1], bottoms[2].copy()
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            top[n, c] += a[n, c].item() * x[n, c]
    return [top]


def shuffle_channel(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x, rows = bottoms[0], param.shuffle_channel_param.group
    top, columns = np.empty_like(x), x.shape[1] // rows
    for i in range(rows):
        for j in range(columns):
            top[:, j * rows + i] = x[:, i * columns + j]
    return [top]


def reorg(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    """Flat indices, as darknet computes them."""
    x, s, reverse = bottoms[0], param.reorg_param.stride, param.reorg_param.reverse
    n, c, h, w = x.shape
    flat, top = x.ravel(), np.empty(x.size)
    out_c = c // (s * s)
    for b in range(n):
        for k in range(c):
            for j in range(h):
                for i in range(w):
                    inner = i + w * (j + h * (k + c * b))
                    offset = k // out_c
                    column, row = i * s + offset % s, j * s + offset // s
                    outer = column + w * s * (row + h * s * (k % out_c + out_c * b))
                    if reverse:
                        top[outer] = flat[inner]
                    else:
                        top[inner] = flat[outer]
    shape = (n, out_c, h * s, w * s) if reverse else (n, c * s * s, h // s, w // s)
    return [top.reshape(shape)]


def _round(x: float) -> int:
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


def roi_cells(param: Any, shape: tuple[int, ...], region: Array) -> list[tuple[int, int, int, int, int, int]]:
    """(cell's row, column, first row, end row, first column, end column) of a region's cells."""
    p = param.roi_pooling_param
    x1, y1, x2, y2 = region.ravel()[1:]
    wide, tall = (x2 - x1 + 1) * p.pad_ratio, (y2 - y1 + 1) * p.pad_ratio
    x1, y1, x2, y2 = (_round(v * p.spatial_scale) for v in (x1 - wide, y1 - tall, x2 + wide, y2 + tall))
    tall, wide = max(y2 - y1 + 1, 1) / p.pooled_h, max(x2 - x1 + 1, 1) / p.pooled_w
    cells = []
    for i in range(p.pooled_h):
        for j in range(p.pooled_w):
            rows = [min(max(v + y1, 0), shape[2]) for v in (math.floor(i * tall), math.ceil((i + 1) * tall))]
            columns = [min(max(v + x1, 0), shape[3]) for v in (math.floor(j * wide), math.ceil((j + 1) * wide))]
            cells.append((i, j, *rows, *columns))
    return cells


def roi_pooling(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x, regions = bottoms
    p = param.roi_pooling_param
    top = np.zeros((len(regions), x.shape[1], p.pooled_h, p.pooled_w))
    for r, region in enumerate(regions):
        for i, j, y1, y2, x1, x2 in roi_cells(param, x.shape, region):
            if y2 > y1 and x2 > x1:
                top[r, :, i, j] = x[int(region.flat[0]), :, y1:y2, x1:x2].max(axis=(1, 2))
    return [top]


def roi_pooling_gradient(param: Any, bottoms: list[Array], diff: Array) -> Array:
    """Each cell's diff goes to the first maximum in reading order."""
    x, regions = bottoms
    grad = np.zeros_like(x)
    for r, region in enumerate(regions):
        image = int(region.flat[0])
        for i, j, y1, y2, x1, x2 in roi_cells(param, x.shape, region):
            for c in range(x.shape[1]):
                best, where = -math.inf, None
                for y in range(y1, y2):
                    for z in range(x1, x2):
                        if x[image, c, y, z] > best:
                            best, where = x[image, c, y, z], (y, z)
                if where:
                    grad[(image, c, *where)] += diff[r, c, i, j]
    return grad


def psroi_pooling(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x, regions = bottoms
    p = param.psroi_pooling_param
    k, height, width = p.group_size, *x.shape[2:]
    top = np.zeros((len(regions), p.output_dim, k, k))
    for r, region in enumerate(regions):
        image, x1, y1, x2, y2 = (_round(v) for v in region.ravel())
        left, above = x1 * p.spatial_scale, y1 * p.spatial_scale
        wide = max((x2 + 1) * p.spatial_scale - left, 0.1) / k
        tall = max((y2 + 1) * p.spatial_scale - above, 0.1) / k
        for i in range(k):
            for j in range(k):
                rows = [
                    min(max(v, 0), height) for v in (math.floor(i * tall + above), math.ceil((i + 1) * tall + above))
                ]
                columns = [
                    min(max(v, 0), width) for v in (math.floor(j * wide + left), math.ceil((j + 1) * wide + left))
                ]
                if rows[1] <= rows[0] or columns[1] <= columns[0]:
                    continue
                for c in range(p.output_dim):
                    plane = x[image, (c * k + i) * k + j]
                    top[r, c, i, j] = plane[rows[0] : rows[1], columns[0] : columns[1]].mean()
    return [top]


def softmax_loss_ohem(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    """SoftmaxWithLoss's tops, and the loss at each position."""
    tops = losses.softmax_loss(param, bottoms, blobs, phase)
    prob = np.moveaxis(np.exp(bottoms[0]) / np.exp(bottoms[0]).sum(axis=1, keepdims=True), 1, -1)
    each = []
    p = param.loss_param
    for row, label in zip(prob.reshape(-1, prob.shape[-1]), bottoms[1].ravel().astype(int), strict=True):
        ignored = p.HasField("ignore_label") and label == p.ignore_label
        each.append(0.0 if ignored else -math.log(row[label]))
    return [*tops, np.reshape(each, bottoms[1].shape)][: len(param.top)]


def smooth_l1_loss_ohem(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    a, b = bottoms[:2]
    d = np.abs((a - b) * (bottoms[2] if len(bottoms) > 2 else 1))
    each = np.where(d < 1, 0.5 * d * d, d - 0.5).reshape(a.shape[0], a.shape[1], *(a.shape[2:] or (1, 1)))
    p, positions = param.loss_param, each[:, 0].size
    divisor = {
        p.FULL: positions,
        p.VALID: positions,
        p.BATCH_SIZE: len(a),
        p.NONE: 1,
        p.PRE_FIXED: p.pre_fixed_normalizer,
    }
    mode = p.normalization
    if p.HasField("normalize") and not p.HasField("normalization"):
        mode = p.VALID if p.normalize else p.BATCH_SIZE
    return [np.array(each.sum() / max(divisor[mode], 1)), each.sum(axis=1, keepdims=True)][: len(param.top)]


def box_annotator_ohem(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    regions, loss, labels, weights = (b.reshape(*b.shape, *(1,) * (4 - b.ndim)) for b in bottoms)
    p = param.box_annotator_ohem_param
    kept_labels, kept_weights = np.full(labels.shape, float(p.ignore_label)), np.zeros(weights.shape)
    left: dict[int, int] = {}
    area = labels.shape[2] * labels.shape[3]
    for index in sorted(range(loss.size), key=lambda i: (-loss.flat[i], i)):
        n, (y, x) = index // area, divmod(index % area, labels.shape[3])
        image = int(regions[n, 0, y, x])
        if left.setdefault(image, p.roi_per_img) > 0:
            left[image] -= 1
            kept_labels[n, 0, y, x] = labels[n, 0, y, x]
            kept_weights[n, :, y, x] = weights[n, :, y, x]
    return [kept_labels, kept_weights]


def interp(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.interp_param
    x = bottoms[0]
    x = x[:, :, -p.pad_beg : x.shape[2] + p.pad_end, -p.pad_beg : x.shape[3] + p.pad_end]
    sizes = list(x.shape[2:])
    if p.use_blob_size:
        out = list(bottoms[1].shape[2:])
    elif p.HasField("height") and p.HasField("width") and p.HasField("zoom_factor") == p.HasField("shrink_factor"):
        out = [p.height, p.width]
    else:
        out = [(s - 1) // p.shrink_factor + 1 for s in sizes]
        out = [s + (s - 1) * (p.zoom_factor - 1) for s in out]
    top = np.zeros((*x.shape[:2], *out))
    step = [(s - 1) / (o - 1) if o > 1 else 0.0 for s, o in zip(sizes, out, strict=True)]
    for i in range(out[0]):
        for j in range(out[1]):
            y, z = i * step[0], j * step[1]
            y0, z0 = min(int(y + 1e-9), sizes[0] - 1), min(int(z + 1e-9), sizes[1] - 1)
            y1, z1 = min(y0 + 1, sizes[0] - 1), min(z0 + 1, sizes[1] - 1)
            fy, fz = y - y0, z - z0
            top[:, :, i, j] = (1 - fy) * ((1 - fz) * x[:, :, y0, z0] + fz * x[:, :, y0, z1]) + fy * (
                (1 - fz) * x[:, :, y1, z0] + fz * x[:, :, y1, z1]
            )
    return [top]


def upsample(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p, x = param.upsample_param, bottoms[0]
    if len(bottoms) == 1:
        scale = p.scale if p.HasField("scale") else 1
        return [x.repeat(scale, 2).repeat(scale, 3)]
    if p.HasField("upsample_h"):
        size = (p.upsample_h, p.upsample_w)
    else:
        scales = (p.scale_h, p.scale_w) if p.HasField("scale_h") else (p.scale, p.scale)
        size = (x.shape[2] * scales[0] - p.pad_out_h, x.shape[3] * scales[1] - p.pad_out_w)
    top = np.zeros((*x.shape[:2], size[0] * size[1]))
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            for value, where in zip(x[n, c].ravel(), bottoms[1][n, c].ravel(), strict=True):
                top[n, c, int(where)] = value
    return [top.reshape(*x.shape[:2], *size)]


def bn(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p, x = param.bn_param, bottoms[0]
    segnet = p.HasField("scale_filler") or p.HasField("shift_filler") or p.HasField("bn_mode")
    top, means, variances = np.empty_like(x), [], []
    for c in range(x.shape[1]):
        plane = x[:, c]
        if segnet and p.bn_mode == p.INFERENCE:
            top[:, c] = plane * blobs[0].flat[c] + blobs[1].flat[c]
            continue
        mean, variance = float(plane.mean()), float(np.square(plane).mean() - plane.mean() ** 2)
        if not segnet and (p.frozen or phase == 1):
            mean, variance = blobs[2].flat[c], blobs[3].flat[c]
        means.append(mean)
        variances.append(variance)
        deviation = math.sqrt(variance + (1e-9 if segnet else p.eps))
        top[:, c] = (plane - mean) / deviation * blobs[0].flat[c] + blobs[1].flat[c]
    return [top, np.reshape(means, (1, -1, 1, 1)), np.reshape(variances, (1, -1, 1, 1))][: len(param.top)]


def proposal(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.proposal_param
    rows, row_scores = [], []
    for n, (scores, moves, info) in enumerate(zip(*bottoms, strict=True)):
        a = len(p.ratio) * len(p.scale)
        height, width = scores.shape[1:]
        boxes: list[tuple[Any, ...]] = []
        for h in range(height):
            for w in range(width):
                for k in range(a):
                    ratio, scale = p.ratio[k // len(p.scale)], p.scale[k % len(p.scale)]
                    side = math.floor(math.sqrt(p.base_size**2 / ratio) + 0.5)
                    sides = np.array([side * scale, math.floor(side * ratio + 0.5) * scale])
                    corner = np.array([w, h]) * p.feat_stride + 0.5 * (p.base_size - 1) - 0.5 * (sides - 1)
                    center = corner + 0.5 * sides + moves[4 * k : 4 * k + 2, h, w] * sides
                    half = 0.5 * sides * np.exp(moves[4 * k + 2 : 4 * k + 4, h, w])
                    last = info[1::-1] - 1
                    low, high = (np.maximum(0, np.minimum(v, last)) for v in (center - half, center + half))
                    enlarged = np.array([info[3] if len(info) > 3 else info[2], info[2]])
                    good = bool(np.all(high - low + 1 >= p.min_size * enlarged))
                    boxes.append((good * scores[a + k, h, w], len(boxes), *low, *high))
        boxes = sorted(boxes, key=lambda box: (-box[0], box[1]))[: p.pre_nms_topn]
        kept: list[Any] = []
        for box in boxes:
            if len(kept) < p.post_nms_topn and all(_overlap(box[2:], other[2:]) <= p.nms_thresh for other in kept):
                kept.append(box)
        rows += [(n, *box[2:]) for box in kept]
        row_scores += [box[0] for box in kept]
    return [np.reshape(rows, (-1, 5)), np.array(row_scores)][: len(param.top)]


def _overlap(a: Any, b: Any) -> float:
    wide = max(min(a[2], b[2]) - max(a[0], b[0]) + 1, 0)
    tall = max(min(a[3], b[3]) - max(a[1], b[1]) + 1, 0)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return float(wide * tall / (sum(areas) - wide * tall))
