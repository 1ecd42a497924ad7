"""Slow label maps of MS-CNN's and Cascade R-CNN's data layers: every anchor with every object, as in the sources."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _round(value: float) -> int:
    return math.floor(value + 0.5)


def _overlap(a: Any, b: Any, pixel: int, over: str) -> float:
    """Of corners a and b; `over` IOFU: in parts of a."""
    if pixel:
        if a[2] < a[0] or a[3] < a[1] or b[2] < b[0] or b[3] < b[1]:
            return 0.0
    elif a[2] - a[0] <= 0 or a[3] - a[1] <= 0 or b[2] - b[0] <= 0 or b[3] - b[1] <= 0:
        return 0.0
    left, top, right, bottom = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    apart = (left > right or top >= bottom) if pixel else (left >= right or top >= bottom)
    shared = 0.0 if apart else (right - left + pixel) * (bottom - top + pixel)
    sizes = [(box[2] - box[0] + pixel) * (box[3] - box[1] + pixel) for box in (a, b)]
    return float(shared / (sizes[0] if over == "IOFU" else sizes[0] + sizes[1] - shared))


def label_maps(
    maps: Any, rules: Any, canvas: tuple[int, int], image: tuple[int, int, int, int], boxes: Array, label: Array,
    ignore: Array, regions: Array,
) -> list[Array]:  # fmt: skip
    left, top, wide, high = image
    tables: list[Array] = []
    used = [0] * len(boxes)
    best, best_map = [0.0] * len(boxes), [0] * len(boxes)
    for number, of in enumerate(maps):
        rows, columns = _round(canvas[0] / of.stride), _round(canvas[1] / of.stride)
        table = np.zeros((6, rows, columns))
        tables.append(table)
        for h in range(rows):
            for w in range(columns):
                first_w, first_h = _round(left / of.stride), _round(top / of.stride)
                if not (
                    first_w <= w < first_w + _round(wide / of.stride)
                    and first_h <= h < first_h + _round(high / of.stride)
                ):
                    table[5, h, w] = 1
                    continue
                x, y = (w + 0.5) * of.stride, (h + 0.5) * of.stride
                anchor = (x - of.wide / 2, y - of.high / 2, x + of.wide / 2, y + of.high / 2)
                if rules.margin is not None:
                    mx, my = rules.margin * of.wide / 2, rules.margin * of.high / 2
                    if (
                        anchor[0] < left - mx or anchor[2] >= left + wide + mx
                        or anchor[1] < top - my or anchor[3] >= top + high + my
                    ):  # fmt: skip
                        table[5, h, w] = 1
                        continue
                whole = (left, top, left + wide, top + high)
                if rules.margin is None and rules.inside is not None:
                    part = _overlap(anchor, whole, rules.pixel, "IOFU")
                    if part < rules.inside:
                        table[5, h, w] = 1
                        continue
                near = sum(_overlap(anchor, region, rules.pixel, "IOFU") for region in regions)
                if near >= rules.in_regions and not rules.objects_first:
                    table[5, h, w] = 1
                    continue
                match, most = -1, 0.0
                for g, box in enumerate(boxes):
                    fit = _overlap(box, anchor, rules.pixel, "IOU")
                    if fit > most:
                        match, most = g, fit
                    if fit > best[g]:
                        best[g], best_map[g] = fit, number
                table[5, h, w] = most
                if most > rules.foreground:
                    table[0, h, w] = 0 if ignore[match] else label[match]
                    table[1:5, h, w] = _described(boxes[match], rules.pixel)
                    used[match] += 1
                elif near >= rules.in_regions:
                    table[5, h, w] = 1
    for g, box in enumerate(boxes):
        if ignore[g] or used[g] or best[g] < rules.pickup:
            continue
        table, stride = tables[best_map[g]], maps[best_map[g]].stride
        described = _described(box, rules.pixel)
        w = min(max(0, math.floor(described[0] / stride)), table.shape[2] - 1)
        h = min(max(0, math.floor(described[1] / stride)), table.shape[1] - 1)
        if table[0, h, w] > 0:
            continue
        table[0, h, w], table[1:5, h, w] = label[g], described
        if rules.objects_first:
            table[5, h, w] = best[g]
    return tables


def _described(box: Any, pixel: int) -> list[float]:
    return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0] + pixel, box[3] - box[1] + pixel]
