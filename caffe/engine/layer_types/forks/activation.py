"""ReLU6 of MobileNet's ports to Caffe; Clip and Swish of Caffe itself, after the SSD branch left it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe.engine.layer import Shape, register
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
