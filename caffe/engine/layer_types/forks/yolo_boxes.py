"""What YOLO's loss and its detections share: boxes from the predictions of anchors, and their overlaps."""

from __future__ import annotations

import torch
from torch import Tensor


def boxes_of(offset: Tensor, size: Tensor, anchors: Tensor) -> Tensor:
    """Centers and sides of the predicted boxes, N × A × 4 × H × W, in parts of the image.

    offset: N × A × 2 × H × W, where in its cell a center is, x first, 0 to 1. size: the same shape, logarithms of a
    box's sides over its anchor's. anchors: A × 2, width and height in parts of the image.
    """
    height, width = offset.shape[3:]
    x = (offset[:, :, 0] + torch.arange(width, device=offset.device)) / width
    y = (offset[:, :, 1] + torch.arange(height, device=offset.device)[:, None]) / height
    sides = size.exp() * anchors.to(size).reshape(1, -1, 2, 1, 1)
    return torch.stack([x, y, sides[:, :, 0], sides[:, :, 1]], dim=2)


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes whose last axis is center x, y, width, height; shapes are broadcast.

    Boxes of no area give NaN, as 0 / 0 does in the original.
    """
    low = torch.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = torch.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    sides = high - low
    shared = torch.where((sides < 0).any(dim=-1), 0, sides.prod(dim=-1))
    return shared / (a[..., 2:].prod(dim=-1) + b[..., 2:].prod(dim=-1) - shared)
