"""Average precision by its definitions, one detection after another."""

from __future__ import annotations


def average_precision(scores: list[float], true: list[bool], objects: int, version: str) -> float:
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    curve = []
    found = 0
    for rank, i in enumerate(order, 1):
        found += true[i]
        curve.append((found / objects, found / rank))
    if version == "11point":
        points = [k / 10 for k in range(11)]
        return sum(max((p for r, p in curve if r >= t - 1e-9), default=0.0) for t in points) / 11
    area, last = 0.0, 0.0
    for i, (recall, precision) in enumerate(curve):
        height = max(p for _, p in curve[i:]) if version == "MaxIntegral" else precision
        area += (recall - last) * height
        last = recall
    return area
