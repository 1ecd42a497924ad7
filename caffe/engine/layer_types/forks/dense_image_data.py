"""DenseImageData of SegNet (Badrinarayanan et al. 2017): images named by a list file, each with an image of labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from caffe import log
from caffe.data.augment.transform import Source
from caffe.data.feed.prefetch import Array
from caffe.data.feed.stream import record_rng
from caffe.data.image_list import read_pairs
from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.forks.label_images import LabelImageLayer, LabelImages
from caffe.errors import DataError


class _DenseImages(LabelImages):
    """Images and their label images, turned over and cut alike."""

    def __init__(self, param: Any, *args: Any) -> None:
        super().__init__(*args)
        self.divided = param.label_divide_factor
        self.size = (param.new_width // self.divided, param.new_height // self.divided)
        self.crop = (param.crop_height, param.crop_width)
        self.mirror = param.mirror

    def load(self, place: int, room: Array) -> tuple[Array, Array]:
        """Data [C, H, W], in `room` if that has its shape, and labels [1, H, W]."""
        epoch, index, (_, label) = self.line(place)
        source = self.read(place)
        labels = self.labels(label, source, self.size, cv2.INTER_NEAREST, self.divided)
        rng = record_rng(self.seed, epoch, index)
        image, height, width = source.image, *source.image.shape[:2]
        if self.mirror and rng.integers(2):
            image, labels = image[:, ::-1], labels[:, ::-1]
        if self.crop[0]:
            if height < self.crop[0] or width < self.crop[1]:
                raise DataError(
                    f"{source.where} is {height}×{width} (height × width), smaller than crop_height × crop_width "
                    f"{self.crop[0]}×{self.crop[1]}"
                )
            y = int(rng.integers(height - self.crop[0] + 1))
            x = int(rng.integers(width - self.crop[1] + 1))
            image, labels = (part[y : y + self.crop[0], x : x + self.crop[1]] for part in (image, labels))
        data, _ = self.transformer(Source(np.ascontiguousarray(image), source.where), None, rng, room)
        return data, np.ascontiguousarray(labels[None], dtype=np.float32)


@register
class DenseImageData(LabelImageLayer):
    """Images of a list file with lines `image labels`. Tops: data N × C × H × W, labels N × 1 × H × W.

    The label image is gray: a pixel's value is its class. Both are resized to new_height × new_width (labels to the
    nearest pixel), turned over at random with `mirror`, and cut to crop_height × crop_width somewhere at random, in both
    phases. Mean and scale of transform_param change the image alone. What it has at random, the fork refuses, too.

    With label_divide_factor (of ENet, which trains its encoder alone first) height and width of the labels are divided
    by it.
    """

    type_name = "DenseImageData"
    settings = "dense_image_data_param"

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.options
        self.check_options(("new_height", "new_width"), ("crop_height", "crop_width"))
        self.check_transform("dense_image_data_param has mirror, crop_height and crop_width")
        if param.label_divide_factor < 1:
            self.fail("label_divide_factor must be at least 1, not 0")
        if param.label_divide_factor > 1 and (param.crop_height or not param.new_height):
            self.fail("label_divide_factor needs new_height and new_width, and no crop")
        if param.new_height and min(param.new_height, param.new_width) < param.label_divide_factor:
            self.fail(
                f"label_divide_factor {param.label_divide_factor} leaves nothing of labels of "
                f"{param.new_height}×{param.new_width} (height × width)"
            )
        records = self.open_labeled(partial(_DenseImages, param), read_pairs)
        height, width, channels = self.first_readable(records.read).image.shape
        shape = (channels, param.crop_height or height, param.crop_width or width)
        self.start(records, shape, log.here())

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        size, _, *sides = self._data_shape
        return [self._data_shape, (size, 1, *(side // self.options.label_divide_factor for side in sides))]

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        data, labels = self.next_records()
        return data, torch.from_numpy(np.stack(labels))
