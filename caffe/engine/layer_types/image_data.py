"""ImageData: images named by a list file, each with a label."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe import log
from caffe.data.augment.boxes import Boxes
from caffe.data.augment.transform import TRAIN, Source, Transformer
from caffe.data.feed.prefetch import Array
from caffe.data.feed.stream import Order, layer_seed, random_skip, record_rng
from caffe.data.image_list import read_labels
from caffe.data.images import ImageFormat, read_image
from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.prefetching import PrefetchingLayer
from caffe.errors import DataError


class ImageRecords:
    """The images of a list; `shuffle` draws a new order for every epoch."""

    def __init__(
        self, lines: Sequence[tuple[str, Any]], root: str, image_format: ImageFormat, transformer: Transformer,
        order: Order, seed: int, shuffle: bool,
    ) -> None:  # fmt: skip
        self.lines, self.root, self.image_format = lines, root, image_format
        self.transformer, self.order, self.seed, self.shuffle = transformer, order, seed, shuffle
        self._permutation = lru_cache(maxsize=2)(self._permute)

    def _permute(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.lines))

    def key(self, place: int) -> str:
        """The image at a place of the stream, as the list names it."""
        return self.line(place)[2][0]

    def where(self, place: int) -> str:
        """The image at a place of the stream, in words."""
        return f"image '{self.root}{self.key(place)}'"

    def line(self, place: int) -> tuple[int, int, tuple[str, Any]]:
        """Epoch, index and line of the image at a place of the stream."""
        epoch, index = self.order.at(place)
        return epoch, index, self.lines[int(self._permutation(epoch)[index]) if self.shuffle else index]

    def read(self, place: int) -> Source:
        """The image at a place of the stream."""
        try:
            _, image = read_image(self.root + self.key(place), self.image_format)
        except DataError as error:
            raise DataError(f"{self.where(place)}: {error}") from None
        return Source(image, self.where(place))

    def load(self, place: int, room: Array) -> tuple[Array, Array]:
        """Data [C, H, W], in `room` if that has its shape, and the label [1, 1]."""
        epoch, index, (_, label) = self.line(place)
        no_boxes: Boxes | None = None
        data, _ = self.transformer(self.read(place), no_boxes, record_rng(self.seed, epoch, index), room)
        return data, np.array([[label]], np.float32)


@register
class ImageData(PrefetchingLayer):
    """Images of a list file with lines `path label`. Tops: data [N, C, H, W], label [N]."""

    type_name = "ImageData"
    tops = (2, 2)

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.image_data_param
        if bool(param.new_height) != bool(param.new_width):
            self.fail("image_data_param needs new_height and new_width together")
        if param.batch_size < 1:
            self.fail("image_data_param needs a batch_size over 0")
        where = f"layer '{self.name}' ({self.type_name})"
        log.info("image_data_layer.cpp:37", f"Opening file {param.source}")
        try:
            lines = read_labels(param.source)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        if param.shuffle:
            log.info("image_data_layer.cpp:51", "Shuffling data")
        log.info("image_data_layer.cpp:56", f"A total of {len(lines)} images.")
        seed = layer_seed()
        skip = random_skip(param.rand_skip, seed)
        if skip:
            log.info("image_data_layer.cpp:63", f"Skipping first {skip} data points.")
            if skip >= len(lines):
                self.fail(f"rand_skip drew {skip}, but the list has {len(lines)} images")
        self._records = ImageRecords(
            lines,
            param.root_folder,
            ImageFormat(gray=not param.is_color, resize_height=param.new_height, resize_width=param.new_width),
            Transformer(self.param.transform_param, self.phase, where),
            Order.of_phase(len(lines), self.phase == TRAIN, skip),
            seed,
            param.shuffle,
        )
        shape = self._records.transformer.shape(*self.first_readable(self._records.read).image.shape)
        size = param.batch_size
        log.info("image_data_layer.cpp:84", f"output data size: {size},{shape[0]},{shape[1]},{shape[2]}")
        self._data_shape: Shape = (size, *shape)
        self.prefetch(self._records.load, shape, size, self._records.where, self._records.key)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        return [self._data_shape, self._data_shape[:1]]

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        data, labels = self.next_records()
        return data, torch.from_numpy(np.concatenate(labels)).reshape(-1)
