"""Convolutions on the CPU with their weights laid out for oneDNN once, and the ReLU behind them in the same pass.

PyTorch lays weights out anew in every call, as they may have changed; a detector's do not. docs/cpu_speed.md has figures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from caffe.engine.layer import TEST
from caffe.engine.layer_types.activation import ReLU
from caffe.engine.layer_types.convolution import Convolution
from caffe.engine.net import Net
from caffe.engine.runtime import runtime


def prepack(net: Net) -> int:
    """Lays out the weights of a TEST net on the CPU for good: they must not change afterwards. Returns how many layers'.

    Does nothing where it would not apply: on another device, at another precision than fp32, without oneDNN. With
    gradients the layers compute as before.
    """
    if net.phase != TEST or net.device.type != "cpu" or runtime.precision != "fp32" or runtime.compile:
        return 0
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return 0
    packed = 0
    for step, following in zip(net.steps, [*net.steps[1:], None], strict=True):
        layer = step.layer
        if type(layer) is not Convolution or len(step.tops) != 1:
            continue
        if len(layer.geometry.kernel) != 2 or layer.channel_axis != 1 or layer.blobs[0].dtype != torch.float32:
            continue
        relu = following.layer if following is not None and following.bottoms == step.tops else None
        if not isinstance(relu, ReLU) or not relu.in_place or relu.param.relu_param.negative_slope != 0:
            relu = None
        layer.forward = _Packed(layer, relu is not None)  # type: ignore[method-assign, assignment]
        if relu is not None:
            relu.forward = _Done(relu.forward)  # type: ignore[method-assign, assignment]
        packed += 1
    return packed


class _Packed:
    """A Convolution's forward from packed weights. They are laid out for one input shape, at its first appearance."""

    def __init__(self, layer: Convolution, relu: bool) -> None:
        self._layer, self._plain, self._relu = layer, layer.forward, relu
        self._shape: tuple[int, ...] = ()
        self._weight: Tensor | None = None

    def __call__(self, x: Tensor) -> Any:
        if torch.is_grad_enabled():
            return self._plain(x)
        layer, g = self._layer, self._layer.geometry
        window = list(g.pad), list(g.stride), list(g.dilation), layer.group
        if self._weight is None or self._shape != tuple(x.shape):
            self._shape = tuple(x.shape)
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(layer.blobs[0].detach(), *window, list(x.shape))
        bias = layer.blobs[1] if len(layer.blobs) > 1 else None
        after = "relu" if self._relu else "none"
        return torch.ops.mkldnn._convolution_pointwise(x, self._weight, bias, *window, after, [], "")


class _Done:
    """The forward of a ReLU that the convolution before it has done already."""

    def __init__(self, plain: Callable[..., Any]) -> None:
        self._plain = plain

    def __call__(self, x: Tensor) -> Any:
        return self._plain(x) if torch.is_grad_enabled() else x
