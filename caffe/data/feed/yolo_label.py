"""Boxes as MobileNet-YOLO's losses take them: a fixed number of rows for each image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from caffe import log

#: of each image
YOLO_ROWS = 300


def yolo_label(rows: Sequence[NDArray[np.float32]], difficult: bool, name: str) -> NDArray[np.float32]:
    """[N, 1, 300, 5] of class, center x, center y, width, height, and zeros where an image has no more boxes.

    `rows`: each image's boxes [n, 7] (label, instance, corners, difficult). Label 1 is class 0. `difficult`: whether
    difficult objects are among them. Boxes after an image's 300th are left out, with a warning that has the layer's
    `name` (the fork writes them over the next image's).
    """
    label = np.zeros((len(rows), 1, YOLO_ROWS, 5), np.float32)
    for image, table in zip(label[:, 0], rows, strict=True):
        kept = table if difficult else table[table[:, 6] == 0]
        if len(kept) > YOLO_ROWS:
            log.warning(log.here(), f"layer '{name}': of an image's {len(kept)} boxes, {YOLO_ROWS} are used")
            kept = kept[:YOLO_ROWS]
        low, high = kept[:, 2:4], kept[:, 4:6]
        image[: len(kept)] = np.concatenate([kept[:, :1] - 1, (low + high) / 2, high - low], axis=1)
    return label
