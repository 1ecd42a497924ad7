"""The weights of a TEST net that are not going to change, laid out for the device once.

On the CPU convolutions take them packed for oneDNN, with the ReLU behind them in the same pass: PyTorch lays weights out
(and at bf16 rounds them) anew in every call, as they may have changed. docs/cpu_speed.md has figures. On a GPU at bf16
they are rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from caffe.engine.fused import convolutions
from caffe.engine.layer import TEST
from caffe.engine.layer_types.convolution import Convolution, Deconvolution
from caffe.engine.net import Net
from caffe.runtime import runtime


def prepack(net: Net) -> int:
    """Lays out the weights of a TEST net for good: they must not change afterwards. Returns how many layers'.

    The net is then for whole passes (`net()`). Does nothing where it would not apply: on the CPU without oneDNN, or at bf16
    on a processor that it does not compute in; on a GPU at another precision. With gradients the layers compute as before.
    """
    if net.phase != TEST:
        return 0
    if net.device.type == "cuda":
        return _round(net) if runtime.precision == "bf16" else 0
    if net.device.type != "cpu" or runtime.compile or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return 0
    dtype = torch.bfloat16 if runtime.precision == "bf16" else torch.float32
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return 0
    packed = 0
    for _, layer, relu in convolutions(net.steps):
        if layer.blobs[0].dtype != torch.float32:
            continue
        layer.forward = _Packed(layer, relu is not None, dtype)  # type: ignore[method-assign, assignment]
        if relu is not None:
            relu.forward = _Done(relu.forward)  # type: ignore[method-assign, assignment]
        packed += 1
    return packed


def _round(net: Net) -> int:
    """Weights of convolutions as bfloat16, which autocast would make of them in every pass."""
    layers = [step.layer for step in net.steps if isinstance(step.layer, Convolution | Deconvolution)]
    for layer in layers:
        for blob in layer.blobs:
            blob.data = blob.data.to(torch.bfloat16)
    return len(layers)


class _Packed:
    """A Convolution's forward from packed weights. They are laid out for one input shape, at its first appearance."""

    def __init__(self, layer: Convolution, relu: bool, dtype: torch.dtype) -> None:
        self._layer, self._plain, self._relu, self._dtype = layer, layer.forward, relu, dtype
        self._shape: tuple[int, ...] = ()
        self._weight: Tensor | None = None
        self._bias = layer.blobs[1].detach().to(dtype) if len(layer.blobs) > 1 else None

    def __call__(self, x: Tensor) -> Any:
        if torch.is_grad_enabled():
            return self._plain(x)
        layer, g = self._layer, self._layer.geometry
        window = list(g.pad), list(g.stride), list(g.dilation), layer.group
        if self._weight is None or self._shape != tuple(x.shape):
            self._shape = tuple(x.shape)
            weight = layer.blobs[0].detach().to(self._dtype)
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *window, list(x.shape))
        after = "relu" if self._relu else "none"
        x = x.to(self._dtype)
        return torch.ops.mkldnn._convolution_pointwise(x, self._weight, self._bias, *window, after, [], "")


class _Done:
    """The forward of a ReLU that the convolution before it has done already."""

    def __init__(self, plain: Callable[..., Any]) -> None:
        self._plain = plain

    def __call__(self, x: Tensor) -> Any:
        return self._plain(x) if torch.is_grad_enabled() else x
