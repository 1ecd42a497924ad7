"""Made images with objects, and window files that name them, for the data layers of MS-CNN and Cascade R-CNN."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from tests.layer_harness import run

Corners = tuple[int, int, int, int]


def draw(height: int, width: int, boxes: Sequence[Corners], seed: int = 0) -> NDArray[np.uint8]:
    """Dark noise with a bright rectangle for each box, whose second corner is exclusive."""
    image = np.random.default_rng(seed).integers(0, 40, (height, width, 3), dtype=np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = 220
    return image


def write_scenes(
    folder: Path, scenes: Sequence[tuple[int, int, Sequence[Corners]]], difficult: bool = False, regions: str = "0"
) -> list[NDArray[np.uint8]]:
    """Images of (height, width, boxes) as 0.png, 1.png, … in `folder`, and windows.txt with their boxes, of class 1."""
    images, lines = [], []
    for i, (height, width, boxes) in enumerate(scenes):
        images.append(draw(height, width, boxes, seed=i))
        assert cv2.imwrite(str(folder / f"{i}.png"), images[-1])
        lines += [f"# {i}", f"{i}.png", "3", str(height), str(width), str(len(boxes))]
        lines += [f"1 0{' 0' if difficult else ''} {' '.join(map(str, box))}" for box in boxes]
        lines.append(regions)
    (folder / "windows.txt").write_text("\n".join(lines) + "\n")
    return images


def random_scenes(count: int, height: int = 64, width: int = 64, seed: int = 0) -> list[tuple[int, int, list[Corners]]]:
    """One or two boxes of 12 to 28 pixels in each of `count` images."""
    rng = np.random.default_rng(seed)
    scenes = []
    for _ in range(count):
        boxes: list[Corners] = []
        for _ in range(int(rng.integers(1, 3))):
            side = rng.integers(12, 29, 2)
            x, y = (int(rng.integers(0, size - length)) for size, length in zip((width, height), side, strict=True))
            boxes.append((x, y, x + int(side[0]), y + int(side[1])))
        scenes.append((height, width, boxes))
    return scenes


def batches(layer: Any, count: int) -> list[list[torch.Tensor]]:
    """The tops of the first batches of a data layer, which is closed then."""
    result = [run(layer) for _ in range(count)]
    layer.close()
    return result
