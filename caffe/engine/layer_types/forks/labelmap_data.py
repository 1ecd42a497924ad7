"""ImageLabelmapData of HED (Xie and Tu 2015): images named by a list file, each with a map of what is an edge."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from caffe import log
from caffe.data.feed.prefetch import Array
from caffe.data.feed.stream import record_rng
from caffe.data.image_list import read_pairs
from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.forks.label_images import LabelImageLayer, LabelImages
from caffe.errors import DataError


class _Labelmaps(LabelImages):
    """Images and their maps, cut and turned over alike."""

    def __init__(self, layer_param: Any, *args: Any) -> None:
        super().__init__(*args)
        param, transform = layer_param.image_data_param, layer_param.transform_param
        self.size = (param.new_width, param.new_height)
        self.crop, self.mirror = transform.crop_size, transform.mirror
        self.halved = param.normalize or not param.HasField("normalize")

    def load(self, place: int, room: Array) -> tuple[Array, Array]:
        """Data [C, H, W] and the map [1, H, W]."""
        epoch, index, (_, path) = self.line(place)
        source = self.read(place)
        labels = self.labels(path, source, self.size, cv2.INTER_LINEAR)
        if self.halved:
            labels = (labels > 127).astype(np.uint8)
        rng = record_rng(self.seed, epoch, index)
        # The mean is subtracted first: a mean file has the size of the whole image.
        data, _ = self.transformer(source, None, rng, None if self.crop else room)
        if self.crop:
            height, width = labels.shape
            if min(height, width) < self.crop:
                raise DataError(
                    f"{source.where} is {height}×{width} (height × width), smaller than crop_size {self.crop}"
                )
            y, x = (int(rng.integers(side - self.crop + 1)) for side in (height, width))
            data = data[:, y : y + self.crop, x : x + self.crop]
            labels = labels[y : y + self.crop, x : x + self.crop]
        if self.mirror and rng.integers(2):
            data, labels = data[:, :, ::-1], labels[:, ::-1]
        return np.ascontiguousarray(data), np.ascontiguousarray(labels[None], dtype=np.float32)


@register
class ImageLabelmapData(LabelImageLayer):
    """Images of a list file with lines `image map`. Tops: data N × C × H × W, maps N × 1 × H × W.

    The map is a gray image; a pixel over 127 is 1, others 0. With `normalize: false` (of DSS, which has the layer from
    HED) it keeps its values; there that is the default, while HED has no such field. new_height and new_width resize
    both bilinearly. crop_size and mirror of transform_param are drawn at random for both alike, in both phases; mean and
    scale change the image alone.
    """

    type_name = "ImageLabelmapData"
    settings = "image_data_param"
    alike = ("crop_size", "mirror")

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.check_options(("new_height", "new_width"))
        if self.options.HasField("label_type") or self.options.HasField("ignore_label"):
            self.fail("label_type and ignore_label of image_data_param are for ImageSegData layers")
        self.check_transform("it takes crop_size and mirror alone")
        records = self.open_labeled(partial(_Labelmaps, self.param), read_pairs)
        height, width, channels = self.first_readable(records.read).image.shape
        crop = self.param.transform_param.crop_size
        self.start(records, (channels, crop or height, crop or width), log.here())

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        size, _, height, width = self._data_shape
        return [self._data_shape, (size, 1, height, width)]

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        data, labels = self.next_records()
        return data, torch.from_numpy(np.stack(labels))
