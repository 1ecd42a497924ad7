"""Shared by many layer types: shapes in messages, and labels that are indices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def count(shape: Sequence[int], start: int = 0, end: int | None = None) -> int:
    """The number of elements in axes `start` to before `end` (1 for no axes)."""
    return math.prod(shape[start:end])


def text(shape: Sequence[int | str]) -> str:
    """A shape as errors show it: 2×3×4; a scalar is (). A size that may be any number is a letter."""
    return "×".join(map(str, shape)) if len(shape) else "()"


def legacy_dim(shape: Sequence[int], axis: int) -> int:
    """Size of `axis` when a blob is read as num × channels × height × width: missing axes count as 1."""
    return shape[axis] if axis < len(shape) else 1


def labels_of(label: Tensor) -> Tensor:
    """Labels as indices: blobs are float, and Caffe truncates towards zero."""
    return label.detach().reshape(-1).long()


def can_inspect(values: Tensor) -> bool:
    """Whether values may be read for an error message: not on a GPU (it would wait), not while tracing."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def full_precision(values: Tensor) -> Tensor:
    """Half-precision values as float32; losses are summed in at least that."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def class_index(labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Labels clamped to the range of classes, so that they can be indices, and which of them were outside."""
    bad = (labels < 0) | (labels >= classes)
    return labels.clamp(0, max(classes - 1, 0)), bad
