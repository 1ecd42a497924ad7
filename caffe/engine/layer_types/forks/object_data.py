"""What the data layers of MS-CNN and Cascade R-CNN share: images of a window file, and tops of several sizes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe import log
from caffe.data.augment.object_view import ObjectView
from caffe.data.augment.transform import Source
from caffe.data.feed.anchor_labels import AnchorMap, LabelRules, label_maps
from caffe.data.feed.object_file import ListedImage, read_objects
from caffe.data.feed.prefetch import Array
from caffe.data.feed.stream import Order, layer_seed
from caffe.data.images import ImageFormat, decode_datum, read_bytes
from caffe.engine.layer import TRAIN, Shape
from caffe.engine.layer_types.forks.anchor_maps import LABEL_CHANNELS
from caffe.engine.layer_types.image_data import ListedImages
from caffe.engine.layer_types.prefetching import PrefetchingLayer
from caffe.errors import DataError
from caffe.proto import caffe_pb2

_CHANNELS = 3


class ObjectImages(ListedImages, ABC):
    """The images of a window file; with `cache`, their files are kept in memory."""

    def __init__(
        self, images: list[ListedImage], root: str, order: Order, seed: int, shuffle: bool, cache: bool = False
    ) -> None:
        super().__init__([(image.path, image) for image in images], root, ImageFormat(), order, seed, shuffle)
        self._files = self._read_files(images) if cache else {}

    def _read_files(self, images: list[ListedImage]) -> dict[str, bytes]:
        files = {}
        for image in images:
            if image.path not in files:
                try:
                    files[image.path] = read_bytes(self.root + image.path)
                except DataError as error:
                    raise DataError(f"image '{self.root}{image.path}': {error}") from None
        return files

    @abstractmethod
    def load_as(self, place: int, turn: int, room: Array) -> tuple[Array, Array]:
        """The record at a place of the stream, in the batch that place `turn` belongs to.

        Data 3 × H × W, in `room` if that has its shape; label maps and objects, as `label_rows` gives them.
        """

    def load(self, place: int, room: Array) -> tuple[Array, Array]:
        return self.load_as(place, place, room)

    def read(self, place: int) -> Source:
        if not self._files:
            return super().read(place)
        datum = caffe_pb2.Datum(data=self._files[self.key(place)], encoded=True)
        return Source(decode_datum(datum, self.where(place), force_color=True), self.where(place))


class ObjectDataLayer(PrefetchingLayer):
    """Tops: data N × 3 × H × W, label maps N × 6 × h × w, and perhaps the objects, one row each.

    A row is image, x1, y1, x2, y2, label, ignored (and difficult). See `caffe.data.feed.anchor_labels` for the maps.
    """

    tops: ClassVar[tuple[int, int | None]] = (1, None)
    #: columns of the rows of objects
    row = 7

    def listed(self, source: str, difficult: bool) -> list[ListedImage]:
        """The images of a window file. Errors name this layer."""
        with self.named_in_errors():
            images = read_objects(source, difficult)
        log.info(log.here(), f"Number of images: {len(images)}")
        labels, counts = np.unique(np.concatenate([image.label for image in images]), return_counts=True)
        for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
            log.info(log.here(), f"class {label} has {count} samples")
        return images

    def anchor_maps(self, param: Any, stride: str) -> list[AnchorMap]:
        """The maps that the layer's parameter gives."""
        lists = [list(getattr(param, name)) for name in (stride, "field_w", "field_h")]
        if len({len(values) for values in lists}) > 1 or min((v for values in lists for v in values), default=1) < 1:
            self.fail(
                f"needs as many {stride}, field_w and field_h, all positive; found {lists[0]}, {lists[1]} and {lists[2]}"
            )
        if param.coord_num != 4:
            self.fail(f"coord_num must be 4, not {param.coord_num}")
        return [AnchorMap(*values) for values in zip(*lists, strict=True)]

    def means(self, known: Sequence[str]) -> NDArray[np.float32]:
        """mean_value of transform_param, 3 × 1 × 1. Raises NetError for fields other than the `known` ones."""
        transform = self.param.transform_param
        given = [field.name for field, _ in transform.ListFields() if field.name not in known]
        if given:
            self.fail(f"transform_param has {', '.join(given)}; this layer has {', '.join(known)} of it")
        values = np.array(transform.mean_value, np.float32)
        if values.size not in (0, 1, _CHANNELS):
            self.fail(f"has {values.size} mean_value for images of {_CHANNELS} channels; give 1 or {_CHANNELS}")
        return np.broadcast_to(values if values.size else np.float32(0), _CHANNELS).reshape(-1, 1, 1)

    def check_tops(self, maps: int, objects: bool) -> None:
        """Raises NetError unless there is a top for each thing that the layer gives."""
        wanted = 1 + maps + objects
        if self.num_tops != wanted:
            last = ", and the objects" if objects else ""
            self.fail(f"needs {wanted} tops: data, {maps} label maps{last}; it has {self.num_tops}")

    def order(self, count: int) -> tuple[Order, int]:
        """The order of `count` images in this phase, and the seed of its random numbers."""
        return Order.of_phase(count, self.phase == TRAIN), layer_seed()

    def start(
        self, records: ObjectImages, maps: list[AnchorMap], size: tuple[int, int], batch_size: int, objects: bool
    ) -> None:
        """Gets ready to read images of about `size`, height and width. `objects`: the last top has their rows."""
        self._maps, self._objects = maps, objects
        self._data_shape: Shape = (batch_size, _CHANNELS, *size)
        log.info(log.here(), "output data size: " + ",".join(map(str, self._data_shape)))
        self.prefetch(records.load, self._data_shape[1:], batch_size, records.where, records.key, records.load_as)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        size, _, height, width = self._data_shape
        shapes: list[Shape] = [(size, LABEL_CHANNELS, *of.shape(height, width)) for of in self._maps]
        # as in the forks, until the objects of a batch are known
        return [self._data_shape, *shapes, *([(1, self.row, 1, 1)] if self._objects else [])]

    def no_objects(self) -> list[float]:
        """The row of a batch without objects."""
        return [-1.0] * self.row

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        data, labels = self.next_records()
        height, width = data.shape[2:]
        tops, start = [data], 0
        for of in self._maps:
            shape = (LABEL_CHANNELS, *of.shape(height, width))
            stop = start + int(np.prod(shape))
            tops.append(torch.from_numpy(np.stack([record[start:stop].reshape(shape) for record in labels])))
            start = stop
        if self._objects:
            tops.append(torch.from_numpy(self._rows([record[start:] for record in labels])))
        return tuple(tops)

    def _rows(self, parts: list[Array]) -> Array:
        """The objects' rows of a batch, R × row × 1 × 1, from those of its records without their first value."""
        rows = [part.reshape(-1, self.row - 1) for part in parts]
        number = np.repeat(np.arange(len(rows), dtype=np.float32), [len(part) for part in rows])
        table = np.concatenate([number[:, None], np.concatenate(rows)], axis=1)
        if not len(table):
            table = np.array([self.no_objects()], np.float32)
        return table.reshape(-1, self.row, 1, 1)


def record_of(view: ObjectView, canvas: tuple[int, int], mean: NDArray[np.float32], scale: float, room: Array) -> Array:
    """Data 3 × H × W of a view, in `room` if that has the shape: pixels minus mean, times scale, and 0 around them."""
    shape = (_CHANNELS, *canvas)
    data = room if room.shape == shape else np.empty(shape, np.float32)
    data[:] = 0
    height, width = view.image.shape[:2]
    part = data[:, view.top : view.top + height, view.left : view.left + width]
    part[:] = (view.image.transpose(2, 0, 1) - mean) * np.float32(scale)
    return data


def label_rows(
    view: ObjectView, image: ListedImage, canvas: tuple[int, int], maps: list[AnchorMap], rules: LabelRules,
    least: tuple[float, float], difficult: bool,
) -> Array:  # fmt: skip
    """The label maps of a view and then its objects' rows without the first value, in one axis.

    `least`: objects of a smaller width or height are ignored, and so are those whose center is outside the canvas.
    """
    boxes = view.boxes
    center, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2] + 1
    outside = (center < 0) | (center >= [canvas[1], canvas[0]])
    ignore = image.ignore | outside.any(axis=1) | (sides < least).any(axis=1)
    height, width = view.image.shape[:2]
    tables = label_maps(
        maps, rules, canvas, (view.left, view.top, width, height), boxes, image.label, ignore, view.regions
    )
    rows = object_rows(view, image, ignore, difficult)
    return np.concatenate([*(table.reshape(-1) for table in tables), rows])


def object_rows(view: ObjectView, image: ListedImage, ignore: NDArray[np.bool_], difficult: bool) -> Array:
    """The rows of a view's objects without the first value, in one axis; `ignore` says which are ignored."""
    columns = [view.boxes, image.label[:, None], ignore[:, None], *([image.difficult[:, None]] if difficult else [])]
    return np.concatenate(columns, axis=1).astype(np.float32).reshape(-1)
