"""SigmoidCrossEntropyBalanceLoss of OSVOS (Caelles et al. 2017), which is HED's loss (Xie and Tu 2015) by another name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.shapes import count, full_precision, text
from caffe.engine.layer_types.softmax import LossLayer


class _BalancedCrossEntropy(torch.autograd.Function):
    """The loss of scores and targets, both N × K. Its gradient is σ(x) − target, times the same weights.

    A target other than 0 and 1 has no loss, but a gradient, with weight 1.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor) -> Tensor:
        positive, negative = target == 1, target == 0
        positives, negatives = (mask.sum(dim=1, keepdim=True).to(x) for mask in (positive, negative))
        both = (positives + negatives).clamp(min=1)
        weight = torch.where(positive, negatives / both, torch.where(negative, positives / both, 1))
        ctx.save_for_backward(x, target, weight)
        losses = torch.nn.functional.binary_cross_entropy_with_logits(x, positive.to(x), reduction="none")
        return (losses * weight * (positive | negative)).sum() / max(len(x), 1)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, target, weight = ctx.saved_tensors
        return (x.sigmoid() - target) * weight * (grads[0] / max(len(x), 1)), None


@register
class SigmoidCrossEntropyBalanceLoss(LossLayer):
    """Bottoms: scores N × …, and targets, 0 or 1, of the same number of values. Top: the mean over N of the sum.

    The cross entropy of a value counts by the other class's part of the item's targets: with few edges, an edge counts
    much. Other targets have no loss; their gradient σ(x) − target stays, as in the fork. An item with no target that is
    0 or 1, for which the fork's loss is not a number, adds 0.
    """

    type_name = "SigmoidCrossEntropyBalanceLoss"

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        super().reshape(bottom)
        if count(bottom[0]) != count(bottom[1]):
            self.fail(
                f"its bottoms are {text(bottom[0])} and {text(bottom[1])}; they must have the same number of values"
            )
        return [()]

    def forward(self, *bottom: Tensor) -> Tensor:
        x, target = (full_precision(b).reshape(len(b), count(b.shape, 1)) for b in bottom)
        loss: Tensor = _BalancedCrossEntropy.apply(x, target.detach())
        return loss
