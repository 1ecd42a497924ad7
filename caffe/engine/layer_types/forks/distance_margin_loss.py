"""GeneralContrastiveLoss and GeneralTripletLoss of caffe-windows (NormFace, Wang et al. 2017), on distances from classes.

Both take distances N × … and a class for each item. Its own class's distance is positive, the others are negative. The
gradients are those that the fork computes, which for some options are not the derivatives of the losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.shapes import class_index, count, full_precision, labels_of, text
from caffe.engine.layer_types.softmax import LossLayer


class _GivenGradient(torch.autograd.Function):
    """A loss, whose gradient for `x` is `gradient` times the loss's weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0], None, None


class _DistanceLoss(LossLayer):
    """The second top is the mean positive and the mean negative distance."""

    bottoms = (2, 3)
    tops = (1, 2)

    def takes_gradient(self, index: int) -> bool:
        return index == 0

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        super().reshape(bottom)
        if count(bottom[1]) != bottom[0][0]:
            self.fail(f"needs one label per item; '{self.param.bottom[1]}' is {text(bottom[1])} for {text(bottom[0])}")
        return [(), (2,)][: max(self.num_tops, 1)]

    def rows(self, bottom: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Distances N × C, and which of them is that of the own class."""
        x = full_precision(bottom[0].detach()).reshape(len(bottom[0]), count(bottom[0].shape, 1))
        labels = labels_of(bottom[1])
        self.check_labels(labels, None, x.shape[1])
        labels, bad = class_index(labels, x.shape[1])
        own = (torch.arange(x.shape[1], device=x.device) == labels[:, None]) & ~bad[:, None]
        return x, own

    def result(self, bottom: Tensor, values: Tensor, gradient: Tensor, *means: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The tops for the values whose magnitudes the loss adds up."""
        num = max(len(values), 1)
        x = full_precision(bottom)
        loss = _GivenGradient.apply(x, values.abs().sum() / num, gradient.reshape(x.shape) / num)
        return loss if self.num_tops < 2 else (loss, torch.stack(means))


@register
class GeneralContrastiveLoss(_DistanceLoss):
    """The mean over the items of positive_weight · p + the sum of negative_weight · n.

    p is how far the positive distance is over positive_margin, at most positive_outlier_thresh; distances from there on
    have no gradient. n is how far a negative distance is below negative_margin, or with exp_negative_weight exp(−distance) of
    those below. max_negative_only keeps the largest n of an item (the first of equal ones; for class 0 none, if its own
    value is as large), max_positive_only the item with the *smallest* p, as the fork does. With positive_first an item
    whose positive distance is over positive_upper_bound has no n, and the gradient of p. normalize_negative: if the sum
    of the negative gradients over that number is more than positive_weight per item, they are divided by the quotient.
    add_intra_mae adds a running mean of p (by 1 % per pass, at most max_negative_margin) to negative_margin; it is then
    a third value of the second top. A third bottom stands in for the distances, whose gradient goes to the first.
    """

    type_name = "GeneralContrastiveLoss"

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.own = self.param.general_contrastive_loss_param
        self.limits_negatives = self.own.HasField("normalize_negative")
        self.register_buffer("_intra", torch.zeros(()), persistent=False)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        tops = super().reshape(bottom)
        if len(bottom) > 2 and count(bottom[2]) != count(bottom[0]):
            self.fail(
                f"'{self.param.bottom[2]}' is {text(bottom[2])}; it must have as many values as {text(bottom[0])}"
            )
        return tops[:1] + [(3,) if self.own.add_intra_mae else (2,)] * (len(tops) - 1)

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        param = self.own
        x, own = self.rows((bottom[2] if len(bottom) > 2 else bottom[0], bottom[1]))
        intra: Tensor = self._intra  # type: ignore[assignment]
        margin = param.negative_margin + (intra.to(x) if param.add_intra_mae else 0.0)

        over = (x - param.positive_margin).clamp(min=0).clamp(max=param.positive_outlier_thresh)
        below = (x < margin) & ~own
        short = (margin - x).clamp(min=0)
        strength = (-x).exp() * param.negative_weight if param.exp_negative_weight else short * param.negative_weight
        values = torch.where(own, over * param.positive_weight, torch.where(below, strength, 0))
        slopes = -(strength if param.exp_negative_weight else torch.full_like(x, param.negative_weight))
        learns = own & (x > param.positive_margin) & (x < param.positive_outlier_thresh)
        gradient = torch.where(learns, param.positive_weight, torch.where(below, slopes, 0))

        rows = torch.arange(len(x), device=x.device)
        if x.numel() and param.max_negative_only:
            candidates = torch.where(below, values, -torch.inf)
            candidates[:, 0] = values[:, 0]
            kept = own | (torch.arange(x.shape[1], device=x.device) == _first_largest(candidates)[:, None])
        else:
            kept = torch.ones_like(own)
        far = own.new_zeros(len(x), 1)
        if param.positive_first:
            far = ((x > param.positive_upper_bound) & own).any(dim=1, keepdim=True)
        single = torch.ones_like(far)
        if x.numel() and param.max_positive_only:
            smallest = _first_largest(-torch.where(own, values, 0).sum(dim=1)[None])
            single = (rows == smallest)[:, None]
        values = torch.where(own, values * single, torch.where(kept & ~far, values, 0))
        gradient = torch.where(own, gradient * single, torch.where(kept, gradient, 0))
        negatives = torch.where(own, 0, gradient)
        if self.limits_negatives:
            total = negatives.masked_fill(far, 0).sum().abs() / param.normalize_negative / max(len(x), 1)
            negatives = torch.where(total > param.positive_weight, negatives / total, negatives)
        gradient = torch.where(own, torch.where(far, param.positive_weight, gradient), negatives.masked_fill(far, 0))

        positive = torch.where(own, over, 0).sum() / max(len(x), 1)
        negative = torch.where(below, short, 0).sum() / max(len(x) * (x.shape[1] - 1), 1)
        means = [positive, negative]
        if param.add_intra_mae:
            intra.copy_((0.99 * intra + 0.01 * positive.to(intra)).clamp(max=param.max_negative_margin))
            means.append(intra.to(positive))
        return self.result(bottom[0], values, gradient, *means)


@register
class GeneralTripletLoss(_DistanceLoss):
    """The mean over the items of the sum of negative_weight · how far a negative distance is below positive + margin.

    The gradient is −negative_weight for these negative distances and positive_weight for the positive one, once; the
    latter also if there is none, unless add_center_loss is false. hardest_only keeps the nearest negative of an item.
    With positive_first an item whose positive distance is over positive_upper_bound has no loss, and the gradient of the
    positive distance. A third bottom has factors of the items' gradients.
    """

    type_name = "GeneralTripletLoss"

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.own = self.param.general_triplet_loss_param

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        tops = super().reshape(bottom)
        if len(bottom) > 2 and count(bottom[2]) != bottom[0][0]:
            self.fail(f"needs one factor per item; '{self.param.bottom[2]}' is {text(bottom[2])} for {text(bottom[0])}")
        return tops

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        param = self.own
        x, own = self.rows(bottom)
        same = torch.where(own, x, 0).sum(dim=1, keepdim=True)
        values = torch.where(own, 0, (same + param.margin - x).clamp(min=0) * param.negative_weight)
        near = (same + param.margin > x) & ~own
        if x.numel() and param.hardest_only:
            hardest = torch.arange(x.shape[1], device=x.device) == _first_largest(values)[:, None]
            near = hardest & (values > 0)
            values = torch.where(hardest, values, 0)
        far = same > param.positive_upper_bound if param.positive_first else torch.zeros_like(same, dtype=torch.bool)
        values = values.masked_fill(far, 0)
        near = near & ~far
        pulled = far | near.any(dim=1, keepdim=True) | param.add_center_loss
        gradient = torch.where(own & pulled, param.positive_weight, torch.where(near, -param.negative_weight, 0.0))
        if len(bottom) > 2:
            gradient = gradient * bottom[2].detach().reshape(-1, 1).to(gradient)
        positive = same.sum() / max(len(x), 1)
        negative = torch.where(own, 0, x).sum() / max(len(x) * (x.shape[1] - 1), 1)
        return self.result(bottom[0], values, gradient.to(x), positive, negative)


def _first_largest(values: Tensor) -> Tensor:
    """The index of the first of the largest values of each row; rows and columns there must be."""
    order = torch.arange(values.shape[1], device=values.device)
    return torch.where(values == values.amax(dim=1, keepdim=True), order, values.shape[1] - 1).amin(dim=1)
