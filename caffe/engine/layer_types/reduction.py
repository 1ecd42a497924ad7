"""Reduction: all axes from one on become a single number."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.shapes import count
from caffe.proto import caffe_pb2

_Op = caffe_pb2.ReductionParameter.ReductionOp
ASUM, SUMSQ, MEAN = _Op.Value("ASUM"), _Op.Value("SUMSQ"), _Op.Value("MEAN")


@register
class Reduction(Layer):
    """`coeff` times the SUM, ASUM (of absolute values), SUMSQ (of squares) or MEAN of the axes from `axis` on."""

    type_name = "Reduction"

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        return [bottom[0][: self.canonical_axis(self.param.reduction_param.axis, len(bottom[0]))]]

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        param = self.param.reduction_param
        axis = self.canonical_axis(param.axis, x.dim())
        values = x.reshape(*x.shape[:axis], count(x.shape, axis))
        if param.operation == ASUM:
            values = values.abs()
        elif param.operation == SUMSQ:
            values = values.square()
        top = values.mean(dim=-1) if param.operation == MEAN else values.sum(dim=-1)
        return top if param.coeff == 1 else top * param.coeff
