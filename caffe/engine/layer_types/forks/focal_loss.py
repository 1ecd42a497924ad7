"""The focal loss (Lin et al. 2017) of softmax: FocalLoss of chuanqi305 and CAFFE_SSD, and MultiBoxLoss's confidences.

It multiplies the loss of a label by α · (1 − p)^γ, p the label's probability, so that what is already right counts
little.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.forks.refinement import normalizer
from caffe.engine.layer_types.shapes import count, text
from caffe.engine.layer_types.softmax import SoftmaxWithLoss
from caffe.ops.multibox_loss import multibox_loss_and_matches
from caffe.ops.multibox_loss_options import MultiBoxLossOptions
from caffe.proto import caffe_pb2

_LOSS = caffe_pb2.MultiBoxLossParameter
_MOST = -math.log(torch.finfo(torch.float32).tiny)
"""Where −log p is cut off, as in SoftmaxWithLoss."""
_NOT_CHOSEN = -1
"""A prior that is neither positive nor negative, in the matches of `multibox_loss_forward`."""


class Focus(NamedTuple):
    """The factor α · (1 − p)^γ."""

    alpha: float
    gamma: float


def focus_of(layer: Layer) -> Focus:
    """What the layer's focal_loss_param says; raises NetError if that is no focal loss."""
    p = layer.param.focal_loss_param
    if not 0 < p.alpha < math.inf:
        layer.fail(f"focal_loss_param: alpha must be positive, not {p.alpha:g}")
    if not 0 <= p.gamma < math.inf:
        layer.fail(f"focal_loss_param: gamma must be at least 0, not {p.gamma:g}")
    return Focus(p.alpha, p.gamma)


class FocalLosses(torch.autograd.Function):
    """−α (1 − p)^γ log p at each position, p its label's softmax. −log p is cut off; the gradient is not.

    scores are outer × classes × inner, labels outer × inner; a label that is not a class gives NaN. The second result
    is the softmax.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, labels: Tensor, alpha: float, gamma: float) -> tuple[Tensor, Tensor]:
        classes = scores.shape[1]
        log_prob = torch.log_softmax(scores, dim=1)
        index = labels.clamp(0, max(classes - 1, 0)).unsqueeze(1)
        log_p = log_prob.gather(1, index)
        cost = (-log_p).clamp(max=_MOST)
        others = -torch.expm1(log_p)  # 1 − p, also where p is nearly 1
        weight = alpha * others**gamma
        losses = (weight * cost).squeeze(1).masked_fill((labels < 0) | (labels >= classes), float("nan"))
        # The derivative by log p, negated. −log p / (1 − p) approaches 1 where p does.
        slope = weight * (1 + gamma * log_p.exp() * torch.where(others > 0, cost / others, 1))
        prob = log_prob.exp()
        ctx.save_for_backward(prob, index, others, slope)
        ctx.mark_non_differentiable(prob)
        return losses, prob

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        prob, index, others, slope = ctx.saved_tensors
        scale = slope * grads[0].unsqueeze(1)
        return (prob * scale).scatter(1, index, -others * scale), None, None, None


@register
class FocalLoss(SoftmaxWithLoss):
    """SoftmaxWithLoss whose losses are multiplied by α · (1 − p)^γ, p the probability of the label.

    Tops: the loss, and the probabilities.
    """

    type_name = "FocalLoss"
    tops = (1, 2)

    def setup(self, bottom: Sequence[Shape]) -> None:
        super().setup(bottom)
        self.focus = focus_of(self)

    def class_axis(self, num_axes: int) -> int:
        focal, softmax = self.param.focal_loss_param, self.param.softmax_param
        axis = self.canonical_axis(focal.axis if focal.HasField("axis") else softmax.axis, num_axes)
        if softmax.HasField("axis") and self.canonical_axis(softmax.axis, num_axes) != axis:
            self.fail(f"the axes of focal_loss_param ({focal.axis}) and softmax_param ({softmax.axis}) must agree")
        return axis

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        scores = count(bottom[0])
        if 0 < scores == count(bottom[1]) and bottom[0] and bottom[0][self.class_axis(len(bottom[0]))] > 1:
            self.fail(
                f"'{self.param.bottom[1]}' {text(bottom[1])} has a label for each score. This is the focal loss of "
                "softmax, with one label for each position; that of sigmoids, which other forks have, is not available"
            )
        return super().reshape(bottom)

    def losses_of(self, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        losses, prob = FocalLosses.apply(scores, labels, *self.focus)
        return losses, prob


class FocalMultiBoxLoss:
    """`caffe.ops.multibox_loss` with conf_loss_type SOFTMAX, its confidence losses multiplied by α · (1 − p)^γ.

    Which boxes are matched or mined is decided as without the factor.
    """

    def __init__(self, options: MultiBoxLossOptions, focus: Focus) -> None:
        self.options, self.focus = options, focus
        self._only_loc = dataclasses.replace(options, with_conf=False)

    def __call__(self, loc: Tensor, conf: Tensor, prior: Tensor, label: Tensor) -> Tensor:
        o = self.options
        loss, match, counts = multibox_loss_and_matches(loc, conf.detach(), prior, label, self._only_loc)
        if not o.with_conf:
            return loss
        images, priors = len(loc), prior.numel() // 8
        # The label row of each prior: of matches with several classes the last.
        by_class = torch.arange(match.shape[1], device=match.device)[:, None]
        last = torch.where(match >= 0, by_class, 0).amax(dim=1, keepdim=True)
        row = match.gather(1, last)[:, 0]
        classes = label.detach().to(loc.device).reshape(-1, 8)[:, 1].long()
        if o.map_object_to_agnostic:
            classes = torch.full_like(classes, o.background_label_id + 1)
        classes = torch.nn.functional.pad(classes, (0, 1), value=o.background_label_id)
        target = classes[torch.where(row >= 0, row, len(classes) - 1)]
        scores = conf.float().reshape(images * priors, o.num_classes, 1)
        losses, _ = FocalLosses.apply(scores, target.reshape(-1, 1), *self.focus)
        if o.mining_type != _LOSS.NONE:
            losses = torch.where((row == _NOT_CHOSEN).reshape(-1, 1), 0, losses)
        total: Tensor = loss + losses.sum() / normalizer(o.normalization, images, priors, counts[0])
        return total
