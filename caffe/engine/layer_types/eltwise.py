"""Eltwise: the product, weighted sum or maximum of blobs with the same shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.shapes import text
from caffe.proto import caffe_pb2

_Op = caffe_pb2.EltwiseParameter.EltwiseOp
PROD, SUM, MAX = _Op.Value("PROD"), _Op.Value("SUM"), _Op.Value("MAX")


class _Maximum(torch.autograd.Function):
    """The largest of several blobs; the whole gradient goes to one of them.

    Among equals the second wins over the first, because the original compares the first two with `>`; from the third
    on, only a larger value wins.
    """

    @staticmethod
    def forward(ctx: Any, *blobs: Tensor) -> Tensor:
        winner = (blobs[0] <= blobs[1]).to(torch.int16)
        top = torch.where(winner == 0, blobs[0], blobs[1])
        for i, blob in enumerate(blobs[2:], start=2):
            larger = blob > top
            winner = torch.where(larger, i, winner)
            top = torch.where(larger, blob, top)
        ctx.save_for_backward(winner)
        ctx.count = len(blobs)
        return top

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (winner,) = ctx.saved_tensors
        (grad,) = grads
        return tuple(torch.where(winner == i, grad, 0) for i in range(ctx.count))


@register
class Eltwise(Layer):
    """PROD, SUM (each bottom times its `coeff`) or MAX of two or more bottoms.

    `stable_prod_grad: false` asks for a product's gradient by division; the stable form is used anyway, as it is equal
    and not NaN where a factor is 0.
    """

    type_name = "Eltwise"
    bottoms = (2, None)

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.eltwise_param
        self.operation = param.operation
        self.coeffs = list(param.coeff)
        if self.coeffs and len(self.coeffs) != len(bottom):
            self.fail(f"{len(self.coeffs)} coeff for {len(bottom)} bottoms; give one for each, or none")
        if self.coeffs and self.operation == PROD:
            self.fail("coeff is for SUM only, not for a product")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        for i, shape in enumerate(bottom):
            if tuple(shape) != tuple(bottom[0]):
                self.fail(
                    f"all bottoms must have the same shape; '{self.param.bottom[0]}' is {text(bottom[0])} and "
                    f"'{self.param.bottom[i]}' is {text(shape)}"
                )
        return [bottom[0]]

    def forward(self, *bottom: Tensor) -> Tensor:
        if self.operation == MAX:
            largest: Tensor = _Maximum.apply(*bottom)
            return largest
        top = bottom[0]
        if self.operation == PROD:
            for blob in bottom[1:]:
                top = top * blob
            return top
        coeffs = self.coeffs or [1.0] * len(bottom)
        if coeffs[0] != 1:
            top = top * coeffs[0]
        for blob, coeff in zip(bottom[1:], coeffs[1:], strict=True):
            top = torch.add(top, blob, alpha=coeff)
        return top
