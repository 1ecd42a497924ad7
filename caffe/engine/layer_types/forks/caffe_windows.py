"""Layers of caffe-windows (NormFace and AMSoftmax, Wang et al. 2017 and 2018): Flip, ChannelScale, LabelSpecificAdd."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe.engine.layer import TRAIN, Layer, Shape, register
from caffe.engine.layer_types.activation import Neuron
from caffe.engine.layer_types.shapes import can_inspect, class_index, count, labels_of, legacy_dim, text


@register
class Flip(Neuron):
    """Maps N × C × H × W turned over: left and right with flip_width (the default), up and down with flip_height."""

    type_name = "Flip"
    fresh_tops = True

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        if len(bottom[0]) > 4:
            self.fail(f"needs a bottom of at most 4 axes (num, channels, height, width), not {text(bottom[0])}")
        return [bottom[0]]

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        param = self.param.flip_param
        wanted = ((2, param.flip_height), (3, param.flip_width))
        return x.flip([axis for axis, flips in wanted if flips and axis < x.dim()])


class _ChannelScale(torch.autograd.Function):
    """x · factor, for x: N × C × P. The gradients are those of x · scale, scale: N × 1 × P, if they are wanted."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, factor: Tensor, feature: bool, own: bool) -> Tensor:
        ctx.save_for_backward(x, scale)
        ctx.wanted = feature, own
        return x * factor

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, scale = ctx.saved_tensors
        feature, own = ctx.wanted
        slope = (grads[0] * x).sum(dim=1, keepdim=True) if own else torch.zeros_like(scale)
        return grads[0] * scale if feature else grads[0], slope, None, None, None


@register
class ChannelScale(Layer):
    """Bottoms: x, N × C × H × W; a factor for each position, N × 1 × H × W. Top: their product.

    With global_scale all of x is multiplied by one number instead, a blob that follows the mean magnitude of the factors
    in training (by 1 % per pass), within min_global_scale and max_global_scale, and is a second top if that is named; it
    is −1 before the first pass. The gradient is that of the product with the factors all the same. do_forward: false
    leaves x as it is; do_backward_feature: false passes its gradient on unchanged, and do_backward_scale: false gives
    the factors none. init_global_scale has no effect. global_scale is as in the fork's GPU version.
    """

    type_name = "ChannelScale"
    bottoms = (2, 2)
    tops = (1, 2)
    learns = False
    fresh_tops = True

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.own = self.param.channel_scale_param
        if self.num_tops > 1 and not self.own.global_scale:
            self.fail("has a second top only with global_scale: true")
        if self.own.global_scale:
            self.add_blob((1,)).requires_grad_(False).data.fill_(-1)
            for spec in self.param.param:
                if spec.lr_mult != 0:
                    self.fail("its blob is a statistic, not a learned weight: its param needs lr_mult: 0")
            if not self.param.param:
                self.param.param.add(lr_mult=0, decay_mult=0)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        x, scale = bottom
        if not 1 <= len(x) <= 4 or not scale or scale[0] != x[0] or count(scale) * legacy_dim(x, 1) != count(x):
            self.fail(f"needs N×C×H×W and a factor for each position, N×1×H×W; they are {text(x)} and {text(scale)}")
        return [x, (1,)][: self.num_tops]

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = bottom[0].reshape(len(bottom[0]), legacy_dim(bottom[0].shape, 1), count(bottom[0].shape, 2))
        scale = bottom[1].reshape(len(x), 1, x.shape[2])
        factor = self._global(scale.detach()).to(x.dtype) if self.own.global_scale else scale.detach()
        applied = factor if self.own.do_forward else torch.ones_like(factor)
        feature, own = self.own.do_backward_feature, self.own.do_backward_scale
        top: Tensor = _ChannelScale.apply(x, scale, applied, feature, own)
        top = top.reshape(bottom[0].shape)
        return top if self.num_tops < 2 else (top, factor.clone())

    @torch.no_grad()
    def _global(self, scale: Tensor) -> Tensor:
        kept: Tensor = self.blobs[0].data
        if self.phase == TRAIN and self.own.do_forward and scale.numel():
            mean = scale.abs().mean().to(kept.dtype)
            kept.copy_(torch.where(kept < 0, mean, kept * 0.99 + mean * 0.01))
            kept.clamp_(max=self.own.max_global_scale).clamp_(min=self.own.min_global_scale)
        return kept


@register
class LabelSpecificAdd(Layer):
    """Scores N × …, and a class for each item: its own class's score gets `bias` added if it is over −bias.

    With bias_base the bias is bias_base + (1 + bias_gamma · pass) ^ bias_power − 1, within bias_min and bias_max, where
    the first pass of a run has the number `iteration`. A second top is the bias. In testing the scores stay as they are,
    also with transform_test, which the fork reads but never follows.
    """

    type_name = "LabelSpecificAdd"
    bottoms = (2, 2)
    tops = (1, 2)

    def takes_gradient(self, index: int) -> bool:
        return index == 0

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.own = self.param.label_specific_add_param
        self.changes = self.own.HasField("bias_base")
        self.iteration = self.own.iteration

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottom
        if len(scores) < 1 or count(labels) != scores[0]:
            self.fail(f"needs one label per item; '{self.param.bottom[1]}' is {text(labels)} for {text(scores)}")
        return [scores, (1,)][: self.num_tops]

    def graph_obstacle(self) -> str | None:
        return "counts its passes" if self.phase == TRAIN and self.changes else None

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = bottom[0]
        bias = self.bias()
        self.iteration += self.phase == TRAIN
        top = x
        if self.phase == TRAIN and x.numel():
            rows = x.reshape(len(x), -1)
            labels = labels_of(bottom[1])
            index, bad = class_index(labels, rows.shape[1])
            if can_inspect(labels) and bool(bad.any()):
                self.fail(
                    f"label {int(labels[bad][0])} in '{self.param.bottom[1]}' is not one of the {rows.shape[1]} classes "
                    f"(0 to {rows.shape[1] - 1})"
                )
            own = torch.arange(rows.shape[1], device=x.device) == index[:, None]
            top = (rows + torch.where(own & (rows > -bias) & ~bad[:, None], bias, 0.0).to(x.dtype)).reshape(x.shape)
        return top if self.num_tops < 2 else (top, x.new_full((1,), bias))

    def bias(self) -> float:
        """The bias of the next pass."""
        own = self.own
        if not self.changes:
            return float(own.bias)
        with np.errstate(invalid="ignore"):  # not a number, which then changes no score
            power = float(np.power(np.float64(1 + own.bias_gamma * self.iteration), own.bias_power))
        bias = own.bias_base + power - 1
        return float(bias if math.isnan(bias) else min(max(bias, own.bias_min), own.bias_max))
