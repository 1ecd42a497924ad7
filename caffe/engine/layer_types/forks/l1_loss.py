"""L1Loss of NVIDIA's Caffe, which DetectNet trains with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.shapes import count, full_precision, text
from caffe.engine.layer_types.softmax import LossLayer


@register
class L1Loss(LossLayer):
    """The sum of |a − b| over the batch's size. Bottoms: two of the same number of values per item; both get a gradient."""

    type_name = "L1Loss"

    def takes_gradient(self, index: int) -> bool:
        return True

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        super().reshape(bottom)
        if count(bottom[0], 1) != count(bottom[1], 1):
            self.fail(
                f"its bottoms are {text(bottom[0])} and {text(bottom[1])}; they must have the same number of values"
            )
        return [()]

    def forward(self, *bottom: Tensor) -> Tensor:
        a, b = (full_precision(x) for x in bottom)
        return (a - b.reshape(a.shape)).abs().sum() / max(len(a), 1)
