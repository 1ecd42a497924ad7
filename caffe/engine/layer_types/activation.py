"""Activations: one value in, one out. At the kinks they have the gradient of their left side, as in Caffe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe.engine.layer import TRAIN, Layer, Shape, register
from caffe.engine.layer_types.shapes import text
from caffe.errors import NetError
from caffe.proto import caffe_pb2


class Neuron(Layer):
    """A layer whose top has the shape of its only bottom."""

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        return [bottom[0]]


@register
class ReLU(Neuron):
    """max(x, 0) + negative_slope · min(x, 0)."""

    type_name = "ReLU"

    def is_rectifier(self) -> bool:
        return type(self) is ReLU and self.param.relu_param.negative_slope == 0

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        slope = self.param.relu_param.negative_slope
        overwrite = self.in_place and not torch.is_grad_enabled()
        if slope == 0:
            return F.relu(x, inplace=overwrite)
        return F.leaky_relu(x, slope, inplace=overwrite)


@register
class PReLU(Neuron):
    """max(x, 0) + a · min(x, 0), a learned, starting at 0.25: one per channel, or one with `channel_shared`."""

    type_name = "PReLU"

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.prelu_param
        self._check(bottom[0])
        filler = param.filler
        if not param.HasField("filler"):
            filler = caffe_pb2.FillerParameter(type="constant", value=0.25)
        self.add_blob(() if param.channel_shared else (bottom[0][1],), filler)

    def _check(self, bottom: Sequence[int]) -> None:
        if len(bottom) < 2:
            self.fail(f"needs a bottom with at least 2 axes (num, channels, …), not {text(bottom)}")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        self._check(bottom[0])
        if not self.param.prelu_param.channel_shared and bottom[0][1] != len(self.blobs[0]):
            self.fail(f"has slopes for {len(self.blobs[0])} channels, but the bottom is {text(bottom[0])}")
        return [bottom[0]]

    def forward(self, *bottom: Tensor) -> Tensor:
        return F.prelu(bottom[0], self.blobs[0])


@register
class ELU(Neuron):
    """x above 0, alpha · (exp(x) − 1) below 0."""

    type_name = "ELU"

    def forward(self, *bottom: Tensor) -> Tensor:
        return F.elu(bottom[0], self.param.elu_param.alpha)


@register
class Sigmoid(Neuron):
    """1 / (1 + exp(−x))."""

    type_name = "Sigmoid"

    def forward(self, *bottom: Tensor) -> Tensor:
        return torch.sigmoid(bottom[0])


@register
class TanH(Neuron):
    """The hyperbolic tangent."""

    type_name = "TanH"

    def forward(self, *bottom: Tensor) -> Tensor:
        return torch.tanh(bottom[0])


@register
class BNLL(Neuron):
    """log(1 + exp(x)), computed so that exp does not overflow."""

    type_name = "BNLL"

    def forward(self, *bottom: Tensor) -> Tensor:
        return F.softplus(bottom[0], threshold=50)


class NoGradient(torch.autograd.Function):
    """Passes values on; a gradient for them is an error that names the layer."""

    @staticmethod
    def forward(ctx: Any, result: Tensor, x: Tensor, layer: Layer) -> Tensor:
        ctx.message = (
            f"layer '{layer.name}' ({layer.type_name}) has no gradient: take it off the path to the loss, "
            "or set propagate_down: false on its bottom"
        )
        return result.clone()

    @staticmethod
    def backward(ctx: Any, *grad: Any) -> Any:
        raise NetError(ctx.message)


@register
class Threshold(Neuron):
    """1 where x is over the threshold, else 0. It has no gradient; requesting one is an error, as in Caffe."""

    type_name = "Threshold"

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        over = (x > self.param.threshold_param.threshold).to(x.dtype)
        top: Tensor = NoGradient.apply(over, x, self)
        return top


@register
class Dropout(Neuron):
    """In training each value is dropped with probability dropout_ratio, the rest divided by 1 − dropout_ratio.

    With `scale_train: false` (of Fast R-CNN's fork) the rest is kept as it is, and in testing everything is multiplied
    by 1 − dropout_ratio. With `sample_weights_test` (of SegNet's) testing drops values as training does, so that several
    passes show how uncertain a net is.
    """

    type_name = "Dropout"

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.ratio = self.param.dropout_param.dropout_ratio
        if not 0 <= self.ratio < 1:
            self.fail(f"dropout_ratio must be at least 0 and below 1, not {self.ratio:g}")

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        drops = self.phase == TRAIN or self.param.dropout_param.sample_weights_test
        if not self.param.dropout_param.scale_train:
            factor: Tensor | float = 1 - self.ratio
            if drops:
                factor = (torch.rand_like(x) >= self.ratio).to(x.dtype)
            return x * factor
        return F.dropout(x, self.ratio) if drops else x
