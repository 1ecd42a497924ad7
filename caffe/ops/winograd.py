"""3 × 3 convolutions by Winograd's minimal filtering on the CPU, for inference in float32 (layers/winograd.h)."""

from __future__ import annotations

import threading
from functools import cache

import torch
from torch import Tensor

from caffe import _C
from caffe.ops.operator import operator, register_fake

#: the sides of a tile of results, in pixels; the error grows with the side
TILES = (4, 6)
_LANES = {"AVX2": 8, "AVX512": 16}


@cache
def lanes() -> int:
    """Returns the floats in a vector of this processor, or 0 if there is no code for it."""
    floats = _LANES.get(torch.backends.cpu.get_cpu_capability(), 0)
    return floats if _C.winograd_compiled(floats) else 0


def weight_floats(outputs: int, channels: int, tile: int) -> int:
    """Returns how many numbers the transformed weights of a convolution are."""
    return _C.winograd_weight_floats(_shape(outputs, channels, tile))


def _shape(outputs: int, channels: int, tile: int, pad: int = 1, dilation: int = 1) -> _C.WinogradShape:
    shape = _C.WinogradShape()
    shape.images, shape.channels, shape.outputs, shape.height, shape.width = 0, channels, outputs, 0, 0
    shape.pad, shape.dilation, shape.tile, shape.lanes = pad, dilation, tile, lanes()
    return shape


class _Workspace(threading.local):
    """Memory that grows as needed, one for each thread that calls: its pages are then not returned in between."""

    memory = torch.empty(0)

    def address(self, floats: int) -> int:
        if len(self.memory) < floats:
            self.memory = torch.empty(0)  # the old memory may be part of the new
            self.memory = torch.empty(floats)
        return self.memory.data_ptr()


_workspace = _Workspace()


class WinogradConvolution:
    """A convolution with 3 × 3 filters and stride 1, whose weights are transformed once. Has no gradient."""

    def __init__(self, weight: Tensor, bias: Tensor | None, tile: int, pad: int = 1, dilation: int = 1) -> None:
        """Transforms the weights.

        weight: float32, outputs×C×3×3. bias: float32, outputs. tile: 4 or 6, the side of a tile of results. pad and
        dilation: in pixels. The transformed weights take 4 times the memory of the weights for tiles of 4 × 4, and 7
        times for 6 × 6.
        """
        outputs, channels = weight.shape[:2] if weight.dim() == 4 else (0, 0)
        if tuple(weight.shape) != (outputs, channels, 3, 3) or not outputs * channels or weight.dtype != torch.float32:
            raise ValueError(f"weights {tuple(weight.shape)} of {weight.dtype}; they must be outputs×C×3×3 of float32")
        if bias is not None and (tuple(bias.shape) != (outputs,) or bias.dtype != torch.float32):
            raise ValueError(f"bias {tuple(bias.shape)} of {bias.dtype}; it must be {outputs} numbers of float32")
        if tile not in TILES or pad < 0 or dilation < 1:
            raise ValueError(f"tile {tile}, pad {pad} and dilation {dilation}; allowed are tiles of 4 and 6")
        if not lanes():
            raise ValueError("this processor has neither AVX2 nor AVX-512, or this build no code for them")
        #: the side of a tile of results
        self.tile = tile
        self._window = pad, dilation
        self._bias = torch.zeros(outputs) if bias is None else bias.detach().clone().contiguous()
        self._weights = torch.empty(weight_floats(outputs, channels, tile))
        weight = weight.detach().contiguous()
        shape = _shape(outputs, channels, tile)
        _C.winograd_transform(shape, weight.data_ptr(), self._weights.data_ptr(), torch.get_num_threads())

    def __call__(self, x: Tensor, relu: bool = False) -> Tensor:
        """Returns the convolution of `x`, perhaps with a ReLU.

        x: float32, N×C×H×W, in any memory format. Returns N×outputs×(H + 2·pad - 2·dilation)×… in channels-last memory.
        """
        return winograd_convolution(x, self._weights, self._bias, self.tile, *self._window, relu)


@operator("winograd_convolution")
def winograd_convolution(
    x: Tensor, weights: Tensor, bias: Tensor, tile: int, pad: int, dilation: int, relu: bool
) -> Tensor:
    """What WinogradConvolution computes, from its transformed weights and its bias."""
    size = _output_size(x, weights, len(bias), tile, pad, dilation)
    shape = _shape(len(bias), x.shape[1], tile, pad, dilation)
    shape.images, _, shape.height, shape.width = x.shape
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.empty(size, memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    _C.winograd_convolution(
        shape, x.data_ptr(), weights.data_ptr(), bias.data_ptr(), y.data_ptr(), relu,
        _workspace.address(_C.winograd_workspace_floats(shape, threads)), threads,
    )  # fmt: skip
    return y


def _output_size(x: Tensor, weights: Tensor, outputs: int, tile: int, pad: int, dilation: int) -> tuple[int, ...]:
    if x.dim() != 4 or x.dtype != torch.float32 or weight_floats(outputs, x.shape[1], tile) != weights.numel():
        raise ValueError(
            f"an input {tuple(x.shape)} of {x.dtype}; it must be N×C×H×W of float32, C as the weights have"
        )
    height, width = (size + 2 * (pad - dilation) for size in x.shape[2:])
    if min(height, width) < 1:
        raise ValueError(f"an input {tuple(x.shape)} is smaller than the filters (dilation {dilation})")
    return x.shape[0], outputs, height, width


@register_fake("winograd_convolution")
def _(x: Tensor, weights: Tensor, bias: Tensor, tile: int, pad: int, dilation: int, relu: bool) -> Tensor:
    size = _output_size(x, weights, len(bias), tile, pad, dilation)
    return torch.empty(size, device=x.device, memory_format=torch.channels_last)
