"""Convolution, bias and ReLU as one kernel of cuDNN, in passes without gradients on an NVIDIA GPU.

PyTorch adds the bias and applies the ReLU in separate passes over memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe.engine.layer import ConvolutionWindow, Layer
from caffe.engine.wiring import Step
from caffe.ops.operator import operator, register_fake


@dataclass
class FoundConvolution:
    """A 2-D convolution with one top."""

    step: Step
    window: ConvolutionWindow
    #: the step of the ReLU that overwrites the top at once, if there is one
    relu: Step | None

    @property
    def steps(self) -> list[Step]:
        """What was found, as it was."""
        return [self.step] if self.relu is None else [self.step, self.relu]

    def replaced_by(self, layer: Layer) -> Step:
        """The step of a layer that does what the convolution does, and the ReLU after it."""
        return replace(self.step, layer=layer, loss_weights=(self.relu or self.step).loss_weights)


def convolutions(steps: Sequence[Step]) -> Iterator[FoundConvolution | Step]:
    """The steps in order; a convolution, together with its ReLU, as what was found of them."""
    rest = iter(range(len(steps)))
    for i in rest:
        step = steps[i]
        window = step.layer.as_convolution() if len(step.tops) == 1 else None
        if window is None:
            yield step
            continue
        relu = steps[i + 1] if i + 1 < len(steps) else None
        if relu is not None and relu.bottoms == step.tops and relu.layer.in_place and relu.layer.is_rectifier():
            next(rest)
            yield FoundConvolution(step, window, relu)
        else:
            yield FoundConvolution(step, window, None)


def fuse(steps: Sequence[Step]) -> list[Step]:
    """The steps with one ConvolutionReLU in the place of each convolution with bias and the ReLU that overwrites its top."""
    fused: list[Step] = []
    for found in convolutions(steps):
        if not isinstance(found, FoundConvolution):
            fused.append(found)
        elif found.relu is not None and len(found.step.layer.blobs) == 2:
            fused.append(found.replaced_by(ConvolutionReLU(found.step.layer, found.window)))
        else:
            fused += found.steps
    return fused


def fuse_on(device: torch.device, steps: list[Step]) -> list[Step]:
    """`fuse(steps)` on an NVIDIA GPU, the steps themselves elsewhere."""
    return fuse(steps) if device.type == "cuda" and torch.version.cuda is not None else steps


class ConvolutionReLU(Layer):
    """Stands for a convolution with bias and the ReLU behind it; has the convolution's blobs. Has no gradient."""

    type_name = "Convolution"
    rounds_blobs = True

    def __init__(self, convolution: Layer, window: ConvolutionWindow) -> None:
        super().__init__(convolution.param, convolution.phase)
        self.blobs = convolution.blobs
        self._window = window.stride, window.pad, window.dilation, window.group

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
    """max(0, the 2-D convolution of `x` + bias), by one kernel if cuDNN has one for this window, type and GPU."""
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
#: the same, in the form for compilation
_operator = operator("convolution_relu")(convolution_relu)


@register_fake("convolution_relu")
def _(
    x: Tensor, weight: Tensor, bias: Tensor, stride: Sequence[int], pad: Sequence[int], dilation: Sequence[int],
    group: int,
) -> Tensor:  # fmt: skip
    return F.conv2d(x, weight, bias, stride, pad, dilation, group)
