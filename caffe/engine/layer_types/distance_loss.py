"""EuclideanLoss, SmoothL1Loss and ContrastiveLoss: losses between two blobs, either of which may get a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.shapes import count, full_precision, legacy_dim, text
from caffe.engine.layer_types.softmax import LossLayer


class DistanceLoss(LossLayer):
    """A loss of the differences of two blobs with the same number of values per item; both get gradients."""

    def takes_gradient(self, index: int) -> bool:
        return True

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        super().reshape(bottom)
        if count(bottom[0], 1) != count(bottom[1], 1):
            self.fail(f"its bottoms must have the same size; they are {text(bottom[0])} and {text(bottom[1])}")
        return [()]


@register
class EuclideanLoss(DistanceLoss):
    """Half the sum of squared differences, over the batch size."""

    type_name = "EuclideanLoss"

    def forward(self, *bottom: Tensor) -> Tensor:
        a, b = (full_precision(x).reshape(-1) for x in bottom)
        return (a - b).square().sum() / bottom[0].shape[0] / 2


class _SmoothL1(torch.autograd.Function):
    """The smooth L1 f of w · (a − b), item by item; its gradient in a is f'(w · (a − b)), without the factor w.

    That is the derivative if weights are 0 or 1, as intended. f is quadratic below 1 / sharpness.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, weight: Tensor | None, sharpness: float) -> Tensor:
        difference = a - b if weight is None else weight * (a - b)
        ctx.save_for_backward(difference)
        ctx.sharpness = sharpness
        size = difference.abs()
        return torch.where(size < 1 / sharpness, 0.5 * sharpness * difference.square(), size - 0.5 / sharpness)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (difference,) = ctx.saved_tensors
        slope = (difference * ctx.sharpness).clamp(-1, 1) * grads[0]
        return slope, -slope, None, None


def smooth_l1(a: Tensor, b: Tensor, weight: Tensor | None = None, sharpness: float = 1.0) -> Tensor:
    """0.5 · s · d² where |d| < 1 / s, |d| − 0.5 / s elsewhere, for d = weight · (a − b) and s the sharpness.

    All have one shape. Gradients for a and b, which leave `weight` out (see _SmoothL1).
    """
    losses: Tensor = _SmoothL1.apply(a, b, weight, sharpness)
    return losses


@register
class SmoothL1Loss(LossLayer):
    """Smooth L1 (Girshick 2015) of the differences, over the batch size; a third bottom weights the differences.

    With a fourth bottom the layer is Fast R-CNN's: the third weights the differences, the fourth their losses, and both
    are factors of the gradient. `sigma` of smooth_l1_loss_param: quadratic where |d| < 1 / sigma². A second top (of
    Cascade R-CNN) is the loss of each position, N × 1 × H × W, and passes no gradient on.
    """

    type_name = "SmoothL1Loss"
    bottoms = (2, 4)
    tops = (1, 2)

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.sigma: float = self.param.smooth_l1_loss_param.sigma
        if not self.sigma > 0:
            self.fail(f"sigma must be positive, not {self.sigma:g}")

    def takes_gradient(self, index: int) -> bool:
        return index < 2

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        super().reshape(bottom)
        for i, shape in enumerate(bottom):
            if any(legacy_dim(shape, axis) != legacy_dim(bottom[0], axis) for axis in range(4)):
                self.fail(
                    f"its bottoms must have the same shape; '{self.param.bottom[0]}' is {text(bottom[0])} and "
                    f"'{self.param.bottom[i]}' is {text(shape)}"
                )
        return [(), self.positions(bottom[0])][: max(self.num_tops, 1)]

    @staticmethod
    def positions(shape: Sequence[int]) -> Shape:
        """The shape of the loss of each position."""
        return (shape[0], 1, legacy_dim(shape, 2), legacy_dim(shape, 3))

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        a, b = (full_precision(x).reshape(-1) for x in bottom[:2])
        weights = [full_precision(x).detach().reshape(-1) for x in bottom[2:]]
        if len(weights) == 2:
            inside, outside = weights
            losses = outside * smooth_l1(inside * a, inside * b, None, self.sigma**2)
        else:
            losses = smooth_l1(a, b, weights[0] if weights else None, self.sigma**2)
        loss = losses.sum() / bottom[0].shape[0]
        if self.num_tops < 2:
            return loss
        shape = tuple(bottom[0].shape)
        each = losses.detach().reshape(shape[0], legacy_dim(shape, 1), *self.positions(shape)[2:])
        return loss, each.sum(dim=1, keepdim=True)


class _Contrastive(torch.autograd.Function):
    """Twice the summed contrastive loss of pairs (rows of a and b).

    The gradient of dissimilar pairs divides by the distance + 1e-4, so that it stays finite for equal items.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, alike: Tensor, margin: float, legacy: bool) -> Tensor:
        difference = a - b
        squared = difference.square().sum(dim=1)
        if legacy:
            missing = margin - squared
            apart = missing.clamp(min=0)
            pull = torch.ones_like(squared)
        else:
            distance = squared.sqrt()
            missing = margin - distance
            apart = missing.clamp(min=0).square()
            pull = missing / (distance + 1e-4)
        pull = torch.where(missing > 0, -pull, 0)
        ctx.save_for_backward(difference * torch.where(alike, 1, pull)[:, None])
        return torch.where(alike, squared, apart).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        grad = 2 * grads[0] * ctx.saved_tensors[0]
        return grad, -grad, None, None, None


@register
class ContrastiveLoss(LossLayer):
    """Hadsell et al. 2006: similar pairs cost d², dissimilar ones max(margin − d, 0)²; half the mean over pairs.

    Bottoms: a and b (N × C), similar or not (N). `legacy_version`: dissimilar pairs cost max(margin − d², 0).
    """

    type_name = "ContrastiveLoss"
    bottoms = (3, 3)

    def takes_gradient(self, index: int) -> bool:
        return index < 2

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        super().reshape(bottom)
        a, b, like = bottom
        if count(a, 1) != legacy_dim(a, 1) or count(b, 1) != legacy_dim(a, 1):
            self.fail(f"needs two blobs with the same shape N × C; they are {text(a)} and {text(b)}")
        if count(like) != a[0]:
            self.fail(f"needs a label for each of the {a[0]} pairs; '{self.param.bottom[2]}' is {text(like)}")
        return [()]

    def forward(self, *bottom: Tensor) -> Tensor:
        param = self.param.contrastive_loss_param
        a, b = (full_precision(x).reshape(len(x), -1) for x in bottom[:2])
        alike = bottom[2].detach().reshape(-1).long() != 0
        doubled: Tensor = _Contrastive.apply(a, b, alike, param.margin, param.legacy_version)
        return doubled / a.shape[0] / 2
