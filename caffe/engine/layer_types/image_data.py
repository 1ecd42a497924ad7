"""ImageData: images named by a list file, each with a label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ClassVar

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

Lines = Sequence[tuple[str, Any]]


class ListedImages:
    """The images of a list; `shuffle` draws a new order for every epoch."""

    def __init__(
        self, lines: Lines, root: str, image_format: ImageFormat, order: Order, seed: int, shuffle: bool
    ) -> None:
        self.lines, self.root, self.image_format = lines, root, image_format
        self.order, self.seed, self.shuffle = order, seed, shuffle
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


class ImageRecords(ListedImages):
    """The records of images with a label."""

    def __init__(
        self, lines: Lines, root: str, image_format: ImageFormat, transformer: Transformer,
        order: Order, seed: int, shuffle: bool,
    ) -> None:  # fmt: skip
        super().__init__(lines, root, image_format, order, seed, shuffle)
        self.transformer = transformer

    def load(self, place: int, room: Array) -> tuple[Array, Array]:
        """Data [C, H, W], in `room` if that has its shape, and the label [1, 1]."""
        epoch, index, (_, label) = self.line(place)
        no_boxes: Boxes | None = None
        data, _ = self.transformer(self.read(place), no_boxes, record_rng(self.seed, epoch, index), room)
        return data, np.array([[label]], np.float32)


class ImageListLayer(PrefetchingLayer):
    """Shared by the layers whose images a list file names. Tops: data [N, C, H, W], and labels."""

    tops = (2, 2)
    #: the name of its settings, a message that has ImageDataParameter's fields
    settings: ClassVar[str]

    @property
    def options(self) -> Any:
        """Its settings."""
        return getattr(self.param, self.settings)

    def check_options(self, *pairs: tuple[str, str]) -> None:
        """Raises NetError for a batch_size below 1, and for one field of a pair without the other."""
        for one, other in pairs:
            if bool(getattr(self.options, one)) != bool(getattr(self.options, other)):
                self.fail(f"{self.settings} needs {one} and {other} together")
        if self.options.batch_size < 1:
            self.fail(f"{self.settings} needs a batch_size over 0")

    def transform_param(self) -> Any:
        """What the Transformer does to the image, which the labels do not know of."""
        return self.param.transform_param

    def read_list(self, read: Callable[[str], Lines]) -> Lines:
        """The lines of the list file, which `read` reads. Raises DataError, with the layer's name."""
        with self.named_in_errors():
            return read(self.options.source)

    def drawn_skip(self, images: int, seed: int) -> int:
        """How many images of the list are skipped at the start, by rand_skip."""
        skip = random_skip(self.options.rand_skip, seed)
        if skip >= images:
            self.fail(f"rand_skip drew {skip}, but the list has {images} images")
        return skip

    def open_images(self, make: Callable[..., ImageRecords], lines: Lines, seed: int, skip: int) -> ImageRecords:
        """The images of the list, from the one after `skip` on; `make` takes the arguments of ImageRecords."""
        param = self.options
        return make(
            lines,
            param.root_folder,
            ImageFormat(gray=not param.is_color, resize_height=param.new_height, resize_width=param.new_width),
            Transformer(self.transform_param(), self.phase, self.where),
            Order.of_phase(len(lines), self.phase == TRAIN, skip),
            seed,
            param.shuffle,
        )

    def start(self, records: ImageRecords, shape: Shape, place: str) -> None:
        """Starts to read data of `shape`, C × H × W; `place` is the log line's."""
        size = self.options.batch_size
        log.info(place, f"output data size: {size},{shape[0]},{shape[1]},{shape[2]}")
        self._data_shape: Shape = (size, *shape)
        self.prefetch(records.load, shape, size, records.where, records.key)


@register
class ImageData(ImageListLayer):
    """Images of a list file with lines `path label`. Tops: data [N, C, H, W], label [N]."""

    type_name = "ImageData"
    settings = "image_data_param"

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.check_options(("new_height", "new_width"))
        given = [name for name in ("label_type", "ignore_label", "normalize") if self.options.HasField(name)]
        if given:
            self.fail(f"{', '.join(given)} of image_data_param: for ImageSegData and ImageLabelmapData layers alone")
        log.info("image_data_layer.cpp:37", f"Opening file {self.options.source}")
        lines = self.read_list(read_labels)
        if self.options.shuffle:
            log.info("image_data_layer.cpp:51", "Shuffling data")
        log.info("image_data_layer.cpp:56", f"A total of {len(lines)} images.")
        seed = layer_seed()
        skip = self.drawn_skip(len(lines), seed)
        if skip:
            log.info("image_data_layer.cpp:63", f"Skipping first {skip} data points.")
        records = self.open_images(ImageRecords, lines, seed, skip)
        shape = records.transformer.shape(*self.first_readable(records.read).image.shape)
        self.start(records, shape, "image_data_layer.cpp:84")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        return [self._data_shape, self._data_shape[:1]]

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        data, labels = self.next_records()
        return data, torch.from_numpy(np.concatenate(labels)).reshape(-1)
