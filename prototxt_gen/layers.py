"""The layers that all networks are made of, with the learning rates and fillers of the released models."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L

#: weights learn at the solver's rate; biases at twice that and without weight decay
LEARNED: dict[str, Any] = {
    "param": [dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0)],
}
FILLED: dict[str, Any] = {"weight_filler": dict(type="xavier"), "bias_filler": dict(type="constant", value=0)}


@dataclass(frozen=True)
class Width:
    """The number of channels of a layer: `fraction` of the published one, a multiple of 8 and at least `fewest`.

    Multiples of 8 suit matrix units. The prediction layers' channels follow from the boxes and classes instead.
    """

    fraction: Fraction = Fraction(1)
    fewest: int = 8

    def __call__(self, channels: int) -> int:
        if self.fraction == 1:
            return channels
        return max(self.fewest, round(channels * self.fraction / 8) * 8)


def convolution(
    net: NetSpec,
    name: str,
    bottom: str,
    channels: int,
    *,
    kernel: int,
    pad: int = 0,
    stride: int = 1,
    dilation: int = 1,
) -> None:
    """Adds a square convolution with bias: xavier weights, zero biases."""
    fields = dict(num_output=channels, kernel_size=kernel, pad=pad, stride=stride)
    if dilation > 1:
        fields["dilation"] = dilation
    net[name] = L.Convolution(net[bottom], **LEARNED, convolution_param=dict(**fields, **FILLED))


def deconvolution(net: NetSpec, name: str, bottom: str, channels: int, *, kernel: int, pad: int, stride: int) -> None:
    """Adds a square deconvolution with bias: output size (input − 1) · stride + kernel − 2 · pad."""
    fields = dict(num_output=channels, kernel_size=kernel, pad=pad, stride=stride)
    net[name] = L.Deconvolution(net[bottom], **LEARNED, convolution_param=dict(**fields, **FILLED))


def relu(net: NetSpec, name: str, bottom: str) -> None:
    """Adds an in-place ReLU."""
    net[name] = L.ReLU(net[bottom], in_place=True)


def l2norm(net: NetSpec, name: str, bottom: str, scale: float = 20) -> None:
    """Adds SSD's L2 normalization: each position's channels at length 1, times learned scales, initially `scale`."""
    net[name] = L.Normalize(
        net[bottom], across_spatial=False, scale_filler=dict(type="constant", value=scale), channel_shared=False
    )
