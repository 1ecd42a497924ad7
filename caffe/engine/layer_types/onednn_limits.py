"""Strided transposed convolutions on the CPU with which oneDNN crashes, and how they are computed without it.

They are the forward of Deconvolution and the gradient of Convolution. The limits are those of oneDNN 3.12 with AVX-512.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

#: oneDNN writes beyond its memory from about 18,000 channels to sum over times the kernel's width (kernels wider than
#: high). Such a convolution is computed in parts of this many, for every shape of the kernel.
_MOST_SUMMED = 16384
#: It also crashes where what it writes is far apart: seen from a stride of 3,000 on with 16 channels, and from 2^19 on as
#: stride times channels written. Above these limits, which no known net reaches, oneDNN is not used.
_MOST_STRIDE, _MOST_WRITTEN = 128, 1 << 18


def most_channels(device: str, kernel: Sequence[int], stride: Sequence[int]) -> int | None:
    """Over how many channels a convolution may sum at once; None if there is no limit."""
    return max(1, _MOST_SUMMED // max(kernel)) if device == "cpu" and max(stride) > 1 else None


def is_far_apart(device: str, stride: Sequence[int], channels: int) -> bool:
    """Whether a convolution that writes so many channels has to be computed by `without_onednn`."""
    return (
        device == "cpu" and max(stride) > 1 and (max(stride) > _MOST_STRIDE or max(stride) * channels > _MOST_WRITTEN)
    )


def without_onednn(
    x: Tensor, weight: Tensor, bias: Tensor | None, window: Sequence[Sequence[int]], transposed: bool, group: int
) -> Tensor:
    """The convolution, or the transposed one, by PyTorch's own kernels, in the type of `x`; so is its gradient.

    window: stride, pad and dilation.
    """
    blobs = (None if blob is None else blob.to(x.dtype) for blob in (weight, bias))
    arguments = (*window, transposed, [0] * len(window[0]), group)
    y: Tensor = _WithoutOneDnn.apply(x, *blobs, arguments)
    return y


class _WithoutOneDnn(torch.autograd.Function):
    """arguments: those of aten::convolution from the stride on."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, arguments: Sequence[Any]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bias_shape, ctx.arguments = None if bias is None else bias.shape, arguments
        with _onednn_off(), torch.autocast(x.device.type, enabled=False):
            y: Tensor = torch.ops.aten.convolution(x, weight, bias, *arguments)
            return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        wanted = list(ctx.needs_input_grad[:3])
        with _onednn_off():
            found = torch.ops.aten.convolution_backward(
                grads[0], *ctx.saved_tensors, ctx.bias_shape, *ctx.arguments, wanted
            )
        return (*found, None)


@contextmanager
def _onednn_off() -> Iterator[None]:
    """PyTorch's own kernels. Its `flags` would also set what oneDNN may do on Intel's GPUs, and warn that there is none."""
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # declared as a descriptor, which the module has
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before
