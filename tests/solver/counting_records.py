"""A data layer for tests: each record is a function of its number, ranks read disjoint ones, and faults come on
request.

CAFFE_TEST_FAULT="die 1 3" makes rank 1 exit silently in its third batch; "raise 1 3" raises there, "hang 1 3" sleeps,
"nan 1 3" yields a record that makes the loss nan, "oom 1 3" asks for more memory than there is. "slow_test 0.2" makes
every test batch take that many seconds, "slow_train 0.02" every training batch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe.engine.layer import TEST, Shape, SourceLayer, register
from caffe.errors import DataError
from caffe.runtime import runtime


@register
class CountingRecords(SourceLayer):
    """`type: "CountingRecords"`: x (batch 4 x 3) and t (4 x 1), smooth functions of the record's number."""

    type_name = "CountingRecords"
    tops = (2, 2)
    batch_size = 4

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.batch = 0

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        return [(self.batch_size, 3), (self.batch_size, 1)]

    def start_at(self, batch: int) -> None:
        self.batch = batch

    def record_keys(self, batches: int = 1) -> list[str]:
        assert batches <= self.batch
        starts = range(self.batch - batches, self.batch)
        return [f"{i:08d}" for batch in starts for i in self._numbers(batch)]

    def _numbers(self, batch: int) -> np.ndarray:
        first = (batch * runtime.world_size + runtime.rank) * self.batch_size
        return np.arange(first, first + self.batch_size)

    def forward(self) -> tuple[Tensor, ...]:  # type: ignore[override]  # no bottoms
        i = self._numbers(self.batch)[:, None].astype(np.float32)
        x = torch.from_numpy(np.sin(i * np.array([0.3, 0.7, 1.1], np.float32)))
        self._fault(x)
        self.batch += 1
        return x, torch.from_numpy(np.cos(0.3 * i))

    def _fault(self, x: Tensor) -> None:
        what, _, place = os.environ.get("CAFFE_TEST_FAULT", "").partition(" ")
        if what == "slow_test" and self.phase == TEST:
            time.sleep(float(place))
        if what == "slow_train" and self.phase != TEST:
            time.sleep(float(place))
        if not what or place != f"{runtime.rank} {self.batch}":
            return
        if what == "die":
            os._exit(7)
        if what == "raise":
            raise DataError("record 00000042 is no JPEG image")
        if what == "hang":
            time.sleep(600)
        if what == "oom":
            torch.empty(1 << 50)
        if what == "nan":
            x[1, 1] = float("nan")
