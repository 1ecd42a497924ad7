"""Slow versions of the layers that MS-CNN and Cascade R-CNN train with: loops over cells, in the order of the sources."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
TINY = float(np.finfo(np.float32).tiny)


def _scale(param: Any) -> tuple[list[float], list[float]]:
    p = param.bbox_reg_param
    if len(p.bbox_mean) and len(p.bbox_std):
        return list(p.bbox_mean), list(p.bbox_std)
    return [0.0] * 4, [1.0] * 4


def iou(a: tuple[float, ...], b: tuple[float, ...], pixel: float = 0) -> float:
    """Of two boxes x, y, width, height. `pixel` 1: both border pixels belong to a box."""
    if min(*a[2:], *b[2:]) <= 0:
        return 0.0
    left, top = max(a[0], b[0]), max(a[1], b[1])
    right, bottom = (min(a[k] + a[2 + k] - pixel, b[k] + b[2 + k] - pixel) for k in (0, 1))
    apart = (left > right or top > bottom) if pixel else (left >= right or top >= bottom)
    shared = 0.0 if apart else (right - left + pixel) * (bottom - top + pixel)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum())


def _goal(param: Any, given: Array, field: tuple[float, float], stride: float, h: int, w: int) -> list[float]:
    """The offsets that an anchor should have."""
    mean, deviation = _scale(param)
    raw = [
        (given[0] - (w + 0.5) * stride) / field[0],
        (given[1] - (h + 0.5) * stride) / field[1],
        math.log(max(given[2], 2) / field[0]),
        math.log(max(given[3], 2) / field[1]),
    ]
    return [(value - mean[k]) / deviation[k] for k, value in enumerate(raw)]


def _limits(param: Any, whr: float, xyr: float) -> list[tuple[float, float]]:
    mean, deviation = _scale(param)
    result = []
    for first, most in ((0, 1 / xyr), (2, math.log(whr))):
        middle = (mean[first] + mean[first + 1]) / 2
        spread = math.sqrt(deviation[first] * deviation[first + 1])
        result += [((-most - middle) / spread, (most - middle) / spread)] * 2
    return result


def _smooth(d: float) -> float:
    return 0.5 * d * d if abs(d) < 1 else abs(d) - 0.5


def _sum(
    param: Any, p: Any, scores: Array, offsets: Array, labels: Array, kept: Any, weight: Array,
    fields: list[tuple[float, float]], stride: float, limits: list[tuple[float, float]] | None, smooth: bool,
) -> list[Array]:  # fmt: skip
    """The top, given which cells count: all with `kept`."""
    ignore = param.loss_param.ignore_label if param.loss_param.HasField("ignore_label") else None
    classes, found = 0.0, 0
    places, taught = 0.0, 0
    for i, h, w in np.ndindex(*kept.shape):
        label = int(labels[i, 0, h, w])
        target = min(1, label) if p.objectness else label
        if not kept[i, h, w]:
            continue
        if target != ignore:
            prob = _softmax(scores[i, :, h, w])[target]
            classes -= math.log(max(prob, TINY)) * float(weight[i, h, w])
            found += 1
        if label not in (0, ignore):
            goal = _goal(param, labels[i, 1:5, h, w], fields[i % len(fields)], stride, h, w)
            for k in range(4):
                value = float(offsets[i, k, h, w])
                if limits:
                    value = min(max(limits[k][0], value), limits[k][1])
                difference = value - goal[k]
                places += _smooth(difference) if smooth else 0.5 * difference**2
                taught += 1
    places *= getattr(p, "lambda") / max(taught, 1)
    return [np.array([classes / max(found, 1) + places, places]).reshape(1, 1, 1, 2)]


def _hard(pairs: list[tuple[float, int]], count: int) -> list[int]:
    return [index for _, index in sorted(pairs, reverse=True)[:count]]


def detection_loss(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    """For sample modes without random numbers."""
    x, labels = bottoms
    return detection_loss_of(param, x, labels, _negatives(param.detection_loss_param, x, labels))


def _negatives(p: Any, x: Array, labels: Array) -> Array:
    able = (labels[:, 0] == 0) & (labels[:, 5] < p.bg_threshold)
    if p.sample_mode != "bootstrap":
        return np.asarray(able)
    kept = np.zeros_like(able)
    for i in range(len(x)):
        for k in range(1, p.cls_num):
            target = np.minimum(labels[i, 0], 1) if p.objectness else labels[i, 0]
            count = max(4, int((target == k).sum()) * p.bg_multiple)
            scores = x[i, k].ravel()
            pairs = [(float(scores[j]), int(j)) for j in np.flatnonzero(able[i].ravel())]
            kept[i].reshape(-1)[_hard(pairs, count)] = True
    return np.asarray(kept)


def detection_loss_of(param: Any, x: Array, labels: Array, negatives: Any) -> list[Array]:
    """The loss if these cells are the negatives."""
    p = param.detection_loss_param
    positive = labels[:, 0] != 0
    weight = np.ones(positive.shape)
    if p.iou_weighted:
        weight[positive] = labels[:, 5][positive]
    if p.pos_neg_weighted and weight[positive].sum():
        share, count = 1 / (1 + p.bg_multiple), negatives.sum() + positive.sum()
        fore, back = weight[positive].sum(), weight[negatives].sum()
        weight[positive] *= share * count / fore
        if back:
            weight[~positive] *= (1 - share) * count / back
    limits = _limits(param, p.field_whr, p.field_xyr)
    return _sum(
        param, p, x[:, : p.cls_num], x[:, p.cls_num :], labels, positive | negatives, weight,
        [(p.field_w, p.field_h)], p.downsample_rate, limits, p.bb_smooth,
    )  # fmt: skip


def detection_group_loss(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    """For samples without random numbers: bootstrap, and no more cells with objects than wanted."""
    p = param.detection_group_loss_param
    scores, _, labels = bottoms
    anchors = len(p.field_w)
    kept = np.zeros(labels[:, 0].shape, bool)
    for image in range(len(scores) // anchors):
        part = slice(image * anchors, (image + 1) * anchors)
        own = kept[part].reshape(-1)
        label, over = labels[part, 0].ravel(), labels[part, 5].ravel()
        prob = np.apply_along_axis(_softmax, 1, scores[part])[:, 0].ravel()
        hard = 1 - prob if p.neg_ranking_type == "conf_prob" else -np.log(np.maximum(prob, TINY))
        back = np.flatnonzero((label == 0) & (over < p.bg_threshold))
        positives = int((label > 0).sum())
        count = max(positives * p.bg_multiple, p.min_num_neg)
        if p.batch_size != -1:
            assert positives <= math.floor(p.batch_size / (1 + p.bg_multiple) + 0.5)
            count = p.batch_size - positives
        own[label > 0] = True
        own[_hard([(float(hard[j]), int(j)) for j in back], count)] = True
    return detection_group_loss_of(param, bottoms, kept)


def detection_group_loss_of(param: Any, bottoms: list[Array], kept: Any) -> list[Array]:
    """The loss if these are the samples."""
    p = param.detection_group_loss_param
    scores, offsets, labels = bottoms
    weight = np.ones(kept.shape)
    if p.pos_neg_weighted:
        positive, share = labels[:, 0] > 0, 1 / (1 + p.bg_multiple)
        for of, part in ((positive, share), (~positive, 1 - share)):
            if (kept & of).sum():
                weight[of] *= part * kept.sum() / (kept & of).sum()
    limits = None
    if p.HasField("field_whr") and p.HasField("field_xyr"):
        limits = _limits(param, p.field_whr, p.field_xyr)
    fields = list(zip(p.field_w, p.field_h, strict=True))
    smooth = p.bbox_loss_type == "Smooth_L1"
    return _sum(param, p, scores, offsets, labels, kept, weight, fields, p.stride, limits, smooth)


def _accuracy(
    param: Any, p: Any, scores: Array, offsets: Array, labels: Array, fields: list[tuple[float, float]],
    stride: float, top_k: int, later_first: bool, pixel: float,
) -> list[Array]:  # fmt: skip
    ignore = param.loss_param.ignore_label if param.loss_param.HasField("ignore_label") else None
    mean, deviation = _scale(param)
    right: list[bool] = []
    fore: list[bool] = []
    fits: list[float] = []
    for i, h, w in np.ndindex(labels.shape[0], *labels.shape[2:]):
        label = int(labels[i, 0, h, w])
        target = min(1, label) if p.objectness else label
        if target != ignore and not (target == 0 and labels[i, 5, h, w] >= p.bg_threshold):
            sign = 1 if later_first else -1
            pairs = sorted(((float(scores[i, k, h, w]), sign * k) for k in range(p.cls_num)), reverse=True)
            ranked = [sign * k for _, k in pairs]
            right.append(target in ranked[:top_k])
            if target != 0:
                fore.append(right[-1])
        if label not in (0, ignore):
            x, y, wide, high = (float(offsets[i, k, h, w]) * deviation[k] + mean[k] for k in range(4))
            field = fields[i % len(fields)]
            x, y = (min(max(-1 / p.field_xyr, v), 1 / p.field_xyr) for v in (x, y))
            wide, high = (
                field[k] * math.exp(min(max(-math.log(p.field_whr), v), math.log(p.field_whr)))
                for k, v in enumerate((wide, high))
            )
            x, y = x * field[0] + (w + 0.5) * stride, y * field[1] + (h + 0.5) * stride
            gx, gy, gw, gh = labels[i, 1:5, h, w]
            fits.append(iou((x - wide / 2, y - high / 2, wide, high), (gx - gw / 2, gy - gh / 2, gw, gh), pixel))
    means = [float(np.mean(values)) if values else -1.0 for values in (right, fore, fits)]
    return [np.array(means[:2]).reshape(1, 1, 1, 2), np.array(means[2]).reshape(1, 1, 1, 1)][: len(param.top)]


def detection_accuracy(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.detection_accuracy_param
    x, labels = bottoms
    return _accuracy(
        param, p, x[:, : p.cls_num], x[:, p.cls_num :], labels, [(p.field_w, p.field_h)], p.downsample_rate, p.top_k,
        later_first=True, pixel=0,
    )  # fmt: skip


def detection_group_accuracy(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.detection_group_accuracy_param
    fields = list(zip(p.field_w, p.field_h, strict=True))
    scores, offsets, labels = bottoms
    return _accuracy(param, p, scores, offsets, labels, fields, p.stride, 1, later_first=False, pixel=1)


def proposal_target(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    """For samples without random numbers: all of the foreground and background, and others in their order."""
    p = param.proposal_target_param
    regions, objects = (b.reshape(len(b), -1) for b in bottoms)
    objects = objects[objects[:, 0] != -1]
    boxes = [*regions, *(objects[:, :5] if p.append_gtbox else [])]
    fore: list[tuple[int, int]] = []
    back: list[tuple[int, int]] = []
    others: list[tuple[int, int]] = []
    fits = []
    for r, box in enumerate(boxes):
        match, most = -1, -1.0
        for g, other in enumerate(objects):
            if other[0] == box[0] and (fit := iou(_sized(box), _sized(other))) > most:
                match, most = g, fit
        fits.append(max(most, 0))
        if fits[-1] >= p.fg_thr:
            if not objects[match, 6]:
                fore.append((r, match))
        else:
            (back if p.bg_thr_lw <= fits[-1] < p.bg_thr_hg else others).append((r, match))
    if p.batch_size != -1:
        assert len(fore) <= math.floor(p.fg_fraction * p.batch_size + 0.5)
        assert len(back) <= p.batch_size - len(fore)
        if p.pickup_discard:
            back += others[: p.batch_size - len(fore) - len(back)]
    chosen = [(r, int(objects[g, 5]), g) for r, g in fore] + [(r, 0, g) for r, g in back]
    aware = param.bbox_reg_param.cls_aware
    mean, deviation = _scale(param)
    size, width = len(chosen), 4 * p.cls_num if aware else 8
    tops = [np.zeros((size, n, 1, 1)) for n in (5, 1, width, width, width, 6, 1)]
    for i, (r, label, g) in enumerate(chosen):
        tops[0][i, :, 0, 0], tops[1][i] = boxes[r][:5], label
        tops[6][i] = fits[r] if p.iou_weighted and label else 1
        if not label:
            continue
        (x, y, w, h), (gx, gy, gw, gh) = _sized(boxes[r]), _sized(objects[g])
        raw = [(gx + gw / 2 - x - w / 2) / w, (gy + gh / 2 - y - h / 2) / h, math.log(gw / w), math.log(gh / h)]
        for k in range(4):
            at = 4 * (label if aware else 1) + k
            tops[2][i, at] = (raw[k] - mean[k]) / deviation[k]
            tops[3][i, at] = tops[4][i, at] = p.bbox_thr_lw <= fits[r] <= p.bbox_thr_hg
        tops[5][i, :, 0, 0] = [label, *objects[g, 1:5], fits[r]]
    positive = tops[1].ravel() > 0
    total = tops[6][positive].sum()
    if total:
        tops[6][positive] *= p.fg_fraction * size / total
        tops[6][~positive] *= (1 - p.fg_fraction) * size / max((~positive).sum(), 1)
    return tops[: len(param.top)]


def _sized(row: Array) -> tuple[float, float, float, float]:
    return row[1], row[2], row[3] - row[1] + 1, row[4] - row[2] + 1


def bbox_accuracy(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    offsets, regions, objects = (b.reshape(len(b), -1) for b in bottoms)
    mean, deviation = _scale(param)
    after, before = [], []
    for move, region, given in zip(offsets, regions, objects, strict=True):
        label = int(given[0])
        if label <= 0 or given[5] > 0.975:
            continue
        if not param.bbox_reg_param.cls_aware:
            label = 1
        px, py, pw, ph = (move[4 * label + k] * deviation[k] + mean[k] for k in range(4))
        x, y, w, h = _sized(region)
        tw, th = w * math.exp(pw), h * math.exp(ph)
        after.append(iou((px * w + x + 0.5 * w - tw / 2, py * h + y + 0.5 * h - th / 2, tw, th), _sized(given)))
        before.append(iou((x, y, w, h), _sized(given)))
    return [np.full((1, 1, 1, 1), np.mean(v) if v else -1.0) for v in (after, before)][: len(param.top)]


def hard_mining(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p, losses, image = param.hard_mining_param, bottoms[0].ravel(), bottoms[1].reshape(-1, 5)[:, 0]
    kept: list[int] = []
    left: list[tuple[float, int]] = []
    for number in range(p.num_image):
        ranked = sorted(((losses[i], i) for i in range(len(losses)) if image[i] == number), reverse=True)
        kept += [i for _, i in ranked[: p.num_roi_per_image]]
        left += ranked[p.num_roi_per_image :]
    kept += [i for _, i in sorted(left, reverse=True)[: p.num_roi_per_image * p.num_image - len(kept)]]
    return [b[sorted(kept)].reshape(len(kept), *(*b.shape, 1, 1, 1)[1:4]) for b in bottoms[1:]]


def smooth_l1_loss(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    """With inside and outside weights, and the loss of each position."""
    a, b, inside, outside = (x.reshape(*x.shape, *(1,) * (4 - x.ndim)) for x in bottoms)
    each = outside * np.vectorize(_smooth)(inside * (a - b))
    return [np.array(each.sum() / len(a)), each.sum(axis=1, keepdims=True)]
