"""AnnotatedData and Data: layers that read an LMDB."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe import log
from caffe.data.augment.jitter import Jitter
from caffe.data.augment.sampler import BatchSampler
from caffe.data.augment.transform import TRAIN, Transformer
from caffe.data.feed import listed_sizes
from caffe.data.feed.box_checks import BoxWatch, warn_of_labels
from caffe.data.feed.records import AnnotatedRecords, DatumRecords
from caffe.data.feed.stream import Order, layer_seed, random_skip
from caffe.data.feed.yolo_label import YOLO_ROWS, yolo_label
from caffe.data.lmdb_source import LmdbSource
from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.prefetching import PrefetchingLayer
from caffe.proto import caffe_pb2
from caffe.runtime import runtime


class LmdbLayer(PrefetchingLayer):
    """Shared by the two: source, order, workers."""

    tops = (1, 2)
    _records: DatumRecords
    _log_place = ""

    def _open(
        self, kind: type[DatumRecords], samplers: Sequence[BatchSampler] = (), jitter: Jitter | None = None
    ) -> None:
        """Opens the source; sets `_records` and `_data_shape`."""
        param = self.param.data_param
        if not param.source:
            self.fail("data_param has no source")
        if param.HasField("backend") and param.backend == param.LEVELDB:
            self.fail("backend LEVELDB is not supported: build the database as LMDB, and set backend: LMDB")
        if param.batch_size < 1:
            self.fail("data_param needs a batch_size over 0")
        with self.named_in_errors():
            source = LmdbSource(param.source)
        log.info("db_lmdb.cpp:35", f"Opened lmdb {param.source}")
        transform = caffe_pb2.TransformationParameter()
        transform.CopyFrom(self.param.transform_param)
        if param.force_encoded_color:
            transform.force_color = True
        transformer = Transformer(transform, self.phase, self.where, samplers, jitter)
        seed = layer_seed()
        skip = random_skip(param.rand_skip, seed)
        if skip:
            log.info("data_reader.cpp:80", f"Skipping first {skip} data points.")
        self._checked_lists: set[str] = set()
        self._records = kind(source, transformer, Order.of_phase(len(source), self.phase == TRAIN, skip), seed)

    def _start(self) -> None:
        """Sets `_data_shape` from the first record, and prepares reading."""
        size, shape = self.param.data_param.batch_size, self.first_readable(self._records.shape_at)
        log.info(self._log_place, f"output data size: {size},{shape[0]},{shape[1]},{shape[2]}")
        self._data_shape: Shape = (size, *shape)
        records = self._records
        self.prefetch(records.load, shape, size, records.where, records.key, records.load_as)

    def records(self) -> list[str] | None:
        order, source = self._records.order, self._records.source
        if order.skip or order.world_size > 1:
            return None
        return [source.key(index) for index in range(len(source))]

    def check_sizes(self, path: str, sizes: Sequence[tuple[int, int]]) -> None:
        if path in self._checked_lists or self.records() is None:
            return
        self._checked_lists.add(path)
        if found := listed_sizes.contradiction(self._records.source, sizes):
            log.warning(
                log.here(),
                f"name_size_file '{path}' does not fit the records of layer '{self.name}' ({self._records.source.path}): "
                f"{found}. Boxes are scaled with the sizes in the list, so results and scores will be wrong: make the "
                "list again with get_image_size",
            )

    def close(self) -> None:
        if self._prefetcher is not None:
            super().close()
            self._records.source.close()


@register
class Data(LmdbLayer):
    """Images of an LMDB of Datum records. Tops: data [N, C, H, W], label [N]."""

    type_name = "Data"
    _log_place = "data_layer.cpp:41"

    def setup(self, bottom: Sequence[Shape]) -> None:
        self._open(DatumRecords)
        self._start()

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        return [self._data_shape, self._data_shape[:1]][: self.num_tops]

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        data, rows = self.next_records()
        return (data, torch.from_numpy(np.concatenate(rows)).reshape(-1)) if self.num_tops == 2 else data


@register
class AnnotatedData(LmdbLayer):
    """Images with boxes of an LMDB of AnnotatedDatum records, augmented as SSD does.

    Tops: data [N, C, H, W]; label [1, 1, M, 8] with one row for each remaining box in the batch (item, label, instance,
    xmin, ymin, xmax, ymax, difficult), one row of −1 if there are none. Without annotations (records of convert_annoset
    -anno_type=classification) label is [N, 1, 1, 1].

    With yolo_data_type: 1, as in MobileNet-YOLO, label is [N, 1, 300, 5]: rows of class (from 0), center x, center y,
    width and height in parts of the image, then rows of zeros. With several resize_param, every ten batches have one
    of their sizes.
    """

    type_name = "AnnotatedData"
    _log_place = "annotated_data_layer.cpp:62"
    _records: AnnotatedRecords

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.annotated_data_param
        where = self.where
        if param.yolo_data_type not in (0, 1):
            self.fail(f"yolo_data_type is {param.yolo_data_type}; it must be 0 (rows of SSD) or 1 (rows of YOLO)")
        self._open(
            AnnotatedRecords,
            [BatchSampler.of(each, where) for each in param.batch_sampler if each.use_original_image],
            Jitter.of(param, where),
        )
        records, size = self._records, self.param.data_param.batch_size
        records.batch_size = size
        sizes = records.transformer.sizes
        if sizes is not None and sizes.fits_small and size != 1:
            self.fail(f"FIT_SMALL_SIZE makes images of different sizes: batch_size must be 1, not {size}")
        first = self.first_readable(lambda place: records.source.annotated_datum(records.order.at(place)[1]))
        records.labeled = self.num_tops == 2
        records.typed = param.HasField("anno_type")
        records.boxed = records.labeled and (first.HasField("type") or records.typed)
        self._watch = BoxWatch(where) if records.boxed and self.phase == TRAIN else None
        if self._watch is not None and runtime.rank == 0:
            warn_of_labels(records.source, where)
        if records.boxed and records.typed:
            log.warning("annotated_data_layer.cpp:75", "type stored in AnnotatedDatum is shadowed.")
        self._start()
        count = sum(len(group.annotation) for group in first.annotation_group)
        self._yolo = records.boxed and param.yolo_data_type == 1
        self._label_shape: Shape = (1, 1, max(1, count), 8) if records.boxed else (size, 1, 1, 1)
        if self._yolo:
            self._label_shape = (size, 1, YOLO_ROWS, 5)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        return [self._data_shape, self._label_shape][: self.num_tops]

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        data, rows = self.next_records()
        if self.num_tops == 1:
            return data
        if not self._records.boxed:
            return data, torch.from_numpy(np.concatenate(rows)).reshape(-1, 1, 1, 1)
        if self._watch is not None:
            self._watch.see(rows)
        if self._yolo:
            return data, torch.from_numpy(yolo_label(rows, self.param.annotated_data_param.train_diffcult, self.name))
        items = [np.full((len(each), 1), item, np.float32) for item, each in enumerate(rows)]
        label = np.concatenate([np.concatenate([item, each], axis=1) for item, each in zip(items, rows, strict=True)])
        if not len(label):
            label = np.full((1, 8), -1, np.float32)
        return data, torch.from_numpy(label).reshape(1, 1, -1, 8)
