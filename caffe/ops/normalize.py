"""Normalize: elements divided by the L2 norm of their group, times a learned scale (layers/normalize.h)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caffe import _C
from caffe.ops.cuda import launch
from caffe.ops.operator import operator, register_autograd, register_fake

_SCALAR = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}


def normalize(x: Tensor, scale: Tensor, across_spatial: bool = False, eps: float = 1e-10) -> Tensor:
    """x / sqrt(eps + sum of x² over the channels of each position) · scale; with `across_spatial`, over each item.

    x: N×C×…, float32, float64, float16 or bfloat16, in either memory format. scale: C numbers or, without axes, one
    for all; float64 if x is, float32 otherwise. Returns x's shape, type and memory format.
    Source: ParseNet (Liu et al. 2015), Caffe's NormalizeLayer, whose gradient this has: it leaves the scale out of the
    projection, so it is the derivative only if the scales within a group are equal.
    Raises ValueError if the arguments do not fit each other.
    """
    if torch.compiler.is_compiling() and not torch.is_grad_enabled():
        return _in_pytorch(x, scale, across_spatial, eps)  # compilation fuses this with what is around it
    y: Tensor = normalize_with_norm(x, scale, across_spatial, eps)[0]
    return y


def _in_pytorch(x: Tensor, scale: Tensor, across_spatial: bool, eps: float) -> Tensor:
    _check(x, scale)
    wide = x.to(scale.dtype)
    over = list(range(1, x.dim())) if across_spatial else [1]
    norm = (wide.square().sum(over, keepdim=True) + eps).sqrt()
    return (wide / norm * (scale.view(-1, *[1] * (x.dim() - 2)) if scale.dim() else scale)).to(x.dtype)


@operator("normalize")
def normalize_with_norm(x: Tensor, scale: Tensor, across_spatial: bool, eps: float) -> tuple[Tensor, Tensor]:
    """As `normalize`, and the norms: one for each item and position, or for each item."""
    _check(x, scale)
    x, was = _native(x)
    shape = _shape(x, scale, across_spatial, eps)
    y, norm = torch.empty_like(x), x.new_empty(shape.norms(), dtype=scale.dtype)
    scale = scale.contiguous()
    arguments = _SCALAR[x.dtype], shape, x.data_ptr(), scale.data_ptr(), y.data_ptr(), norm.data_ptr()
    if x.is_cuda:
        launch("normalize_forward_cuda", x.device, *arguments)
    else:
        _C.normalize_forward_cpu(*arguments, torch.get_num_threads())
    return y.to(was), norm


@operator("normalize_backward")
def normalize_backward(
    grad: Tensor, x: Tensor, scale: Tensor, norm: Tensor, across_spatial: bool, eps: float
) -> tuple[Tensor, Tensor]:
    """The gradients with respect to x and scale, from that with respect to y and what the forward returned."""
    x, was = _native(x)
    grad = torch.empty_like(x).copy_(grad)
    shape = _shape(x, scale, across_spatial, eps)
    scale = scale.contiguous()
    dx, dscale = torch.empty_like(x), torch.empty_like(scale)
    workspace = x.new_empty(_C.normalize_backward_workspace_bytes(shape), dtype=torch.uint8)
    arguments = (
        _SCALAR[x.dtype], shape, x.data_ptr(), grad.data_ptr(), scale.data_ptr(), norm.data_ptr(), dx.data_ptr(),
        dscale.data_ptr(), workspace.data_ptr(),
    )  # fmt: skip
    if x.is_cuda:
        launch("normalize_backward_cuda", x.device, *arguments)
    else:
        _C.normalize_backward_cpu(*arguments, torch.get_num_threads())
    return dx.to(was), dscale


def _check(x: Tensor, scale: Tensor) -> None:
    if x.dim() < 2:
        raise ValueError(f"x has shape {tuple(x.shape)}; it must have two axes or more: items, channels, …")
    if x.dtype not in _SCALAR:
        raise ValueError(f"x is {x.dtype}; it must be float32, float64, float16 or bfloat16")
    wanted = torch.float64 if x.dtype == torch.float64 else torch.float32
    if scale.dtype != wanted:
        raise ValueError(f"scale is {scale.dtype}; for {x.dtype} input it must be {wanted}")
    if scale.dim() > 1 or (scale.dim() == 1 and scale.shape[0] != x.shape[1]):
        raise ValueError(
            f"scale has shape {tuple(scale.shape)}; it must be () or ({x.shape[1]},), the channels of {tuple(x.shape)}"
        )
    if x.device != scale.device:
        raise ValueError(f"x is on {x.device}, but scale is on {scale.device}")


def _native(x: Tensor) -> tuple[Tensor, torch.dtype]:
    """x, dense and with a type that its device's code supports, and its original type."""
    was = x.dtype
    if was == torch.float16 and not x.is_cuda:
        x = x.float()
    return _dense(x), was


def _dense(x: Tensor) -> Tensor:
    return x if x.is_contiguous() or _channels_last(x) else x.contiguous()


def _channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)


def _shape(x: Tensor, scale: Tensor, across_spatial: bool, eps: float) -> _C.NormalizeShape:
    shape = _C.NormalizeShape()
    shape.items, shape.channels, shape.positions = x.shape[0], x.shape[1], x.shape[2:].numel()
    shape.channels_last, shape.across_spatial = not x.is_contiguous(), across_spatial
    shape.channel_shared, shape.eps = scale.dim() == 0, eps
    return shape


@register_fake("normalize")
def _(x: Tensor, scale: Tensor, across_spatial: bool, eps: float) -> tuple[Tensor, Tensor]:
    norms = x.shape[0] if across_spatial else x.shape[0] * x.shape[2:].numel()
    return torch.empty_like(_dense(x)), x.new_empty((norms,), dtype=scale.dtype)


@register_fake("normalize_backward")
def _(grad: Tensor, x: Tensor, scale: Tensor, norm: Tensor, across_spatial: bool, eps: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(_dense(x)), torch.empty_like(scale.contiguous())


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, scale, ctx.across_spatial, ctx.eps = inputs
    ctx.save_for_backward(x, scale, output[1])


def _backward(ctx: Any, grad: Tensor, _norm_grad: Tensor | None) -> tuple[Tensor, Tensor, None, None]:
    x, scale, norm = ctx.saved_tensors
    dx, dscale = normalize_backward(grad, x, scale, norm, ctx.across_spatial, ctx.eps)
    return dx, dscale, None, None


register_autograd("normalize", _backward, _setup_context)
