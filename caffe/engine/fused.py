"""Convolution, bias and ReLU as one kernel of cuDNN, in passes without gradients on an NVIDIA GPU.

PyTorch adds the bias and applies the ReLU in passes of their own over memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe.engine.layer import Layer
from caffe.engine.layer_types.activation import ReLU
from caffe.engine.layer_types.convolution import Convolution
from caffe.engine.wiring import Step


def convolutions(steps: Sequence[Step]) -> Iterator[tuple[int, Convolution, ReLU | None]]:
    """The 2-D convolutions with one top: index, layer, and the ReLU that overwrites the top at the next step, if one does."""
    for i, (step, following) in enumerate(zip(steps, [*steps[1:], None], strict=True)):
        layer = step.layer
        if type(layer) is not Convolution or len(step.tops) != 1:
            continue
        if len(layer.geometry.kernel) != 2 or layer.channel_axis != 1:
            continue
        relu = following.layer if following is not None and following.bottoms == step.tops else None
        if not isinstance(relu, ReLU) or not relu.in_place or relu.param.relu_param.negative_slope != 0:
            relu = None
        yield i, layer, relu


def fuse(steps: Sequence[Step]) -> list[Step]:
    """The steps with one ConvolutionReLU in the place of each Convolution and the ReLU that overwrites its top."""
    pairs = {i: layer for i, layer, relu in convolutions(steps) if relu is not None and len(layer.blobs) == 2}
    return [
        replace(step, layer=ConvolutionReLU(pairs[i]), loss_weights=steps[i + 1].loss_weights) if i in pairs else step
        for i, step in enumerate(steps)
        if i - 1 not in pairs
    ]


class ConvolutionReLU(Layer):
    """Stands for a Convolution with bias and the ReLU behind it; has the convolution's blobs. Has no gradient."""

    type_name = "Convolution"

    def __init__(self, convolution: Convolution) -> None:
        super().__init__(convolution.param, convolution.phase)
        self.blobs = convolution.blobs
        g = convolution.geometry
        self._window = g.stride, g.pad, g.dilation, convolution.group

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        run = _operator if torch.compiler.is_compiling() else convolution_relu
        y: Tensor = run(x.to(dtype), self.blobs[0].to(dtype), self.blobs[1].to(dtype), *self._window)
        return y


def convolution_relu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    stride: Sequence[int],
    pad: Sequence[int],
    dilation: Sequence[int],
    group: int,
) -> Tensor:
    """max(0, the 2-D convolution of `x` + bias), by one kernel where cuDNN has one for this window, type and GPU."""
    case = x.device, x.dtype, tuple(x.shape), tuple(weight.shape), tuple(stride), tuple(pad), tuple(dilation), group
    if case not in _without_kernel:
        try:
            return torch.cudnn_convolution_relu(x, weight, bias, stride, pad, dilation, group)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            _without_kernel.add(case)
    return F.relu_(F.conv2d(x, weight, bias, stride, pad, dilation, group))


_without_kernel: set[tuple[object, ...]] = set()
#: the same as compilation takes it
_operator = torch.library.custom_op("caffe::convolution_relu", convolution_relu, mutates_args=())


@_operator.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor, stride: Sequence[int], pad: Sequence[int], dilation: Sequence[int],
    group: int,
) -> Tensor:  # fmt: skip
    return F.conv2d(x, weight, bias, stride, pad, dilation, group)
