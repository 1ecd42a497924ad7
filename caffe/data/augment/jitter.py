"""MobileNet-YOLO's random crops: yolo_data_jitter."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffe.data.augment.boxes import Corners
from caffe.errors import NetError


class Jitter:
    """Crops of random size and position: a fifth of the images stays whole, a fifth loses at most half as much."""

    def __init__(self, most: float, where: str) -> None:
        """`most`: the share of an image's sides that a crop may leave out. Raises NetError if it is not in [0, 1)."""
        if not 0 <= most < 1:
            raise NetError(f"{where}: yolo_data_jitter must be from 0 to below 1, not {most:g}")
        self._most = np.float32(most)

    @classmethod
    def of(cls, param: Any, where: str) -> Jitter | None:
        """That of an AnnotatedDataParameter which has YOLO's rows or gives yolo_data_jitter; None for others.

        In MobileNet-YOLO every AnnotatedData layer has it by default. Here the SSD branch's nets stay as they are.
        """
        if param.yolo_data_type == 1 or param.HasField("yolo_data_jitter"):
            return cls(param.yolo_data_jitter, where)
        return None

    def __bool__(self) -> bool:
        return bool(self._most)

    def crop(self, rng: np.random.Generator, *, keep_aspect: bool) -> Corners | None:
        """Corners [4] in the unit square; None leaves the image whole."""
        kind, wide, high, right, down = rng.random(5, np.float32)
        if kind < 0.2:
            return None
        most = self._most / 2 if kind < 0.4 else self._most
        width = 1 - most * wide
        height = width if keep_aspect else 1 - most * high
        left, top = (1 - width) * right, (1 - height) * down
        return np.array([left, top, left + width, top + height], np.float32)
