"""ReLU6 of MobileNet's ports to Caffe; Clip and Swish of Caffe itself, after the SSD branch left it; SeLu and SeLuDropout
of self-normalizing networks (Klambauer et al. 2017), as soeaver's nets name them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe.engine.layer import TRAIN, Shape, register
from caffe.engine.layer_types.activation import Neuron


@register
class ReLU6(Neuron):
    """min(max(x, 0) + negative_slope · min(x, 0), 6), with the slope from relu6_param; no gradient from 6 on."""

    type_name = "ReLU6"

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        slope = self.param.relu6_param.negative_slope
        if slope == 0:
            return F.relu6(x, inplace=self.in_place and not torch.is_grad_enabled())
        return torch.where(x < 6, F.leaky_relu(x, slope), 6)


@register
class Clip(Neuron):
    """x within min and max; at the bounds it has the gradient of the inside."""

    type_name = "Clip"

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.clip_param
        for field in ("min", "max"):
            if not param.HasField(field):
                self.fail(f"clip_param must give {field}")
        self.bounds = (param.min, param.max)

    def forward(self, *bottom: Tensor) -> Tensor:
        # As in Caffe, where min is larger than max everything becomes min.
        low, high = self.bounds
        return bottom[0].clamp(min=low, max=high) if low <= high else bottom[0].clamp(max=high).clamp(min=low)


@register
class Swish(Neuron):
    """x · sigmoid(beta · x)."""

    type_name = "Swish"

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        return x * torch.sigmoid(self.param.swish_param.beta * x)


@register
class SeLu(Neuron):
    """lambda · x above 0, lambda · alpha · (exp(x) − 1) below."""

    type_name = "SeLu"

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.alpha: float = self.param.selu_param.alpha
        self.factor: float = getattr(self.param.selu_param, "lambda")  # a keyword in Python

    def forward(self, *bottom: Tensor) -> Tensor:
        return F.elu(bottom[0], self.alpha) * self.factor


@register
class SeLuDropout(Neuron):
    """Dropout after which mean and variance of SeLu's values stay 0 and 1.

    In training a value is replaced by alpha with probability dropout_ratio, and everything scaled and shifted.
    """

    type_name = "SeLuDropout"

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.selu_dropout_param
        self.ratio: float = param.dropout_ratio
        if not 0 <= self.ratio < 1:
            self.fail(f"dropout_ratio must be at least 0 and below 1, not {self.ratio:g}")
        self.factor = float(((1 - self.ratio) * (1 + param.alpha**2 * self.ratio)) ** -0.5)
        self.shift = float(-self.factor * self.ratio * param.alpha)

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        if self.phase != TRAIN:
            return x
        kept = torch.rand_like(x) >= self.ratio
        mixed = torch.where(kept, x, self.param.selu_dropout_param.alpha)
        return mixed * self.factor + self.shift
