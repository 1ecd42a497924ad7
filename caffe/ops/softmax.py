"""Softmax over few classes on the CPU, where PyTorch computes one number at a time."""

from __future__ import annotations

import torch
from torch import Tensor

#: with fewer rows, the two copies take longer than what they save
_LEAST_ROWS = 100


def softmax(x: Tensor, dim: int) -> Tensor:
    """torch.softmax(x, dim), with other last digits where the axis is the last one and has few classes.

    PyTorch computes the softmax of the last axis row by row, with vector instructions only for rows that fill a vector.
    A detector of a few classes has tens of thousands of shorter rows. Here these become columns, which are computed
    side by side.
    """
    if not _has_many_short_rows(x, dim):
        return torch.softmax(x, dim)
    columns = x.reshape(-1, x.shape[-1]).t().contiguous()
    return torch.softmax(columns, 0).t().contiguous().view(x.shape)


def _has_many_short_rows(x: Tensor, dim: int) -> bool:
    if x.device.type != "cpu" or x.dim() == 0 or dim % x.dim() != x.dim() - 1 or torch.compiler.is_compiling():
        return False
    classes = x.shape[-1]
    return 0 < classes < _floats_in_a_vector() and x.numel() >= _LEAST_ROWS * classes


def _floats_in_a_vector() -> int:
    """How many floats PyTorch's kernels compute at once on this processor."""
    return 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8
