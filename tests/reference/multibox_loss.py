"""MultiBoxLoss, slowly: one box, pair and class at a time.

Overlaps are in single precision, with one rounding per operation, so that thresholds and ties are as in the native
code; losses and gradients are in double precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe.ops.multibox_loss_options import MultiBoxLossOptions
from caffe.proto import caffe_pb2
from tests.reference.focal_loss import focal_gradient, focal_loss

Focus = tuple[float, float]
LOSS, CODE, NORMALIZATION = caffe_pb2.MultiBoxLossParameter, caffe_pb2.PriorBoxParameter, caffe_pb2.LossParameter
F = np.float32


@dataclass
class Answer:
    loss: float
    loc_diff: np.ndarray
    conf_diff: np.ndarray
    #: (image, location class or −1, prior) → label row, and (image, prior) of the negatives
    positives: dict[tuple[int, int, int], int]
    negatives: set[tuple[int, int]]


def area(box: np.ndarray) -> np.float32:
    if box[2] < box[0] or box[3] < box[1]:
        return F(0)
    return F(F(box[2] - box[0]) * F(box[3] - box[1]))


def overlap(a: np.ndarray, b: np.ndarray) -> np.float32:
    width = F(min(a[2], b[2]) - max(a[0], b[0]))
    height = F(min(a[3], b[3]) - max(a[1], b[1]))
    if not (width > 0 and height > 0):
        return F(0)
    shared = F(width * height)
    return F(shared / F(F(area(a) + area(b)) - shared))


def crosses(box: np.ndarray) -> bool:
    return bool((box < 0).any() or (box > 1).any())


def encode(o: MultiBoxLossOptions, prior: np.ndarray, variance: np.ndarray, box: np.ndarray) -> np.ndarray:
    prior, variance, box = (v.astype(np.float64) for v in (prior, variance, box))
    size = prior[2:] - prior[:2]
    if o.code_type == CODE.CENTER_SIZE:
        center = ((box[:2] + box[2:]) / 2 - (prior[:2] + prior[2:]) / 2) / size
        code = np.concatenate([center, np.log((box[2:] - box[:2]) / size)])
    else:
        code = box - prior
        if o.code_type == CODE.CORNER_SIZE:
            code = code / np.tile(size, 2)
    return code if o.encode_variance_in_target else code / variance


def decode(o: MultiBoxLossOptions, prior: np.ndarray, variance: np.ndarray, code: np.ndarray) -> np.ndarray:
    if not o.encode_variance_in_target:
        code = variance * code
    size = prior[2:] - prior[:2]
    if o.code_type in (CODE.CORNER, CODE.CORNER_SIZE):
        moved: np.ndarray = prior + (code if o.code_type == CODE.CORNER else code * np.tile(size, 2))
        return moved
    center = code[:2] * size + (prior[:2] + prior[2:]) / 2
    half = np.exp(code[2:]) * size / 2
    return np.concatenate([center - half, center + half])


def match(o: MultiBoxLossOptions, boxes: np.ndarray, truths: list[np.ndarray]) -> tuple[list[int], list[float]]:
    """For each box the index of its ground truth (−1 none, −2 left out), and its largest overlap."""
    indices, best = [-1] * len(boxes), [0.0] * len(boxes)
    overlaps: dict[tuple[int, int], np.float32] = {}
    for i, box in enumerate(boxes):
        if o.ignore_cross_boundary_bbox and crosses(box):
            indices[i] = -2
            continue
        for t, truth in enumerate(truths):
            value = overlap(box, truth)
            if value > 1e-6:
                overlaps[i, t] = value
                best[i] = max(best[i], float(value))
    free = set(range(len(truths)))
    while True:
        pairs = [(-v, i, t) for (i, t), v in overlaps.items() if t in free and indices[i] == -1]
        if not pairs:
            break
        _, i, t = min(pairs)
        indices[i] = t
        free.remove(t)
    if o.match_type == LOSS.PER_PREDICTION:
        for i in range(len(boxes)):
            if indices[i] == -1:
                mine = [(-v, t) for (j, t), v in overlaps.items() if j == i and v >= F(o.overlap_threshold)]
                if mine:
                    indices[i] = min(mine)[1]
    return indices, best


def target_class(o: MultiBoxLossOptions, row: np.ndarray) -> int:
    return o.background_label_id + 1 if o.map_object_to_agnostic else int(row[1])


def softmax(x: np.ndarray) -> np.ndarray:
    e: NDArray[np.float64] = np.exp(x.astype(np.float64) - float(x.max()))
    return e / float(e.sum())


def sigmoid_loss(x: float, target: int) -> float:
    return max(x, 0) - x * target + math.log1p(math.exp(-abs(x)))


def conf_loss(o: MultiBoxLossOptions, x: np.ndarray, target: int, focus: Focus | None = None) -> float:
    if o.conf_loss_type == LOSS.SOFTMAX:
        if focus:
            return focal_loss(x, target, *focus)
        return -math.log(max(softmax(x)[target], float(np.finfo(F).tiny)))
    return sum(sigmoid_loss(float(v), int(c == target)) for c, v in enumerate(x))


def conf_gradient(o: MultiBoxLossOptions, x: np.ndarray, target: int, focus: Focus | None = None) -> np.ndarray:
    if o.conf_loss_type == LOSS.SOFTMAX and focus:
        return focal_gradient(x, target, *focus)
    p = softmax(x) if o.conf_loss_type == LOSS.SOFTMAX else 1 / (1 + np.exp(-x.astype(np.float64)))
    if 0 <= target < len(x):
        p[target] -= 1
    return p


def location_error(
    o: MultiBoxLossOptions, prior: np.ndarray, variance: np.ndarray, truth: np.ndarray, code: np.ndarray
) -> np.ndarray:
    target, prediction = encode(o, prior, variance, truth), code.astype(np.float64)
    if o.bp_inside:
        place = prior if o.use_prior_for_matching else decode(o, prior, variance, code)
        prediction = np.where((place < 0) | (place > 1), target, prediction)
    error: np.ndarray = prediction - target
    if o.encode_variance_in_target:
        error = error / variance
    return error


def location_loss(o: MultiBoxLossOptions, error: np.ndarray) -> float:
    size = np.abs(error)
    linear = (o.loc_loss_type == LOSS.SMOOTH_L1) & (size >= 1)
    return float(np.where(linear, size - 0.5, error * error / 2).sum())


def choose(o: MultiBoxLossOptions, ranked: list[int], wanted: int, boxes: np.ndarray) -> list[int]:
    """The first `wanted` of the ranked boxes, after suppression if the options ask for it."""
    if o.nms_threshold <= 0:
        return ranked[: max(wanted, 0)]
    kept: list[int] = []
    for i in ranked if o.nms_top_k < 0 else ranked[: o.nms_top_k]:
        if area(boxes[i]) >= 1e-5 and all(overlap(boxes[k], boxes[i]) <= F(o.nms_threshold) for k in kept):
            kept.append(i)
    return kept[: max(wanted, 0)]


def multibox_loss(
    loc: np.ndarray, conf: np.ndarray, prior: np.ndarray, label: np.ndarray, o: MultiBoxLossOptions,
    moved: np.ndarray | None = None, likely: np.ndarray | None = None, focus: Focus | None = None,
) -> Answer:  # fmt: skip
    """The op's inputs, as float32 arrays; gradients are those of the loss itself.

    RefineDet's: `moved` has boxes for each image, N × P × 4, instead of the priors'; a box that is not `likely`, N × P,
    cannot be a negative.
    `focus`, the focal loss's alpha and gamma: SOFTMAX's losses are multiplied by alpha · (1 − p)^gamma, but not to mine.
    """
    boxes, variances = prior.reshape(2, -1, 4)
    rows = label.reshape(-1, 8)
    images, priors = len(loc), len(boxes)
    codes = loc.reshape(images, priors, o.loc_classes, 4)
    scores = conf.reshape(images, priors, o.num_classes)
    mined = o.mining_type != LOSS.NONE
    positives: dict[tuple[int, int, int], int] = {}
    negatives: set[tuple[int, int]] = set()

    for n in range(images):
        boxes = boxes if moved is None else moved[n]
        mine = [r for r in range(len(rows)) if rows[r, 0] == n and (o.use_difficult_gt or not rows[r, 7])]
        if not mine:
            continue
        for c in range(o.match_classes):
            truths, predicted = mine, boxes
            if o.match_classes > 1:
                truths = [r for r in mine if int(rows[r, 1]) == c != o.background_label_id]
            if not o.use_prior_for_matching:
                predicted = np.stack(
                    [decode(o, b, v, x) for b, v, x in zip(boxes, variances, codes[n, :, c], strict=True)]
                )
            indices, best = match(o, predicted, [rows[r, 3:7] for r in truths])
            matched = {p: truths[t] for p, t in enumerate(indices) if t >= 0}
            if o.mining_type == LOSS.MAX_NEGATIVE:
                ranked = [p for p in range(priors) if indices[p] == -1 and best[p] < F(o.neg_overlap)]
                ranked = [p for p in ranked if likely is None or likely[n, p]]
                losses = {p: conf_loss(o, scores[n, p], o.background_label_id) for p in ranked}
                wanted = int(F(len(matched)) * F(o.neg_pos_ratio))
            elif o.mining_type == LOSS.HARD_EXAMPLE:
                ranked = list(range(priors))
                losses = {}
                for p in ranked:
                    losses[p] = conf_loss(
                        o, scores[n, p], target_class(o, rows[matched[p]]) if p in matched else o.background_label_id
                    )
                    if p in matched:
                        error = location_error(o, boxes[p], variances[p], rows[matched[p], 3:7], codes[n, p, 0])
                        losses[p] += location_loss(o, error)
                wanted = o.sample_size
            if mined:
                ranked.sort(key=lambda p: (-F(losses[p]), p))
                places = boxes
                if o.nms_threshold > 0 and not o.use_prior_for_nms:
                    places = np.stack(
                        [decode(o, b, v, x) for b, v, x in zip(boxes, variances, codes[n, :, 0], strict=True)]
                    )
                chosen = set(choose(o, ranked, min(wanted, len(ranked)), places))
                negatives |= {(n, p) for p in chosen if indices[p] == -1}
                if o.mining_type == LOSS.HARD_EXAMPLE:
                    matched = {p: r for p, r in matched.items() if p in chosen}
            for p, r in matched.items():
                if o.share_location:
                    positives[n, -1, p] = r
                elif o.match_classes > 1:
                    positives[n, c, p] = r
                elif int(rows[r, 1]) < o.num_classes:
                    positives[n, int(rows[r, 1]), p] = r

    loc_diff, conf_diff = np.zeros(codes.shape), np.zeros(scores.shape)
    loc_loss = total = 0.0
    for (n, c, p), r in positives.items():
        boxes = boxes if moved is None else moved[n]
        error = location_error(o, boxes[p], variances[p], rows[r, 3:7], codes[n, p, max(c, 0)])
        loc_loss += location_loss(o, error)
        slope = np.clip(error, -1, 1) if o.loc_loss_type == LOSS.SMOOTH_L1 else error
        loc_diff[n, p, max(c, 0)] = slope * o.loc_weight
    targets = {(n, p): target_class(o, rows[r]) for (n, c, p), r in sorted(positives.items())}
    if mined:
        for n, p in negatives:
            targets[n, p] = o.background_label_id
        for (n, p), target in targets.items():
            total += conf_loss(o, scores[n, p], target, focus)
            conf_diff[n, p] = conf_gradient(o, scores[n, p], target, focus)
    elif o.conf_loss_type == LOSS.SOFTMAX:
        for n in range(images):
            for p in range(priors):
                target = targets.get((n, p), o.background_label_id)
                total += conf_loss(o, scores[n, p], target, focus)
                conf_diff[n, p] = conf_gradient(o, scores[n, p], target, focus)
    else:  # each target where the original puts it
        flags = np.zeros(scores.size, int)
        for (n, _, p), r in positives.items():
            flags[n * priors + p * o.num_classes + target_class(o, rows[r])] = 1
        total = sum(sigmoid_loss(float(x), t) for x, t in zip(scores.ravel(), flags, strict=True))
        conf_diff = (1 / (1 + np.exp(-scores.astype(np.float64).ravel())) - flags).reshape(scores.shape)

    counts: dict[int, int] = {
        NORMALIZATION.FULL: images * priors,
        NORMALIZATION.VALID: len(positives),
        NORMALIZATION.BATCH_SIZE: images,
        NORMALIZATION.NONE: 1,
    }
    by = max(counts[o.normalization], 1)
    loss = (o.loc_weight * loc_loss * o.with_loc + total * o.with_conf) / by
    return Answer(
        loss,
        loc_diff.reshape(loc.shape) * o.with_loc / by,
        conf_diff.reshape(conf.shape) * o.with_conf / by,
        positives,
        negatives,
    )
