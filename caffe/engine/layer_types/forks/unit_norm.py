"""Vectors of length 1 in caffe-windows (NormFace, Wang et al. 2017): its form of Normalize, and weights kept at that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor

from caffe.engine.layer import Shape
from caffe.engine.layer_types.shapes import full_precision, legacy_dim, text


class _ScaledGradient(torch.autograd.Function):
    """Passes values on, and their gradient times `factor`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (factor,) = ctx.saved_tensors
        return grads[0] * factor, None


class UnitNorm:
    """Normalize as caffe-windows has it: each position's channels over their L2 or L1 norm, without a learned scale.

    A layer of type Normalize is of this form if it has normalize_param, two tops, or softmax_param { normalize_type } as
    in older prototxts. Top 0: N × C × H × W, where missing axes become 1. Top 1: the norms, N × 1 × H × W; they pass a
    gradient on if bp_norm is set. With fix_gradient the gradient is not divided by the norm. The squares' sum gets
    1e-12, the magnitudes' 1e-6, so that zeros stay zeros; that is the fork's GPU version.
    """

    def __init__(self, param: Any, fail: Callable[[str], NoReturn]) -> None:
        self.fail, self.own = fail, param.normalize_param
        self.kind: str = self.own.normalize_type
        if not param.HasField("normalize_param") and param.softmax_param.HasField("normalize_type"):
            self.kind = param.softmax_param.normalize_type
        if param.HasField("norm_param"):
            fail("norm_param and normalize_param (or a second top) are of different forks; give one")
        if self.kind not in ("L1", "L2"):
            fail(f"normalize_type must be L1 or L2, not '{self.kind}'")

    @staticmethod
    def is_meant(param: Any) -> bool:
        """Whether a LayerParameter of type Normalize is of this form."""
        return (
            param.HasField("normalize_param")
            or len(param.top) > 1
            or (param.HasField("softmax_param") and param.softmax_param.HasField("normalize_type"))
        )

    def tops(self, bottom: Shape) -> list[Shape]:
        """The shapes of both tops."""
        if not 1 <= len(bottom) <= 4:
            self.fail(f"needs a bottom of 1 to 4 axes, not {text(bottom)}")
        num, channels, height, width = (legacy_dim(bottom, axis) for axis in range(4))
        return [(num, channels, height, width), (num, 1, height, width)]

    def __call__(self, bottom: Tensor) -> list[Tensor]:
        """Both tops."""
        x = full_precision(bottom.reshape(self.tops(tuple(bottom.shape))[0]))
        if self.kind == "L2":
            norm = (x.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
        else:
            norm = x.abs().sum(dim=1, keepdim=True) + 1e-6
        unit = x / norm
        if self.own.fix_gradient:
            unit = _ScaledGradient.apply(unit, norm.detach())
        if not self.own.bp_norm:
            norm = norm.detach()
        return [unit.to(bottom.dtype), norm.to(bottom.dtype)]


@torch.no_grad()
def normalize_rows(weights: Tensor) -> None:
    """Divides each row of `weights` by its length, in place. As in caffe-windows its gradient does not know of that."""
    # .data: a pass before may still need the weights for its backward, and finds these, as in the original.
    rows = weights.data
    rows.mul_((full_precision(rows).square().sum(dim=1, keepdim=True) + 1e-12).rsqrt())
