"""Slow versions of MS-CNN's and Cascade R-CNN's layers: loops over cells and boxes, in the order of the sources."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: x1, y1, x2, y2, score
Box = tuple[float, float, float, float, float]


def _scale(param: Any) -> tuple[list[float], list[float]]:
    p = param.bbox_reg_param
    if len(p.bbox_mean) and len(p.bbox_std):
        return list(p.bbox_mean), list(p.bbox_std)
    return [0.0] * 4, [1.0] * 4


def _over(kind: str, first: float, second: float, shared: float) -> float:
    return {"IOMU": min(first, second), "IOFU": first, "IOU": first + second - shared}[kind]


def _iou_of_sides(kind: str, a: Box, b: Box) -> float:
    (ax, ay, bx, by), (wa, ha, wb, hb) = (*a[:2], *b[:2]), (a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1])
    if wa <= 0 or ha <= 0 or wb <= 0 or hb <= 0:
        return 0.0
    left, top, right, bottom = max(ax, bx), max(ay, by), min(ax + wa, bx + wb), min(ay + ha, by + hb)
    shared = 0.0 if left >= right or top >= bottom else (right - left) * (bottom - top)
    return shared / _over(kind, wa * ha, wb * hb, shared)


def _iou_of_pixels(kind: str, a: Box, b: Box) -> float:
    if a[2] < a[0] or a[3] < a[1] or b[2] < b[0] or b[3] < b[1]:
        return 0.0
    left, top, right, bottom = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    shared = 0.0 if left > right or top >= bottom else (right - left + 1) * (bottom - top + 1)
    first, second = ((box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b))
    return shared / _over(kind, first, second, shared)


def _kept(p: Any, boxes: list[Box], overlap: Callable[[Box, Box], float]) -> list[Box]:
    """The boxes, already sorted, that greedy suppression leaves."""
    if p.max_nms_num:
        boxes = boxes[: p.max_nms_num]
    keep = [True] * len(boxes)
    for i, box in enumerate(boxes):
        for j in range(i + 1, len(boxes)):
            if keep[i] and keep[j] and overlap(box, boxes[j]) > p.iou_thr:
                keep[j] = False
    left = [box for box, kept in zip(boxes, keep, strict=True) if kept]
    return left[: p.max_post_nms_num] if p.max_post_nms_num else left


def _tops(found: list[list[Box]]) -> list[Array]:
    rows = [[image, *box] for image, boxes in enumerate(found) for box in boxes]
    if not rows:
        return [np.array([0.0, 1, 1, 10, 10]).reshape(1, 5, 1, 1), np.zeros((1, 6, 1, 1))]
    table = np.array(rows)
    return [table[:, :5].reshape(-1, 5, 1, 1), table.reshape(-1, 6, 1, 1)]


def _decode(
    param: Any, p: Any, v: Array, field: tuple[float, float], stride: float, h: int, w: int
) -> tuple[float, float, float, float]:
    """x, y, width, height of an anchor moved by four offsets."""
    mean, deviation = _scale(param)
    x, y, wide, high = (float(v[k]) * deviation[k] + mean[k] for k in range(4))
    x, y = (min(max(-1 / p.field_xyr, value), 1 / p.field_xyr) for value in (x, y))
    least, most = math.log(1 / p.field_whr), math.log(p.field_whr)
    wide, high = (field[k] * math.exp(min(max(least, value), most)) for k, value in enumerate((wide, high)))
    return x * field[0] + (w + 0.5) * stride - wide / 2, y * field[1] + (h + 0.5) * stride - high / 2, wide, high


def box_output(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.box_output_param
    found = []
    for image in range(len(bottoms[0])):
        boxes: list[tuple[float, int, Box]] = []
        for x, wide, high, stride in zip(bottoms, p.field_w, p.field_h, p.downsample_rate, strict=True):
            for h in range(x.shape[2]):
                for w in range(x.shape[3]):
                    v = x[image, :, h, w]
                    score = max(v[1:-4]) - v[0]
                    left, top, bw, bh = _decode(param, p, v[-4:], (wide, high), stride, h, w)
                    left, top = max(left, 0), max(top, 0)
                    bw, bh = min(bw, x.shape[3] * stride - left), min(bh, x.shape[2] * stride - top)
                    if score >= p.fg_thr and bw >= p.min_size and bh >= p.min_size:
                        boxes.append((score, len(boxes), (left, top, left + bw, top + bh, score)))
        ordered = [box for _, _, box in sorted(boxes, reverse=True)]
        found.append(_kept(p, ordered, functools.partial(_iou_of_sides, p.nms_type)))
    return _tops(found)[: len(param.top)]


def box_group_output(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.box_group_output_param
    found = []
    for image in range(len(bottoms[0]) // len(p.box_group_param[0].field_w)):
        boxes: list[Box] = []
        for i, group in enumerate(p.box_group_param):
            prob, offsets = bottoms[2 * i], bottoms[2 * i + 1]
            for k, field in enumerate(zip(group.field_w, group.field_h, strict=True)):
                item = image * len(group.field_w) + k
                for h in range(prob.shape[2]):
                    for w in range(prob.shape[3]):
                        score = 1 - prob[item, 0, h, w]
                        x, y, bw, bh = _decode(param, p, offsets[item, :, h, w], field, group.stride, h, w)
                        x2 = min(prob.shape[3] * group.stride, x + bw - 1)
                        y2 = min(prob.shape[2] * group.stride, y + bh - 1)
                        x, y = max(0, x), max(0, y)
                        if score >= p.fg_thr and x2 - x + 1 >= p.min_size and y2 - y + 1 >= p.min_size:
                            boxes.append((x, y, x2, y2, score))
        boxes.sort(key=lambda box: -box[4])
        found.append(_kept(p, boxes, functools.partial(_iou_of_pixels, p.nms_type)))
    return _tops(found)[: len(param.top)]


def _moved(param: Any, move: Array, region: Array) -> tuple[float, float, float, float]:
    """Corners of a region x1, y1, x2, y2 moved by four offsets."""
    mean, deviation = _scale(param)
    bx, by, bw, bh = (move[k] * deviation[k] + mean[k] for k in range(4))
    wide, high = region[2] - region[0] + 1, region[3] - region[1] + 1
    tw, th = wide * math.exp(bw), high * math.exp(bh)
    x = bx * wide + 0.5 * (region[2] + region[0]) - (tw - 1) / 2
    y = by * high + 0.5 * (region[3] + region[1]) - (th - 1) / 2
    return x, y, x + tw - 1, y + th - 1


def frcnn_output(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.frcnn_output_param
    prob, offsets, regions, size = (b.reshape(len(b), -1) for b in bottoms)
    height, width = size.ravel()
    found: list[tuple[int, Box]] = []
    for c in range(1, prob.shape[1]):
        boxes: list[Box] = []
        for r in range(len(prob)):
            if prob[r, c] >= p.conf_thr:
                at = 4 * (c if param.bbox_reg_param.cls_aware else 1)
                x1, y1, x2, y2 = _moved(param, offsets[r, at : at + 4], regions[r, 1:5])
                boxes.append((max(0, x1), max(0, y1), min(width, x2), min(height, y2), prob[r, c]))
        boxes.sort(key=lambda box: -box[4])
        keep = [True] * len(boxes)
        for i, box in enumerate(boxes):
            for j in range(i + 1, len(boxes)):
                if keep[i] and keep[j] and _iou_of_pixels(p.nms_type, box, boxes[j]) > p.iou_thr:
                    keep[j] = False
        found += [(c, box) for box, kept in zip(boxes, keep, strict=True) if kept]
    if 0 < p.max_det_num < len(found):
        best = sorted(range(len(found)), key=lambda i: -found[i][1][4])[: p.max_det_num]
        found = [found[i] for i in sorted(best)]
    rows = [[0.0] + [-1.0] * 6, *([0, *box[:4], c, box[4]] for c, box in found)]
    return [np.array(rows).reshape(-1, 7, 1, 1)]


def decode_bbox(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    rows = []
    for r, (offsets, region) in enumerate(zip(bottoms[0].reshape(-1, 8), bottoms[1].reshape(-1, 5), strict=True)):
        x1, y1, x2, y2 = _moved(param, offsets[4:], region[1:])
        if phase == 0:
            if x1 > x2 or y1 > y2:
                continue
            if len(bottoms) > 2 and bottoms[2][r].ravel()[-1] >= param.decode_bbox_param.gt_iou_thr:
                continue
        rows.append([region[0], x1, y1, x2, y2])
    return [np.array(rows).reshape(-1, 5, 1, 1)]


def scale_route(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.scale_route_param
    low = p.low_scale if p.HasField("low_scale") else 0.0
    high = p.high_scale if p.HasField("high_scale") else math.inf
    given = [v for v, has in ((low, low > 0), (high, high < math.inf)) if has]
    middle = math.sqrt(low * high) if len(given) == 2 else given[0] if given else 256.0
    chosen, nearest, least = [], -1, math.inf
    for r, (_, x1, y1, x2, y2) in enumerate(bottoms[0].reshape(-1, 5)):
        size = 0.0 if x2 < x1 or y2 < y1 else math.sqrt((x2 - x1 + 1) * (y2 - y1 + 1))
        if low <= size < high:
            chosen.append(r)
        distance = abs(math.log2(size / middle)) if size else math.inf
        if distance < least:
            nearest, least = r, distance
    if not chosen and nearest >= 0:
        chosen = [nearest]
    return [b[chosen].reshape(len(chosen), *(*b.shape, 1, 1, 1)[1:4]) for b in bottoms]


def roi_align(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p, x = param.roi_pooling_param, bottoms[0]
    regions = bottoms[1].reshape(-1, 5)
    _, channels, height, width = x.shape
    top = np.zeros((len(regions), channels, p.pooled_h + 1, p.pooled_w + 1))
    for r, (image, x1, y1, x2, y2) in enumerate(regions):
        pad_w, pad_h = (x2 - x1 + 1) * p.pad_ratio, (y2 - y1 + 1) * p.pad_ratio
        left, upper = (x1 - pad_w) * p.spatial_scale - 0.5, (y1 - pad_h) * p.spatial_scale - 0.5
        right, lower = (x2 + pad_w) * p.spatial_scale - 0.5, (y2 + pad_h) * p.spatial_scale - 0.5
        if lower - upper <= 0 or right - left <= 0:
            continue
        for i in range(p.pooled_h + 1):
            for j in range(p.pooled_w + 1):
                h = upper + i * ((lower - upper) / p.pooled_h)
                w = left + j * ((right - left) / p.pooled_w)
                if h < -0.5 or h > height - 0.5 or w < -0.5 or w > width - 0.5:
                    continue
                h0, w0 = math.floor(h), math.floor(w)
                h1, w1 = h0 + 1, w0 + 1
                h, w = min(max(h, 0), height - 1), min(max(w, 0), width - 1)
                h0, h1 = (min(max(v, 0), height - 1) for v in (h0, h1))
                w0, w1 = (min(max(v, 0), width - 1) for v in (w0, w1))
                lh, lw = h - h0, w - w0
                v = x[int(image)]
                top[r, :, i, j] = (
                    (1 - lw) * (1 - lh) * v[:, h0, w0] + lw * (1 - lh) * v[:, h0, w1]
                    + (1 - lw) * lh * v[:, h1, w0] + lw * lh * v[:, h1, w1]
                )  # fmt: skip
    return [top]
