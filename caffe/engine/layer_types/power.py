"""AbsVal, Power, Exp and Log: functions of one value, with Caffe's base, scale and shift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.activation import Neuron
from caffe.engine.layer_types.reshaping import refuse_in_place


@register
class AbsVal(Neuron):
    """|x|, with gradient 0 at 0."""

    type_name = "AbsVal"

    def setup(self, bottom: Sequence[Shape]) -> None:
        refuse_in_place(self)

    def forward(self, *bottom: Tensor) -> Tensor:
        return torch.abs(bottom[0])


@register
class Power(Neuron):
    """(shift + scale · x) ^ power."""

    type_name = "Power"

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        param = self.param.power_param
        power, scale, shift = param.power, param.scale, param.shift
        if power * scale == 0:
            # x does not matter, even if it is infinite; its gradient is 0
            constant = torch.pow(torch.tensor(shift if power else 1.0, dtype=x.dtype, device=x.device), power)
            return torch.where(torch.ones_like(x, dtype=torch.bool), constant, x)
        y = x if scale == 1 else x * scale
        if shift != 0:
            y = y + shift
        if power != 1:
            return y.square() if power == 2 else y.pow(power)
        return y.clone() if y is x else y


class _WithBase(Neuron):
    """A layer with a `base`; −1 means e."""

    def log_base(self, param: Any) -> float:
        if param.base == -1:
            return 1.0
        if not (param.base > 0 and math.isfinite(param.base)):
            self.fail(f"base must be positive (or −1 for e), not {param.base:g}")
        return math.log(param.base)


@register
class Exp(_WithBase):
    """base ^ (shift + scale · x)."""

    type_name = "Exp"

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.exp_param
        log_base = self.log_base(param)
        self.inner = log_base * param.scale
        try:
            self.outer = math.exp(log_base * param.shift)
        except OverflowError:
            self.fail(f"base {param.base:g} to the power of shift {param.shift:g} is too large")

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        y = torch.exp(x if self.inner == 1 else x * self.inner)
        return y if self.outer == 1 else y * self.outer


@register
class Log(_WithBase):
    """The logarithm of (shift + scale · x) to `base`."""

    type_name = "Log"

    def setup(self, bottom: Sequence[Shape]) -> None:
        log_base = self.log_base(self.param.log_param)
        if log_base == 0:
            self.fail("there is no logarithm to base 1")
        self.factor = 1 / log_base

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        param = self.param.log_param
        y = x if param.scale == 1 else x * param.scale
        y = torch.log(y if param.shift == 0 else y + param.shift)
        return y if self.factor == 1 else y * self.factor
