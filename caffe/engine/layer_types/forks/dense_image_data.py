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
from caffe.data.feed.stream import layer_seed, record_rng
from caffe.data.image_list import read_pairs
from caffe.data.images import ImageFormat, read_image
from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.image_data import ImageListLayer, ImageRecords
from caffe.errors import DataError


class _LabelImages(ImageRecords):
    """Images and their label images, turned over and cut alike."""

    def __init__(self, param: Any, *args: Any) -> None:
        super().__init__(*args)
        self.size = (param.new_width, param.new_height)
        self.crop = (param.crop_height, param.crop_width)
        self.mirror = param.mirror

    def load(self, place: int, room: Array) -> tuple[Array, Array]:
        """Data [C, H, W], in `room` if that has its shape, and labels [1, H, W]."""
        epoch, index, (_, label) = self.line(place)
        source = self.read(place)
        labels = self._labels(label, source)
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

    def _labels(self, path: str, source: Source) -> Any:
        """The label image at `path`, [H, W], at the image's size."""
        where = f"label image '{self.root}{path}' of {source.where}"
        try:
            _, labels = read_image(self.root + path, ImageFormat(gray=True))
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        if self.size[0]:
            labels = cv2.resize(labels, self.size, interpolation=cv2.INTER_NEAREST)
        height, width = labels.shape[:2]
        if (height, width) != source.image.shape[:2]:
            raise DataError(
                f"{where} is {height}×{width} (height × width), the image "
                f"{source.image.shape[0]}×{source.image.shape[1]}; they must have one size"
            )
        return labels.reshape(height, width)


@register
class DenseImageData(ImageListLayer):
    """Images of a list file with lines `image labels`. Tops: data N × C × H × W, labels N × 1 × H × W.

    The label image is gray: a pixel's value is its class. Both are resized to new_height × new_width (labels to the
    nearest pixel), turned over at random with `mirror`, and cut to crop_height × crop_width somewhere at random, in both
    phases. Mean and scale of transform_param change the image alone. What it has at random, the fork refuses, too.
    """

    type_name = "DenseImageData"
    settings = "dense_image_data_param"

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.options
        self.check_options(("new_height", "new_width"), ("crop_height", "crop_width"))
        known = {"scale", "mean_file", "mean_value", "force_color", "force_gray"}
        given = [field.name for field, _ in self.param.transform_param.ListFields() if field.name not in known]
        if given:
            self.fail(
                f"transform_param has {', '.join(given)}, which would change the image and not its labels; "
                "dense_image_data_param has mirror, crop_height and crop_width"
            )
        log.info(log.here(), f"Opening file {param.source}")
        lines = self.read_list(read_pairs)
        seed = layer_seed()
        records = self.open_images(partial(_LabelImages, param), lines, seed, self.drawn_skip(len(lines), seed))
        height, width, channels = self.first_readable(records.read).image.shape
        shape = (channels, param.crop_height or height, param.crop_width or width)
        self.start(records, shape, log.here())

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        size, _, height, width = self._data_shape
        return [self._data_shape, (size, 1, height, width)]

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        data, labels = self.next_records()
        return data, torch.from_numpy(np.stack(labels))
