"""The records that a layer reads from an LMDB, prepared for the net one by one, in this process or a worker."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffe.data.augment.boxes import Boxes
from caffe.data.augment.transform import Source, Transformer
from caffe.data.feed.prefetch import Array
from caffe.data.feed.stream import Order, record_rng
from caffe.data.images import decode_datum
from caffe.data.lmdb_source import LmdbSource
from caffe.errors import DataError


class DatumRecords:
    """Datum records: an image and its label (classification)."""

    def __init__(self, source: LmdbSource, transformer: Transformer, order: Order, seed: int) -> None:
        self.source, self.transformer, self.order, self.seed = source, transformer, order, seed

    def where(self, place: int) -> str:
        """The record at a place of the stream, in words."""
        return self.source.where(self.order.at(place)[1])

    def key(self, place: int) -> str:
        """The key of the record at a place of the stream."""
        return self.source.key(self.order.at(place)[1])

    def image_of(self, datum: Any, index: int) -> Source:
        """The decoded image of record `index`."""
        param, where = self.transformer.param, self.source.where(index)
        image = decode_datum(datum, where, force_color=param.force_color, force_gray=param.force_gray)
        return Source(image, where, raw=not datum.encoded)

    def shape_at(self, place: int) -> tuple[int, int, int]:
        """The shape (C, H, W) that the data of the record at a place of the stream will have."""
        _, index = self.order.at(place)
        return self.transformer.shape(*self.image_of(self._read(index), index).image.shape)

    def load(self, place: int, room: Array) -> tuple[Array, Array]:
        """Data [C, H, W], in `room` if that has its shape, and the label [1, 1], of the record at `place`."""
        epoch, index = self.order.at(place)
        datum = self._read(index)
        source = self.image_of(datum, index)
        data, _ = self.transformer(source, None, record_rng(self.seed, epoch, index), room)
        return data, np.array([[datum.label]], np.float32)

    def load_as(self, place: int, turn: int, room: Array) -> tuple[Array, Array]:
        """The same, in the batch of another place, where the record stands for one that could not be read."""
        return self.load(place, room)

    def _read(self, index: int) -> Any:
        return self.source.datum(index)


class AnnotatedRecords(DatumRecords):
    """AnnotatedDatum records: an image and its boxes, or (without annotations) its label."""

    #: whether to make label rows from the boxes
    boxed = True
    #: whether the layer's parameter, instead of the records, gives the type of the annotations
    typed = False
    #: whether records need a label at all
    labeled = True
    #: of the layer: with several resize_param, batches differ in size
    batch_size = 1

    def load(self, place: int, room: Array) -> tuple[Array, Array]:
        """Data [C, H, W] as above, and [n, 7]: label, instance, corners, difficult of each remaining box; or [1, 1]."""
        return self.load_as(place, place, room)

    def load_as(self, place: int, turn: int, room: Array) -> tuple[Array, Array]:
        """The same, with the size of the batch of `turn`."""
        epoch, index = self.order.at(place)
        record = self.source.annotated_datum(index)
        source = self.image_of(record.datum, index)
        boxes = None
        if self.boxed:
            if not record.HasField("type") and not self.typed:
                raise DataError(f"{source.where}: has no annotation type, but the first record has one")
            boxes = Boxes.of(record)
        sizes = self.transformer.sizes
        size = None if sizes is None else sizes.of_batch(turn // self.batch_size, self.seed)
        data, boxes = self.transformer(source, boxes, record_rng(self.seed, epoch, index), room, size)
        if boxes is not None:
            return data, boxes.rows()
        if self.labeled and not record.datum.HasField("label"):
            raise DataError(f"{source.where}: has neither boxes nor a label")
        return data, np.array([[record.datum.label]], np.float32)

    def _read(self, index: int) -> Any:
        return self.source.annotated_datum(index).datum
