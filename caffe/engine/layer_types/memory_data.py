"""MemoryData: arrays passed from Python."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe import log
from caffe.engine.layer import Shape, SourceLayer, register


@register
class MemoryData(SourceLayer):
    """Batches of arrays given by `reset`, repeatedly. Tops: data [N, C, H, W], label [N, 1, 1, 1]."""

    type_name = "MemoryData"
    tops = (2, 2)

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.memory_data_param
        self.batch_size: int = param.batch_size
        self._image: Shape = (param.channels, param.height, param.width)
        if self.batch_size < 1 or min(self._image) < 1:
            self.fail("memory_data_param needs batch_size, channels, height and width, all over 0")
        self._data: Tensor | None = None
        self._labels: Tensor | None = None
        self._batch = 0

    def reset(self, data: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
        """Takes data [n, C, H, W] and n labels; n is a multiple of the batch size. They are copied."""
        count = len(data)
        if count == 0 or count % self.batch_size:
            self.fail(f"{count} items: the number must be a multiple of batch_size, {self.batch_size}")
        if tuple(data.shape[1:]) != self._image:
            self.fail(f"items have shape {tuple(data.shape[1:])}; memory_data_param says {self._image}")
        if np.size(labels) != count:
            self.fail(f"{np.size(labels)} labels for {count} items")
        if self.param.HasField("transform_param"):
            log.warning("memory_data_layer.cpp:91", "MemoryData does not transform array data on Reset()")
        self._data = torch.from_numpy(np.array(data, np.float32))
        self._labels = torch.from_numpy(np.array(labels, np.float32).reshape(-1, 1, 1, 1))
        self._batch = 0

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        return [(self.batch_size, *self._image), (self.batch_size,)]

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        if self._data is None or self._labels is None:
            self.fail("has no data yet: give it some with net.set_input_arrays(data, labels)")
        start = self._batch * self.batch_size % len(self._data)
        self._batch += 1
        stop = start + self.batch_size
        return self._data[start:stop].clone(), self._labels[start:stop].clone()

    def record_keys(self, batches: int = 1) -> list[str]:
        if self._data is None:
            return []
        stop = max(self._batch, 1)
        places = range(max(0, stop - batches) * self.batch_size, stop * self.batch_size)
        return [f"item {place % len(self._data)}" for place in places]

    def start_at(self, batch: int) -> None:
        self._batch = batch
