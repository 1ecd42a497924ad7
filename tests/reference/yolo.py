"""YOLO's loss and detections, slowly: one cell, anchor, class and given box at a time, in the forks' order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax(row: Array) -> Array:
    raised: Array = np.exp(row - row.max())
    return raised / float(raised.sum())


def iou(a: Any, b: Any) -> float:
    """Of boxes given by center and sides."""
    sides = [
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2) for i in (0, 1)
    ]
    shared = 0.0 if min(sides) < 0 else sides[0] * sides[1]
    return float(shared / (a[2] * a[3] + b[2] * b[3] - shared))


def rows_of(found: list[tuple[float, int, list[float]]], image: int, threshold: float) -> list[list[float]]:
    """Rows of what is left of (score, class, box) after suppression, best first."""
    found = sorted(found, key=lambda f: -f[0])
    kept: list[tuple[float, int, list[float]]] = []
    for one in found:
        if not any(iou(other[2], one[2]) >= threshold for other in kept):
            kept.append(one)
    return [
        [image, label + 1, score, x - w / 2, y - h / 2, x + w / 2, y + h / 2] for score, label, (x, y, w, h) in kept
    ]


def top_of(rows: list[list[float]], images: int) -> list[Array]:
    return [np.array(rows or [[float(image)] + [-1.0] * 6 for image in range(images)], np.float64)[None, None]]


def yolo_detection_output(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.yolo_detection_output_param
    rows = []
    for image in range(len(bottoms[0])):
        found = []
        for x in bottoms:
            height, width = x.shape[2:]
            for j in range(height):
                for i in range(width):
                    for n in range(p.num_box):
                        values = x[image, n * (5 + p.num_classes) : (n + 1) * (5 + p.num_classes), j, i]
                        box = [
                            (i + sigmoid(values[0])) / width,
                            (j + sigmoid(values[1])) / height,
                            math.exp(values[2]) * p.biases[2 * n] / width,
                            math.exp(values[3]) * p.biases[2 * n + 1] / height,
                        ]
                        classes = softmax(values[5:])
                        score = sigmoid(values[4]) * classes.max()
                        if score >= p.confidence_threshold:
                            found.append((score, int(classes.argmax()), box))
        rows += rows_of(found, image, p.nms_threshold)
    return top_of(rows, len(bottoms[0]))


def yolov3_detection_output(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    p = param.yolov3_detection_output_param
    length, step = (9, 2) if p.gaussian_box else (5, 1)
    rows = []
    for image in range(len(bottoms[0])):
        found = []
        for m, x in enumerate(bottoms):
            height, width = x.shape[2:]
            for j in range(height):
                for i in range(width):
                    for n in range(p.num_box):
                        anchor = p.mask[m * p.num_box + n]
                        first = n * (length + p.num_classes)
                        values = x[image, first : first + length + p.num_classes, j, i]
                        box = [
                            (i + sigmoid(values[0])) / width,
                            (j + sigmoid(values[step])) / height,
                            math.exp(values[2 * step]) * p.biases[2 * anchor] / (width * p.anchors_scale[m]),
                            math.exp(values[3 * step]) * p.biases[2 * anchor + 1] / (height * p.anchors_scale[m]),
                        ]
                        sure = sigmoid(values[4 * step])
                        if p.gaussian_box:
                            sure *= (4 - sum(sigmoid(values[k]) for k in (1, 3, 5, 7))) / 4
                        for c in range(p.num_classes):
                            score = sigmoid(values[length + c]) * sure
                            if score > p.confidence_threshold:
                                found.append((score, c, box))
        rows += rows_of(found, image, p.nms_threshold)
    return top_of(rows, len(bottoms[0]))


def region_differences(param: Any, x: Array, given: Array) -> Array:
    """N times RegionLoss's gradient, in the shape of its bottom x."""
    p = param.region_loss_param
    images, _, height, width = x.shape
    length = 5 + p.num_class
    values = x.reshape(images, p.num, length, height, width)
    given = given.reshape(images, -1, 5)
    diff = np.zeros(values.shape)

    def predicted(b: int, n: int, j: int, i: int) -> list[float]:
        v = values[b, n, :, j, i]
        return [
            (i + sigmoid(v[0])) / width,
            (j + sigmoid(v[1])) / height,
            math.exp(v[2]) * p.biases[2 * n] / width,
            math.exp(v[3]) * p.biases[2 * n + 1] / height,
        ]

    for b in range(images):
        for j in range(height):
            for i in range(width):
                for n in range(p.num):
                    best = 0.0
                    for row in given[b]:
                        if row[1] == 0:
                            break
                        best = max(best, iou(predicted(b, n, j, i), row[1:]))
                    sure = sigmoid(values[b, n, 4, j, i])
                    diff[b, n, 4, j, i] = 0 if best > p.thresh else p.noobject_scale * sure * sure * (1 - sure)
        for row in given[b]:
            if row[3] == 0:
                break
            label, (tx, ty, tw, th) = int(row[0]), row[1:]
            i, j = int(tx * width), int(ty * height)
            fits = []
            for n in range(p.num):
                sides = [p.biases[2 * n] / width, p.biases[2 * n + 1] / height]
                fits.append(iou([0, 0, *(sides if p.bias_match else predicted(b, n, j, i)[2:])], [0, 0, tw, th]))
            n = int(np.argmax(fits))
            v = values[b, n, :, j, i]
            found = iou(predicted(b, n, j, i), [tx, ty, tw, th])
            scale = p.coord_scale if p.rescore else p.coord_scale * (2 - tw * th)
            for k, target in enumerate((tx * width - i, ty * height - j)):
                s = sigmoid(v[k])
                diff[b, n, k, j, i] = -scale * (target - s) * s * (1 - s)
            for k, target in (
                (2, math.log(tw * width / p.biases[2 * n])),
                (3, math.log(th * height / p.biases[2 * n + 1])),
            ):
                diff[b, n, k, j, i] = -scale * (target - v[k])
            sure = sigmoid(v[4])
            diff[b, n, 4, j, i] = -p.object_scale * ((found if p.rescore else 1) - sure) * sure * (1 - sure)
            diff[b, n, 5:, j, i] = -p.class_scale * (np.eye(p.num_class)[label] - softmax(v[5:]))
    return diff.reshape(x.shape)


def region_loss(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    return [np.array((region_differences(param, *bottoms) ** 2).sum() / len(bottoms[0]))]


def yolov3_differences(param: Any, x: Array, given: Array) -> tuple[Array, Array]:
    """Yolov3's differences, in the shape of its bottom x, and N times its gradient; as the fork's loops go."""
    p = param.yolov3_param
    images, _, height, width = x.shape
    values = x.reshape(images, p.num, 5 + p.num_class, height, width)
    given = given.reshape(images, -1, 5)
    known = np.vectorize(sigmoid)(values) if values.size else values.copy()
    known[:, :, 2:4] = values[:, :, 2:4]
    diff = np.zeros(values.shape)
    sides = [(p.biases[2 * n] / (width * p.anchors_scale), p.biases[2 * n + 1] / (height * p.anchors_scale))
             for n in range(len(p.biases) // 2)]  # fmt: skip
    mask = list(p.mask)

    def teach(b: int, m: int, j: int, i: int, row: Array) -> None:
        v, d, label, (tx, ty, tw, th) = known[b, m, :, j, i], diff[b, m, :, j, i], int(row[0]), row[1:]
        scale = p.coord_scale * (2 - tw * th)
        wide, high = sides[mask[m]]
        for k, target in enumerate((tx * width - i, ty * height - j, math.log(tw / wide), math.log(th / high))):
            d[k] = -scale * (target - v[k])
        d[4] = -(1 - v[4]) * (p.object_scale if p.use_logic_gradient else 1)
        smooth = [(c == label) * (1 - p.label_smooth_eps) + 0.5 * p.label_smooth_eps for c in range(p.num_class)]
        if d[5 + label] != 0:
            d[5 + label] = -p.class_scale * (smooth[label] - v[5 + label])
        elif p.use_focal_loss:
            pt = v[5 + label] + 1e-15
            grad = -(1 - pt) * (2 * pt * math.log(pt) + pt - 1)
            for c in range(p.num_class):
                d[5 + c] = -p.class_scale * ((c == label) - v[5 + c]) * 0.5 * grad
        else:
            for c in range(p.num_class):
                d[5 + c] = -p.class_scale * (smooth[c] - v[5 + c])

    for b in range(images):
        for j in range(height):
            for i in range(width):
                for m in range(p.num):
                    v = known[b, m, :, j, i]
                    wide, high = sides[mask[m]]
                    box = [(i + v[0]) / width, (j + v[1]) / height, math.exp(v[2]) * wide, math.exp(v[3]) * high]
                    best = 0.0
                    for row in given[b]:
                        if row[1] == 0:
                            break
                        best = max(best, iou(box, row[1:]))
                    diff[b, m, 4, j, i] = 0 if best > p.thresh else v[4]
        for row in given[b]:
            if row[3] == 0:
                break
            i, j = int(row[1] * width), int(row[2] * height)
            fits = [iou([0, 0, *side], [0, 0, *row[3:]]) for side in sides]
            best_n = int(np.argmax(fits)) if max(fits) > 0 else -1
            if best_n in mask:
                best_n = mask.index(best_n)
                teach(b, best_n, j, i, row)
            for n, fit in enumerate(fits):
                if n in mask and n != best_n and p.iou_thresh < 1 and fit > p.iou_thresh:
                    teach(b, mask.index(n), j, i, row)
    slope = known * (1 - known)
    slope[:, :, 2:4] = 1
    return diff.reshape(x.shape), (diff * slope if p.use_logic_gradient else diff).reshape(x.shape)


def yolov3_loss(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    return [np.array((yolov3_differences(param, *bottoms)[0] ** 2).sum() / len(bottoms[0]))]
