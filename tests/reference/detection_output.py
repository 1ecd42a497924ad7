"""DetectionOutput, slow and obvious: one box after another, as the Caffe layer describes it. Float32 throughout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
CORNER, CENTER_SIZE, CORNER_SIZE = 1, 2, 3


def decode(code_type: int, variance_encoded_in_target: bool, prior: Floats, variance: Floats, code: Floats) -> Floats:
    """One box, 4, of its prior, variances and prediction."""
    if not variance_encoded_in_target:
        code = variance * code
    if code_type == CORNER:
        return prior + code
    size = prior[2:] - prior[:2]
    if code_type == CORNER_SIZE:
        return prior + code * np.tile(size, 2)
    center = code[:2] * size + (prior[:2] + prior[2:]) / 2
    half = np.exp(code[2:]) * size / 2
    return np.concatenate([center - half, center + half])


def overlap(a: Floats, b: Floats) -> np.float32:
    """Intersection over union of two boxes; 0 if they share no area."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if not (width > 0 and height > 0):
        return np.float32(0)
    return np.float32(width * height / (area(a) + area(b) - width * height))


def area(box: Floats) -> np.float32:
    if box[2] < box[0] or box[3] < box[1]:
        return np.float32(0)
    return np.float32((box[2] - box[0]) * (box[3] - box[1]))


def suppress(boxes: Mapping[int, Floats], order: list[int], threshold: float, eta: float) -> list[int]:
    """Greedy non-maximum suppression: of `order` (best first) those that overlap no kept one too much."""
    kept: list[int] = []
    limit = np.float32(threshold)
    for i in order:
        if all(overlap(boxes[i], boxes[k]) <= limit for k in kept):
            kept.append(i)
            if eta < 1 and limit > 0.5:
                limit = limit * np.float32(eta)
    return kept


def detection_output(
    loc: Floats, conf: Floats, prior: Floats, *, num_classes: int, share_location: bool = True,
    background_label_id: int = 0, code_type: int = CORNER, variance_encoded_in_target: bool = False,
    confidence_threshold: float = -3e38, nms_threshold: float = 0.3, eta: float = 1.0, top_k: int = -1,
    keep_top_k: int = -1,
) -> Floats:  # fmt: skip
    """K×7 detections of loc N×…, conf N×…, prior 1×2×(P·4)."""
    num = len(loc)
    priors, variances = prior.reshape(2, -1, 4)
    loc = loc.reshape(num, len(priors), 1 if share_location else num_classes, 4)
    conf = conf.reshape(num, len(priors), num_classes)
    rows: list[Any] = []
    for image in range(num):
        found = []  # (-score, label, prior, box)
        for c in range(num_classes):
            if c == background_label_id:
                continue
            scores = conf[image, :, c]
            order = [i for i in np.argsort(-scores, kind="stable") if scores[i] > np.float32(confidence_threshold)]
            if top_k >= 0:
                order = order[:top_k]
            boxes = {
                i: decode(
                    code_type, variance_encoded_in_target, priors[i], variances[i],
                    loc[image, i, 0 if share_location else c],
                )
                for i in order
            }  # fmt: skip
            for i in suppress(boxes, order, nms_threshold, eta):
                found.append((-scores[i], c, i, boxes[i]))
        if keep_top_k >= 0:
            found = sorted(found, key=lambda f: f[:3])[:keep_top_k]
        for minus_score, c, _, box in sorted(found, key=lambda f: (f[1], f[0], f[2])):
            rows.append([image, c, -minus_score, *box])
    if not rows:
        rows = [[image] + [-1] * 6 for image in range(num)]
    return np.array(rows, np.float32).reshape(-1, 7)
