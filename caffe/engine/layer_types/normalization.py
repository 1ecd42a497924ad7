"""LRN, BatchNorm and MVN: values normalized by their neighbors, their batch or their own image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe.engine.layer import TEST, Layer, Shape, register
from caffe.engine.layer_types.activation import Neuron
from caffe.engine.layer_types.pooling import PoolingWindow, average_pool
from caffe.engine.layer_types.shapes import legacy_dim, text
from caffe.proto import caffe_pb2

WITHIN_CHANNEL = caffe_pb2.LRNParameter.NormRegion.Value("WITHIN_CHANNEL")


@register
class LRN(Neuron):
    """Local response normalization (Krizhevsky et al. 2012): x / (k + alpha · mean of neighboring squares) ^ beta.

    Neighbors are the local_size channels around, or with WITHIN_CHANNEL the local_size × local_size pixels around,
    where k counts as 1.
    """

    type_name = "LRN"

    def setup(self, bottom: Sequence[Shape]) -> None:
        if self.param.lrn_param.local_size % 2 != 1:
            self.fail(f"local_size must be odd, not {self.param.lrn_param.local_size}")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        if len(bottom[0]) != 4:
            self.fail(f"needs a bottom with 4 axes (num, channels, height, width), not {text(bottom[0])}")
        p, (num, channels, height, width) = self.param.lrn_param, bottom[0]
        if self.memory is not None:  # the neighbors beyond the edges
            across = p.norm_region != WITHIN_CHANNEL
            more = p.local_size - 1
            around = (channels + more, height, width) if across else (channels, height + more, width + more)
            self.memory.blobs(self, [(num, *around)], [])
        return [bottom[0]]

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        p = self.param.lrn_param
        if p.norm_region == WITHIN_CHANNEL:
            around = PoolingWindow(kernel=(p.local_size,) * 2, pad=(p.local_size // 2,) * 2)
            scale: Tensor = 1 + p.alpha * average_pool(x.square(), around)
            return x * scale.pow(-p.beta)
        return F.local_response_norm(x, p.local_size, p.alpha, p.beta, p.k)


@register
class BatchNorm(Layer):
    """(x − mean) / sqrt(variance + eps), one channel (axis 1) at a time, without scale or shift (add a Scale layer).

    Blobs: sums of means, sums of variances, and the weight of both sums; each forward that takes its statistics from
    the batch decays all three by moving_average_fraction and adds the new ones (variance times m / (m − 1)). Statistics
    come from the blobs in phase TEST, from the batch in TRAIN, unless use_global_stats says otherwise. The blobs are
    not learned: their lr_mult is 0.
    """

    type_name = "BatchNorm"
    fresh_tops = True
    learns = False
    least_axes = 1

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.batch_norm_param
        self.use_global_stats = param.use_global_stats if param.HasField("use_global_stats") else self.phase == TEST
        if not (param.eps > 0 or (param.eps == 0 and self.use_global_stats)):
            self.fail(f"eps must be over 0, not {param.eps:g}")
        self.channels = self._channels(bottom[0])
        for shape in ((self.channels,), (self.channels,), (1,)):
            self.add_blob(shape).requires_grad_(False)
        for spec in self.param.param:
            if spec.lr_mult != 0:
                self.fail("its blobs are statistics, not learned weights: every param needs lr_mult: 0")
        while len(self.param.param) < len(self.blobs):
            self.param.param.add(lr_mult=0)

    @staticmethod
    def _channels(shape: Sequence[int]) -> int:
        return shape[1] if len(shape) > 1 else 1

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        if self._channels(bottom[0]) != self.channels:
            self.fail(f"has statistics for {self.channels} channels, but the bottom is {text(bottom[0])}")
        return [bottom[0]]

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        means, variances, weight = (blob.detach() for blob in self.blobs)
        eps = self.param.batch_norm_param.eps
        # PyTorch wants the channel axis; a blob of one axis has a single channel
        planes = x if x.dim() > 1 else x[:, None]
        if self.use_global_stats:
            factor = torch.where(weight == 0, 0, 1 / weight)
            return F.batch_norm(planes, means * factor, variances * factor, eps=eps).reshape(x.shape)
        # with momentum 1 PyTorch's running statistics are the batch's, the variance already times m / (m - 1)
        mean, variance = torch.zeros_like(means), torch.zeros_like(variances)
        if x.numel() > self.channels:
            y = F.batch_norm(planes, mean, variance, training=True, momentum=1.0, eps=eps).reshape(x.shape)
        else:
            # a single value per channel is its own mean, which PyTorch refuses
            mean, y = planes.detach().reshape(-1), x - x
        self._accumulate(mean, variance)
        return y

    @torch.no_grad()
    def _accumulate(self, mean: Tensor, variance: Tensor) -> None:
        keep = self.param.batch_norm_param.moving_average_fraction
        self.blobs[0].mul_(keep).add_(mean)
        self.blobs[1].mul_(keep).add_(variance)
        self.blobs[2].mul_(keep).add_(1)


class _DivideByDeviation(torch.autograd.Function):
    """Rows of zero mean over (standard deviation + eps), with a gradient that leaves eps out, as in the original."""

    @staticmethod
    def forward(ctx: Any, centered: Tensor, eps: float) -> Tensor:
        divisor = centered.square().mean(dim=1, keepdim=True).sqrt() + eps
        y = centered / divisor
        ctx.save_for_backward(y, divisor)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        y, divisor = ctx.saved_tensors
        (grad,) = grads
        return (grad - y * (grad * y).mean(dim=1, keepdim=True)) / divisor, None


@register
class MVN(Layer):
    """Mean 0 and, unless normalize_variance is false, deviation 1: per channel of an image, or `across_channels`.

    The top always has 4 axes.
    """

    type_name = "MVN"

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        if len(bottom[0]) > 4:
            self.fail(f"takes at most 4 axes (num, channels, height, width), not {text(bottom[0])}")
        return [tuple(legacy_dim(bottom[0], axis) for axis in range(4))]

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        param = self.param.mvn_param
        top = self.reshape([tuple(x.shape)])[0]
        rows = x.reshape(top).flatten(0, 0 if param.across_channels else 1).flatten(1)
        y = rows - rows.mean(dim=1, keepdim=True)
        if param.normalize_variance:
            y = _DivideByDeviation.apply(y, param.eps)
        return y.reshape(top)
