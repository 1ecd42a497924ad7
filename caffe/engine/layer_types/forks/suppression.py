"""Greedy suppression, as the layers of other forks have it: each with its own overlap."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def suppress(boxes: Tensor, apart: Callable[[Tensor, Tensor], Tensor], most: int | None = None) -> Tensor:
    """Indices of up to `most` boxes (R × values, best first) that every better one of them leaves.

    `apart` gets such a box and those after it that are left, and says which of them stay.
    """
    left = torch.arange(len(boxes), device=boxes.device)
    kept: list[Tensor] = []
    while len(left) and (most is None or len(kept) < most):
        first, left = left[0], left[1:]
        kept.append(first)
        left = left[apart(boxes[first], boxes[left])]
    return torch.stack(kept) if kept else left[:0]
