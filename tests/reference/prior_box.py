"""PriorBox, slowly: one box at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def sizes(min_sizes: Sequence[float], max_sizes: Sequence[float], ratios: Sequence[float], flip: bool) -> np.ndarray:
    kept = [1.0]
    for ratio in ratios:
        if all(abs(ratio - other) >= 1e-6 for other in kept):
            kept += [ratio, 1 / ratio] if flip else [ratio]
    result: list[tuple[float, float]] = []
    for i, min_size in enumerate(min_sizes):
        whole = int(min_size)
        result.append((whole, whole))
        if max_sizes:
            result.append((math.sqrt(whole * int(max_sizes[i])),) * 2)
        result += [(whole * math.sqrt(r), whole / math.sqrt(r)) for r in kept[1:]]
    return np.array(result)


def boxes(
    box_sizes: np.ndarray, layer: tuple[int, int], image: tuple[int, int], step: tuple[float, float], offset: float,
    clip: bool, variances: Sequence[float],
) -> np.ndarray:  # fmt: skip
    """1×2×(H·W·K·4); layer, image and step are (height, width)."""
    result = []
    for row in range(layer[0]):
        for column in range(layer[1]):
            x, y = (column + offset) * step[1], (row + offset) * step[0]
            for width, height in box_sizes:
                box = [(x - width / 2) / image[1], (y - height / 2) / image[0]]
                box += [(x + width / 2) / image[1], (y + height / 2) / image[0]]
                result.append([min(max(v, 0), 1) for v in box] if clip else box)
    variance = list(variances) if len(variances) == 4 else [variances[0]] * 4
    return np.array([result, [variance] * len(result)]).reshape(1, 2, -1)
