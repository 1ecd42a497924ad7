"""BN: batch normalization with scale and shift in one layer, as PSPNet (and TSN) or as SegNet has it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe.engine.layer import TEST, Layer, Shape, register
from caffe.engine.layer_types.shapes import text
from caffe.proto import caffe_pb2

_SEGNET_FIELDS = ("scale_filler", "shift_filler", "bn_mode")
_SEGNET_EPS = 1e-9


@register
class BN(Layer):
    """Bottom N × C × …; top of the same shape: slope · (x − mean) / sqrt(variance + eps) + bias for each channel.

    PSPNet's: blobs slope, bias, running mean, running variance, 1 × C × 1 × 1 each. In TRAIN the statistics are the
    batch's, and the running ones become momentum · old + (1 − momentum) · new, the variance over all m values (not
    m − 1); in TEST and if `frozen` they are the running ones. The statistics are never learned; with `frozen`, nothing.

    SegNet's (if bn_param has scale_filler, shift_filler or bn_mode): blobs scale and shift. With `bn_mode: LEARN` the
    statistics are the batch's in both phases, and a second and third top get them; with INFERENCE nothing is normalized.

    Fillers that are not given leave zeros, in both: also for the factor.
    """

    type_name = "BN"
    tops = (1, 3)

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.bn_param
        if len(bottom[0]) < 2:
            self.fail(f"needs a bottom with at least 2 axes (num, channels, …), not {text(bottom[0])}")
        self.channels = bottom[0][1]
        self.segnet = any(param.HasField(field) for field in _SEGNET_FIELDS)
        shape = (1, self.channels, 1, 1)
        if self.segnet:
            given = [f.name for f, _ in param.ListFields() if f.name not in (*_SEGNET_FIELDS, "engine")]
            if given:
                self.fail(f"mixes SegNet's options ({', '.join(_SEGNET_FIELDS)}) with PSPNet's ({', '.join(given)})")
            self.add_blob(shape, param.scale_filler)
            self.add_blob(shape, param.shift_filler)
            return
        if self.num_tops > 1:
            self.fail("has one top; a second and third are for SegNet's form, which bn_mode chooses")
        self.add_blob(shape, param.slope_filler)
        self.add_blob(shape, param.bias_filler)
        self.add_blob(shape)
        self.add_blob(shape, caffe_pb2.FillerParameter(type="constant", value=1.0 if param.frozen else 0.0))
        while len(self.param.param) < 4:
            self.param.param.add()
        for i in range(0 if param.frozen else 2, 4):
            self.param.param[i].lr_mult = self.param.param[i].decay_mult = 0
            self.blobs[i].requires_grad_(False)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        if len(bottom[0]) < 2 or bottom[0][1] != self.channels:
            self.fail(f"was set up for {self.channels} channels, but the bottom is {text(bottom[0])}")
        return [bottom[0], *[(1, self.channels, 1, 1)] * (self.num_tops - 1)]

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        (x,) = bottom
        param = self.param.bn_param
        per_channel = (1, self.channels, *(1,) * (x.dim() - 2))
        slope, bias = self.blobs[0].reshape(per_channel), self.blobs[1].reshape(per_channel)
        if self.segnet and param.bn_mode == caffe_pb2.BNParameter.INFERENCE:
            empty = x.new_zeros(1, self.channels, 1, 1)
            return x * slope + bias if self.num_tops < 2 else (x * slope + bias, empty, empty)[: self.num_tops]
        if not self.segnet and (param.frozen or self.phase == TEST):
            mean, variance = (self.blobs[i].detach().reshape(per_channel) for i in (2, 3))
        else:
            axes = [0, *range(2, x.dim())]
            mean = x.mean(dim=axes, keepdim=True)
            variance = (x - mean).square().mean(dim=axes, keepdim=True)
            if not self.segnet:
                self._accumulate(mean, variance)
        eps = _SEGNET_EPS if self.segnet else param.eps
        y: Tensor = (x - mean) * (variance + eps).rsqrt() * slope + bias
        if self.num_tops < 2:
            return y
        return (y, *(s.detach().reshape(1, self.channels, 1, 1) for s in (mean, variance)))[: self.num_tops]

    @torch.no_grad()
    def _accumulate(self, mean: Tensor, variance: Tensor) -> None:
        keep = self.param.bn_param.momentum
        for blob, value in zip(self.blobs[2:], (mean, variance), strict=True):
            blob.mul_(keep).add_((1 - keep) * value.reshape(blob.shape))
