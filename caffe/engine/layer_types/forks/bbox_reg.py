"""What layers of MS-CNN and Cascade R-CNN (Cai et al. 2016, 2018) share: their offsets' mean and deviation, overlaps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from caffe.engine.layer import Layer

#: areas that an overlap is divided by: the union, the smaller of the two, the better box's
NMS_TYPES = ("IOU", "IOMU", "IOFU")


def offsets_scale(layer: Layer) -> Tensor:
    """bbox_reg_param of a layer: means and deviations, 2 × 4, for x, y, width, height; 0 and 1 without."""
    param = layer.param.bbox_reg_param
    if not param.bbox_mean or not param.bbox_std:
        return torch.tensor([[0.0] * 4, [1.0] * 4])
    if len(param.bbox_mean) != 4 or len(param.bbox_std) != 4:
        layer.fail(
            "bbox_reg_param needs 4 bbox_mean and 4 bbox_std (x, y, width, height), not "
            f"{len(param.bbox_mean)} and {len(param.bbox_std)}"
        )
    if not min(param.bbox_std) > 0:
        layer.fail(f"bbox_std must be positive, not {min(param.bbox_std):g}")
    return torch.tensor([list(param.bbox_mean), list(param.bbox_std)])


def little_overlap(
    threshold: float, nms_type: str, pixel: float, meet: Callable[[Tensor], Tensor]
) -> Callable[[Tensor, Tensor], Tensor]:
    """Says which of boxes R × 4 (corners) overlap a box by `threshold` at most, for `suppress`.

    `pixel` is added to differences of corners: 1 if both border pixels belong to a box. `meet` says, from these
    differences before it is added, R × 2, which boxes have an intersection with the box. One without area has none.
    """

    def apart(box: Tensor, rest: Tensor) -> Tensor:
        across = torch.minimum(rest[:, 2:], box[2:]) - torch.maximum(rest[:, :2], box[:2])
        sides, own = rest[:, 2:] - rest[:, :2] + pixel, box[2:] - box[:2] + pixel
        areas, area = sides.prod(dim=1), own.prod()
        valid = meet(across) & (sides >= pixel).all(dim=1) & (areas > 0) & (own >= pixel).all() & (area > 0)
        shared = torch.where(valid, (across + pixel).prod(dim=1), 0)
        over = areas + area - shared
        if nms_type == "IOMU":
            over = torch.minimum(areas, area)
        elif nms_type == "IOFU":
            over = area.expand_as(areas)
        return ~valid | (shared / over <= threshold)

    return apart


def inclusive_overlap(threshold: float, nms_type: str) -> Callable[[Tensor, Tensor], Tensor]:
    """`little_overlap` as Cascade R-CNN computes it: both border pixels belong to a box.

    Boxes that share one row of pixels do not overlap, those that share one column do.
    """
    return little_overlap(threshold, nms_type, 1, lambda across: (across[:, 0] >= 0) & (across[:, 1] > 0))


def moved_regions(offsets: Tensor, regions: Tensor, scale: Tensor) -> Tensor:
    """Regions R × 4 (corners inclusive) moved by offsets R × 4; `scale` is as of `offsets_scale`."""
    mean, deviation = scale.to(offsets)
    moves = offsets * deviation + mean
    size = regions[:, 2:] - regions[:, :2] + 1
    sides = size * moves[:, 2:].exp()
    low = moves[:, :2] * size + 0.5 * (regions[:, 2:] + regions[:, :2]) - (sides - 1) / 2
    return torch.cat([low, low + sides - 1], dim=1)
