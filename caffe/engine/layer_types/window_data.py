"""WindowData: windows of images, with a fixed share of foreground (R-CNN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from caffe import log
from caffe.data.feed.prefetch import Array
from caffe.data.feed.stream import layer_seed, record_rng
from caffe.data.feed.window_file import WindowFile, place, read_windows
from caffe.data.images import ImageFormat, deep, read_image
from caffe.data.mean import Mean
from caffe.engine.layer import TRAIN, Shape, register
from caffe.engine.layer_types.prefetching import PrefetchingLayer
from caffe.errors import DataError
from caffe.runtime import runtime


class _Windows:
    """Randomly drawn windows: in each batch the last `foreground` ones are foreground, the others background."""

    def __init__(
        self, file: WindowFile, param: Any, transform: Any, mean: Mean, seed: int, step: tuple[int, int]
    ) -> None:
        self.file, self.param, self.crop, self.mirror, self.mean = (
            file,
            param,
            transform.crop_size,
            transform.mirror,
            mean,
        )
        self.seed, self.step = seed, step
        self.foreground = int(np.float32(param.batch_size) * np.float32(param.fg_fraction))

    def _draw(self, place_: int) -> tuple[Any, bool]:
        """The window at a place of the stream, and whether it is mirrored."""
        rank, ranks = self.step
        rng = record_rng(self.seed, 0, place_ * ranks + rank)
        first_foreground = self.param.batch_size - self.foreground
        windows = self.file.foreground if place_ % self.param.batch_size >= first_foreground else self.file.background
        return windows[rng.integers(len(windows))], bool(self.mirror and rng.integers(2))

    def key(self, place_: int) -> str:
        """The image whose window comes at a place of the stream, as the window file names it."""
        window, _ = self._draw(place_)
        return str(self.file.images[window.image])

    def where(self, place_: int) -> str:
        return f"image '{self.param.root_folder}{self.key(place_)}'"

    def load(self, place_: int, room: Array) -> tuple[Array, Array]:
        """Data [C, crop, crop] in `room`, and the label [1, 1]."""
        window, mirror = self._draw(place_)
        path = self.param.root_folder + self.file.images[window.image]
        try:
            _, image = read_image(path, ImageFormat(gray=self.file.channels == 1))
        except DataError as error:
            raise DataError(f"{self.where(place_)}: {error}") from None
        height, width = image.shape[:2]
        to = place(window, height, width, self.crop, self.param.context_pad, self.param.crop_mode == "square", mirror)
        part = image[max(0, to.ymin) : to.ymax + 1, max(0, to.xmin) : to.xmax + 1]
        room[:] = 0
        if part.size and to.height > 0 and to.width > 0:
            warped = deep(cv2.resize(part, (to.width, to.height)))
            if mirror:
                warped = deep(cv2.flip(warped, 1))
            rows, columns = slice(to.top, to.top + to.height), slice(to.left, to.left + to.width)
            room[:, rows, columns] = warped.transpose(2, 0, 1)
            room[:, rows, columns] -= self._mean(rows, columns)
            room *= np.float32(self.param.scale)
        return room, np.array([[window.label]], np.float32)

    def _mean(self, rows: slice, columns: slice) -> Any:
        """What to subtract there: the center of a mean file is aligned with the crop."""
        if self.mean.image is None:
            return self.mean.values.reshape(-1, 1, 1) if self.mean.values.size else 0
        start = (self.mean.image.shape[2] - self.crop) // 2
        return self.mean.image[:, start : start + self.crop, start : start + self.crop][:, rows, columns]


@register
class WindowData(PrefetchingLayer):
    """Tops: data [N, C, crop_size, crop_size], label [N] (0 for background)."""

    type_name = "WindowData"
    tops = (2, 2)

    def setup(self, bottom: Sequence[Shape]) -> None:
        param, transform = self.param.window_data_param, self.param.transform_param
        if transform.crop_size < 1:
            self.fail("transform_param needs a crop_size over 0")
        if param.batch_size < 1:
            self.fail("window_data_param needs a batch_size over 0")
        if not 0 <= param.fg_fraction <= 1:
            self.fail(f"fg_fraction is {param.fg_fraction:g}; it must be from 0 to 1")
        if 2 * param.context_pad >= transform.crop_size:
            self.fail(f"context_pad {param.context_pad} leaves no pixel of a crop of {transform.crop_size}")
        if param.crop_mode not in ("warp", "square"):
            self.fail(f"crop_mode is '{param.crop_mode}'; it must be warp or square")
        with self.named_in_errors():
            file = read_windows(param.source, param.fg_threshold, param.bg_threshold)
        mean = Mean(transform, self.where)
        mean.check_channels(file.channels, self.where)
        if mean.image is not None and min(mean.image.shape[1:]) < transform.crop_size:
            self.fail(f"mean_file '{mean.file}' is smaller than the crop of {transform.crop_size}")
        log.info("window_data_layer.cpp:145", f"Number of images: {len(file.images)}")
        log.info("window_data_layer.cpp:155", f"Amount of context padding: {param.context_pad}")
        log.info("window_data_layer.cpp:158", f"Crop mode: {param.crop_mode}")
        step = (runtime.rank, runtime.world_size) if self.phase == TRAIN else (0, 1)
        windows = _Windows(file, param, transform, mean, layer_seed(), step)
        shape = (file.channels, transform.crop_size, transform.crop_size)
        self._data_shape: Shape = (param.batch_size, *shape)
        log.info("window_data_layer.cpp:169", "output data size: " + ",".join(map(str, self._data_shape)))
        self.prefetch(windows.load, shape, param.batch_size, windows.where, windows.key)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        return [self._data_shape, self._data_shape[:1]]

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        data, labels = self.next_records()
        return data, torch.from_numpy(np.concatenate(labels)).reshape(-1)
