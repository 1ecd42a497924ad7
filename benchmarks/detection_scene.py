"""Predictions of an MDSSD300 with 21 classes and about 81,000 scores per image over the threshold, with settings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: cells of MDSSD300's seven sources and default boxes per cell
SOURCES = ((75, 4), (38, 4), (19, 6), (10, 6), (5, 6), (3, 4), (1, 4))
PRIORS = sum(cells * cells * boxes for cells, boxes in SOURCES)
CLASSES = 21
CANDIDATES = 81_000
#: SSD's settings for VOC
SETTINGS: dict[str, Any] = {
    "num_classes": CLASSES, "share_location": True, "background_label_id": 0, "code_type": 2,
    "variance_encoded_in_target": False, "nms_threshold": 0.45, "eta": 1.0, "top_k": 400, "keep_top_k": 200,
}  # fmt: skip


def priors() -> Tensor:
    """Default boxes of the sources, 1×2×(P·4): squares and 2:1 boxes on a grid, with SSD's variances."""
    boxes = []
    for level, (cells, count) in enumerate(SOURCES):
        at = (torch.arange(cells) + 0.5) / cells
        y, x = (g.reshape(-1, 1).expand(-1, count) for g in torch.meshgrid(at, at, indexing="ij"))
        size = 0.1 + 0.12 * level
        width = torch.tensor([size, size * 1.2, size * 1.41, size / 1.41, size * 1.73, size / 1.73][:count])
        height = torch.tensor([size, size * 1.2, size / 1.41, size * 1.41, size / 1.73, size * 1.73][:count])
        boxes.append(torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1).reshape(-1, 4))
    every = torch.cat(boxes)
    return torch.stack([every, torch.tensor([0.1, 0.1, 0.2, 0.2]).expand_as(every)]).reshape(1, 2, -1)


def scene(batch: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """loc, conf, prior and the confidence threshold that CANDIDATES scores per image exceed, on average."""
    generator = torch.Generator().manual_seed(0)
    loc = torch.randn(batch, PRIORS * 4, generator=generator) * 0.5
    conf = torch.randn(batch, PRIORS, CLASSES, generator=generator).mul(1.5).softmax(-1)
    foreground = conf[:, :, 1:].reshape(-1)
    threshold = float(foreground.kthvalue(foreground.numel() - batch * CANDIDATES).values)
    return loc, conf.reshape(batch, -1), priors(), threshold
