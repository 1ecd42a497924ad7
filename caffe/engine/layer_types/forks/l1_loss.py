"""L1Loss of NVIDIA's Caffe, which DetectNet trains with."""

from __future__ import annotations

from torch import Tensor

from caffe.engine.layer import register
from caffe.engine.layer_types.distance_loss import DistanceLoss
from caffe.engine.layer_types.shapes import full_precision


@register
class L1Loss(DistanceLoss):
    """The sum of |a − b| over the batch's size."""

    type_name = "L1Loss"

    def forward(self, *bottom: Tensor) -> Tensor:
        a, b = (full_precision(x) for x in bottom)
        return (a - b.reshape(a.shape)).abs().sum() / max(len(a), 1)
