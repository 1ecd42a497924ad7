"""The weights of a TEST net that will not change, laid out for the device once.

On the CPU they are packed for oneDNN's convolutions, with the following ReLU in the same pass. PyTorch otherwise lays
weights out (and at bf16 rounds them) in every call, because they may have changed. At float32, convolutions that suit
Winograd's method use that instead. docs/cpu_speed.md has figures. On a GPU convolutions of the same blob are merged, and
at bf16 weights are rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from caffe.engine import winograd
from caffe.engine.constants import remember
from caffe.engine.flat_concat import join_flattened
from caffe.engine.fused import FoundConvolution, convolutions, fuse_on
from caffe.engine.layer import TEST, ConvolutionWindow, Layer
from caffe.engine.merged import merge
from caffe.engine.net import Net
from caffe.engine.wiring import Step
from caffe.ops.winograd import WinogradConvolution
from caffe.runtime import runtime

#: the number of channels in 16 bytes of memory; 1 where a GPU does without tensor cores
_VECTOR = {"fp32": 1, "tf32": 4, "bf16": 8}


def prepack(net: Net, *, merging: bool = True) -> list[Step]:
    """The net's `inference_steps` with weights that are laid out for good; to be made its inference_steps.

    Later changes of the net's weights do not reach them. What depends on shapes only is computed once
    (caffe/engine/constants.py). The steps of a TRAIN net are the same. Weights are as well on the CPU without oneDNN, or
    at bf16 on a processor that does not compute in it.

    merging: on a GPU, convolutions of the same blob become one (caffe/engine/merged.py).
    """
    steps = list(net.inference_steps)
    if net.phase != TEST:
        return steps
    if net.device.type == "cuda":
        return remember(_for_gpu(net, merging))
    steps = remember(steps)
    if net.device.type != "cpu" or runtime.compile or not torch.backends.mkldnn.is_available():
        return steps
    dtype = torch.bfloat16 if runtime.precision == "bf16" else torch.float32
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return steps
    return _packed(steps, dtype)


def _for_gpu(net: Net, merging: bool) -> list[Step]:
    rounding = runtime.precision == "bf16"
    steps = net.steps
    if merging:
        # What is rounded is in memory of its own anyway. Otherwise the net's weights move into those of merged layers.
        steps = join_flattened(merge(steps, share=not rounding, multiple=_VECTOR[runtime.precision]))
        net.parameter_table.tie()
    steps = fuse_on(net.device, steps)
    return _rounded(steps) if rounding else list(steps)


def _rounded(steps: Sequence[Step]) -> list[Step]:
    """Weights as bfloat16, which autocast would make of them in every pass."""
    return [
        replace(step, layer=step.layer.with_blobs(blob.detach().to(torch.bfloat16) for blob in step.layer.blobs))
        if step.layer.rounds_blobs
        else step
        for step in steps
    ]


def _packed(steps: Sequence[Step], dtype: torch.dtype) -> list[Step]:
    packed: list[Step] = []
    for found in convolutions(steps):
        if not isinstance(found, FoundConvolution):
            packed.append(_with_packed_deconvolution(found, dtype))
        elif found.step.layer.blobs[0].dtype == torch.float32:
            layer = PackedConvolution(found.step.layer, found.window, found.relu is not None, dtype)
            packed.append(found.replaced_by(layer))
        else:
            packed += found.steps
    return packed


def _with_packed_deconvolution(step: Step, dtype: torch.dtype) -> Step:
    """The step, if it is a deconvolution without groups with packed weights."""
    window = step.layer.as_deconvolution() if len(step.tops) == 1 else None
    if window is None or window.group > 1 or step.layer.blobs[0].dtype != torch.float32:
        return step
    return replace(step, layer=PackedDeconvolution(step.layer, window, dtype))


class _Packed(Layer):
    """Weights are laid out for one input shape, at its first appearance. Has no gradient."""

    def __init__(self, original: Layer, window: ConvolutionWindow, dtype: torch.dtype) -> None:
        super().__init__(original.param, original.phase)
        self.blobs = original.blobs
        self._window, self._dtype = window, dtype
        self._shape: tuple[int, ...] = ()
        self._bias = self.blobs[1].detach().to(dtype, copy=True) if len(self.blobs) > 1 else None

    def forward(self, *bottom: Tensor) -> Tensor:
        x = bottom[0].to(self._dtype, memory_format=torch.channels_last)
        if self._shape != tuple(x.shape):
            self.lay_out(tuple(x.shape), self.blobs[0].detach().to(self._dtype))
            self._shape = tuple(x.shape)
        return self.run(x)

    def lay_out(self, shape: tuple[int, ...], weight: Tensor) -> None:
        """Prepares the weights for inputs of `shape`."""
        raise NotImplementedError

    def run(self, x: Tensor) -> Tensor:
        """The top, in channels-last memory like `x`."""
        raise NotImplementedError


class PackedConvolution(_Packed):
    """A convolution, perhaps with the ReLU behind it, from packed weights or by Winograd's method."""

    type_name = "Convolution"

    def __init__(self, convolution: Layer, window: ConvolutionWindow, relu: bool, dtype: torch.dtype) -> None:
        super().__init__(convolution, window, dtype)
        self._relu = relu
        self._packed: Tensor | None = None
        self._winograd: WinogradConvolution | None = None

    @property
    def tile(self) -> int | None:
        """The side of the tiles by which the last input was convolved, or None if it was from packed weights."""
        return self._winograd.tile if self._winograd is not None else None

    def lay_out(self, shape: tuple[int, ...], weight: Tensor) -> None:
        window = self._window
        tile = winograd.tile_for(shape, weight.shape, window) if self._dtype == torch.float32 else None
        if tile is None:
            self._winograd = None
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *self._arguments(), list(shape))
        elif tile != self.tile:
            self._packed = self._winograd = None  # frees the memory first
            self._winograd = WinogradConvolution(weight, self._bias, tile, window.pad[0], window.dilation[0])

    def run(self, x: Tensor) -> Tensor:
        if self._winograd is not None:
            return self._winograd(x, self._relu)
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._packed, self._bias, *self._arguments(), "relu" if self._relu else "none", [], ""
        )
        return y

    def _arguments(self) -> tuple[list[int], list[int], list[int], int]:
        window = self._window
        return list(window.pad), list(window.stride), list(window.dilation), window.group


class PackedDeconvolution(_Packed):
    """A deconvolution from packed weights."""

    type_name = "Deconvolution"

    def lay_out(self, shape: tuple[int, ...], weight: Tensor) -> None:
        self._packed: Tensor = torch.ops.mkldnn._reorder_convolution_transpose_weight(
            weight, *self._arguments(), list(shape)
        )

    def run(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._convolution_transpose_pointwise(
            x, self._packed, self._bias, *self._arguments(), "none", [], ""
        )
        return y

    def _arguments(self) -> tuple[list[int], list[int], list[int], list[int], int]:
        window = self._window
        return list(window.pad), [0, 0], list(window.stride), list(window.dilation), window.group
