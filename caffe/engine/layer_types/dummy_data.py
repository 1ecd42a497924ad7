"""DummyData: tops made by fillers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe.engine.layer import Shape, SourceLayer, register
from caffe.proto import caffe_pb2


@register
class DummyData(SourceLayer):
    """Tops of given shapes; constant ones are filled once, others for every batch."""

    type_name = "DummyData"
    tops = (1, None)

    def setup(self, bottom: Sequence[Shape]) -> None:
        param, count = self.param.dummy_data_param, self.num_tops
        if len(param.data_filler) not in (0, 1, count):
            self.fail(f"has {len(param.data_filler)} data_filler entries; give none, one, or one per top ({count})")
        legacy = {name: list(getattr(param, name)) for name in ("num", "channels", "height", "width")}
        sizes: list[list[int]]
        if any(legacy.values()):
            if param.shape:
                self.fail("has both shape and num, channels, height, width; give shape")
            for name, values in legacy.items():
                self._check_count(name, len(values))
            sizes = [[values[min(i, len(values) - 1)] for values in legacy.values()] for i in range(count)]
        else:
            self._check_count("shape", len(param.shape))
            sizes = [list(param.shape[min(i, len(param.shape) - 1)].dim) for i in range(count)]
        if any(size < 0 for each in sizes for size in each):
            self.fail(f"has a shape with a negative size: {sizes}")
        self._shapes: list[Shape] = [tuple(size) for size in sizes]
        if self.memory is not None:
            self.memory.blobs(self, [], self._shapes)  # the constant ones are allocated here
        fillers = list(param.data_filler) or [caffe_pb2.FillerParameter(type="constant")]
        self._fillers = [fillers[min(i, len(fillers) - 1)] for i in range(count)]
        self._constants = [
            self._filled(i) if filler.type == "constant" else None for i, filler in enumerate(self._fillers)
        ]

    def _check_count(self, name: str, count: int) -> None:
        if count not in (1, self.num_tops):
            self.fail(f"has {count} {name} entries; give one, or one per top ({self.num_tops})")

    def _filled(self, top: int) -> Tensor:
        blob = torch.zeros(self._shapes[top])
        self.fill(blob, self._fillers[top])
        return blob

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        return self._shapes

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            self._filled(top) if constant is None else constant for top, constant in enumerate(self._constants)
        )
