"""HDF5Data: rows of HDF5 files, one dataset per top."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe import log
from caffe.data.feed.stream import Order, layer_seed
from caffe.data.image_list import read_lines
from caffe.engine.layer import TRAIN, Shape, SourceLayer, register


@register
class HDF5Data(SourceLayer):
    """Rows of the datasets with the tops' names, from the files of a list; one file is in memory at a time.

    `shuffle` draws a new order of the files, and of each file's rows, for every epoch. Ranks that train take turns
    row by row.
    """

    type_name = "HDF5Data"
    tops = (1, None)

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.hdf5_data_param
        if self.param.HasField("transform_param"):
            self.fail("does not transform data; remove transform_param")
        if param.batch_size < 1:
            self.fail("hdf5_data_param needs a batch_size over 0")
        log.info("hdf5_data_layer.cpp:76", f"Loading list of HDF5 filenames from: {param.source}")
        with self.named_in_errors():
            self._files = [line for _, line in read_lines(param.source)]
        log.info("hdf5_data_layer.cpp:90", f"Number of HDF5 files: {len(self._files)}")
        self._seed, self._shuffle = layer_seed(), param.shuffle
        shapes = [self._shapes_of(file) for file in self._files]
        for file, shape in zip(self._files, shapes, strict=True):
            if [each[1:] for each in shape] != [each[1:] for each in shapes[0]]:
                self.fail(f"'{file}' has rows of other shapes than '{self._files[0]}'")
        self._rows = [shape[0][0] for shape in shapes]
        if not sum(self._rows):
            self.fail(f"the files of '{param.source}' have no rows")
        self._shapes: list[Shape] = [(param.batch_size, *each[1:]) for each in shapes[0]]
        self._order = Order.of_phase(sum(self._rows), self.phase == TRAIN)
        self._file = lru_cache(maxsize=1)(self._read)
        self._permutation = lru_cache(maxsize=1)(self._permute)
        self._place = 0

    def _shapes_of(self, file: str) -> list[Shape]:
        with self._opened(file) as data:
            shapes = [tuple(self._dataset(data, file, top).shape) for top in self.param.top]
        if any(len(shape) < 1 or shape[0] != shapes[0][0] for shape in shapes):
            self.fail(f"'{file}': datasets with different numbers of rows: {shapes}")
        return shapes

    def _opened(self, file: str) -> Any:
        import h5py

        try:
            return h5py.File(file, "r")
        except OSError as error:
            self.fail(f"cannot open '{file}': {error}")

    def _dataset(self, data: Any, file: str, top: str) -> Any:
        import h5py

        dataset = data.get(top)
        if not isinstance(dataset, h5py.Dataset):
            self.fail(f"'{file}' has no dataset '{top}'; it has {', '.join(map(repr, data)) or 'none'}")
        if dataset.dtype.kind not in "fiub":
            self.fail(f"'{file}': dataset '{top}' holds {dataset.dtype}, not numbers")
        return dataset

    def _read(self, number: int) -> list[NDArray[Any]]:
        file = self._files[number]
        with self._opened(file) as data:
            try:
                return [np.asarray(self._dataset(data, file, top)[()], np.float32) for top in self.param.top]
            except OSError as error:
                self.fail(f"cannot read '{file}': {error}")

    def _find(self, epoch: int, offset: int) -> tuple[int, int]:
        """(file, row) of the `offset`-th row in an epoch."""
        files: Sequence[int] = range(len(self._files))
        if self._shuffle:
            files = np.random.default_rng([self._seed, epoch]).permutation(len(self._files)).tolist()
        for file in files:
            if offset < self._rows[file]:
                return file, int(self._permutation(epoch, file)[offset]) if self._shuffle else offset
            offset -= self._rows[file]
        raise AssertionError("offset beyond the epoch")

    def _permute(self, epoch: int, file: int) -> NDArray[Any]:
        return np.random.default_rng([self._seed, epoch, file]).permutation(self._rows[file])

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        return self._shapes

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        tops = [np.empty(shape, np.float32) for shape in self._shapes]
        for item in range(self._shapes[0][0]):
            file, row = self._find(*self._order.at(self._place))
            for top, values in zip(tops, self._file(file), strict=True):
                top[item] = values[row]
            self._place += 1
        return tuple(torch.from_numpy(top) for top in tops)

    def record_keys(self, batches: int = 1) -> list[str]:
        size = self._shapes[0][0]
        stop = max(self._place, size)
        found = [self._find(*self._order.at(place)) for place in range(max(0, stop - batches * size), stop)]
        return [f"{self._files[file]} row {row}" for file, row in found]

    def start_at(self, batch: int) -> None:
        self._place = batch * self._shapes[0][0]
