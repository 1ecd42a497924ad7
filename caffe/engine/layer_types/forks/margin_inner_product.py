"""MarginInnerProduct of SphereFace (Liu et al. 2017): class scores in which the right class's angle counts m times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.forks.unit_norm import normalize_rows
from caffe.engine.layer_types.shapes import can_inspect, class_index, count, full_precision, labels_of, text
from caffe.proto import caffe_pb2

_Type = caffe_pb2.MarginInnerProductParameter
_TINY = torch.finfo(torch.float32).tiny


def margin_of(kind: int, cos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For the cosines of angles: (−1)^k cos(m · angle) − 2k, where k is the number of the angle's m-th of a half turn;
    and the factors of w and of −x / |x| in the gradient, before they are scaled.
    """
    sign, square = cos.sign(), cos.square()
    if kind == _Type.DOUBLE:
        return 2 * sign * square - 1, 4 * sign * cos, 2 * sign * square + 1
    if kind == _Type.TRIPLE:
        inner = (cos.abs() - 0.5).sign()
        shift = sign * (1 + inner) - 2
        value = inner * (4 * cos**3 - 3 * cos) + shift
        return value, inner * (12 * square - 3), 8 * inner * cos**3 - shift
    inner = sign * (2 * square - 1).sign()
    shift = 2 * sign + inner - 3
    value = inner * (8 * square.square() - 8 * square + 1) + shift
    slope = inner * (32 * cos**3 - 16 * cos)
    return value, slope, inner * (24 * square.square() - 8 * square - 1) - shift


class _MarginProduct(torch.autograd.Function):
    """Scores M × N of items M × K and vectors N × K of length 1, whose gradients are those of the fork."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, own: Tensor, kind: int, share: float) -> Tensor:
        product = x @ weights.t()
        norm = x.norm(dim=1, keepdim=True)
        ctx.save_for_backward(x, weights, own)
        ctx.kind, ctx.share = kind, share
        if kind == _Type.SINGLE:
            return product
        cos = product / norm.clamp(min=_TINY)
        return torch.where(own, norm * margin_of(kind, cos)[0] * share + product * (1 - share), product)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, weights, own = ctx.saved_tensors
        gradient = grads[0] @ weights
        if ctx.kind != _Type.SINGLE:
            norm = x.norm(dim=1, keepdim=True).clamp(min=_TINY)
            cos = ((x @ weights.t() / norm) * own).sum(dim=1, keepdim=True)
            _, of_w, of_x = margin_of(ctx.kind, cos)
            of_x = -of_x / norm
            length = (of_w.square() + of_x.square()).sqrt().clamp(min=_TINY)
            single = (grads[0] * own).sum(dim=1, keepdim=True) * ctx.share
            w = own.to(weights) @ weights
            gradient = gradient - single * w + single * (of_w / length * w + of_x / length * x)
        return gradient, grads[0].t() @ x, None, None, None


@register
class MarginInnerProduct(Layer):
    """Bottoms: features, labels. Tops: scores M × num_output; λ, which may be left out. Blob: the vectors.

    A score is |x| · cos(angle between x and the vector of the class), whose length is brought to 1 before each pass. For
    the right class it is (|x| · ψ + λ |x| cos) / (1 + λ), where ψ falls m times as fast with the angle: `type` SINGLE has
    m = 1, DOUBLE 2, TRIPLE 3, QUADRUPLE 4. λ is base · (1 + gamma · pass) ^ −power, at least lambda_min; passes count from
    `iteration` + 1, in both phases. As in the fork, the vectors' gradient is that of the plain product, and that of ψ
    for x is scaled so that its factors of w and x have length 1.
    """

    type_name = "MarginInnerProduct"
    bottoms = (2, 2)
    tops = (1, 2)
    fresh_tops = True
    keeps_bottoms = True

    def takes_gradient(self, index: int) -> bool:
        return index == 0

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.own = self.param.margin_inner_product_param
        if self.own.num_output < 1:
            self.fail("num_output must be given and positive")
        self.inputs = count(bottom[0], self.canonical_axis(self.own.axis, len(bottom[0])))
        self.add_blob((self.own.num_output, self.inputs), self.own.weight_filler)
        self.iteration = self.own.iteration

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        axis = self.canonical_axis(self.own.axis, len(bottom[0]))
        if count(bottom[0], axis) != self.inputs:
            self.fail(f"the vectors have {self.inputs} values, but {text(bottom[0])} has others from axis {axis} on")
        if count(bottom[1]) != count(bottom[0], 0, axis):
            self.fail(f"needs one label per item; '{self.param.bottom[1]}' is {text(bottom[1])} for {text(bottom[0])}")
        return [(*bottom[0][:axis], self.own.num_output), (1,)][: self.num_tops]

    def graph_obstacle(self) -> str | None:
        return "counts its passes" if self.own.gamma else None

    def compile_obstacle(self) -> str | None:
        return "normalizes its weights in place"

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        normalize_rows(self.blobs[0])
        self.iteration += 1
        with np.errstate(invalid="ignore", divide="ignore"):
            falling = float(np.power(np.float64(1 + self.own.gamma * self.iteration), -self.own.power))
        lambda_ = max(self.own.base * falling, self.own.lambda_min)
        axis = self.canonical_axis(self.own.axis, bottom[0].dim())
        x = full_precision(bottom[0]).reshape(count(bottom[0].shape, 0, axis), self.inputs)
        labels = labels_of(bottom[1])
        index, bad = class_index(labels, self.own.num_output)
        if can_inspect(labels) and bool(bad.any()):
            self.fail(
                f"label {int(labels[bad][0])} in '{self.param.bottom[1]}' is not one of the {self.own.num_output} classes "
                f"(0 to {self.own.num_output - 1})"
            )
        own = (torch.arange(self.own.num_output, device=x.device) == index[:, None]) & ~bad[:, None]
        top = _MarginProduct.apply(x, full_precision(self.blobs[0]), own, self.own.type, 1 / (1 + lambda_))
        top = top.reshape(*bottom[0].shape[:axis], self.own.num_output).to(bottom[0].dtype)
        return top if self.num_tops < 2 else (top, bottom[0].new_full((1,), lambda_))
