"""What layers of MS-CNN and Cascade R-CNN share that read maps of anchors: anchors, their offsets, and label maps.

A label map, B × 6 × H × W, says for each anchor of a map: its class (0: none), center x, center y, width and height of
its object in pixels, and how much it overlaps one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape
from caffe.engine.layer_types.shapes import can_inspect, full_precision, text

LABEL_CHANNELS = 6


def cell_centers(maps: Tensor, stride: float) -> Tensor:
    """The centers of the cells of maps, … × H × W, in pixels: 2 × H × W, x and y."""
    height, width = maps.shape[-2:]
    y, x = ((torch.arange(size, device=maps.device, dtype=maps.dtype) + 0.5) * stride for size in (height, width))
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])


def moved_anchors(
    offsets: Tensor, field: Tensor, stride: float, scale: Tensor, field_whr: float, field_xyr: float
) -> tuple[Tensor, Tensor]:
    """Upper left corners and sides, both B × 2 × H × W, of anchors `field` (B × 2: width, height) moved by `offsets`.

    Offsets are B × 4 × H × W; `scale`, 2 × 4, is their mean and deviation. An anchor moves by at most 1 / field_xyr of
    its sides, and becomes at most field_whr times larger or smaller.
    """
    mean, deviation = scale.to(offsets).reshape(2, 1, 4, 1, 1)
    moves = offsets * deviation + mean
    most = math.log(field_whr)
    place = moves[:, :2].clamp(-1 / field_xyr, 1 / field_xyr)
    growth = moves[:, 2:].clamp(-most, most)
    sides = field.to(offsets)[:, :, None, None]
    center = place * sides + cell_centers(offsets, stride)
    sides = sides * growth.exp()
    return center - sides / 2, sides


def encoded(box: Tensor, field: Tensor, stride: float, scale: Tensor) -> Tensor:
    """The offsets that move anchors `field` (B × 2) to `box`, both B × 4 × H × W; sides below 2 pixels count as 2."""
    sides = field.to(box)[:, :, None, None]
    place = (box[:, :2] - cell_centers(box, stride)) / sides
    growth = (box[:, 2:].clamp(min=2) / sides).log()
    mean, deviation = scale.to(box).reshape(2, 1, 4, 1, 1)
    offsets: Tensor = (torch.cat([place, growth], dim=1) - mean) / deviation
    return offsets


def offset_limits(scale: Tensor, field_whr: float, field_xyr: float) -> Tensor:
    """The least and the most that an offset as predicted counts, 2 × 4, in float64.

    As in the forks, x and y have one limit, from their averaged mean and the geometric mean of their deviations, and so
    have width and height.
    """
    mean, deviation = scale.double().reshape(2, 2, 2)
    most = torch.tensor([1 / field_xyr, math.log(field_whr)], dtype=torch.float64)
    middle, spread = mean.mean(dim=1), deviation.prod(dim=1).sqrt()
    return torch.stack([(-most - middle) / spread, (most - middle) / spread]).repeat_interleave(2, dim=1)


def overlap(low: Tensor, sides: Tensor, other_low: Tensor, other_sides: Tensor, least: float = 0) -> Tensor:
    """Intersection over union of boxes, item by item: corners and sides are … × 2, the result is ….

    A box with a side of 0 or less overlaps nothing, and an intersection narrower than `least` is none.
    """
    across = torch.minimum(low + sides, other_low + other_sides) - torch.maximum(low, other_low)
    meet = ((across > 0) & (across >= least) & (sides > 0) & (other_sides > 0)).all(dim=-1)
    shared = across.prod(dim=-1)
    both = sides.prod(dim=-1) + other_sides.prod(dim=-1) - shared
    return torch.where(meet, shared / torch.where(meet, both, 1), 0)


@dataclass(frozen=True)
class Cells:
    """A label map's contents; B × H × W each, but boxes B × 4 × H × W."""

    label: Tensor
    #: the class that scores are compared with: `label`, or whether there is an object at all
    target: Tensor
    box: Tensor
    overlap: Tensor
    #: False where target is the ignored label
    counted: Tensor
    #: True where there is an object that is not ignored
    taught: Tensor


class AnchorOptions:
    """The options that these layers have in common, checked; `fields` names those that say where anchors are.

    `of`: the layer's own message. `anchors` is A × 2: width and height.
    """

    def __init__(self, layer: Layer, of: Any, stride: str) -> None:
        self.layer = layer
        wide, high = ([v] if isinstance(v, int) else list(v) for v in (of.field_w, of.field_h))
        self.stride: int = getattr(of, stride)
        if not wide or len(wide) != len(high) or min(*wide, *high, self.stride) < 1:
            layer.fail(
                f"needs a positive {stride} and as many field_w as field_h, at least one; found {stride} "
                f"{self.stride}, field_w {wide}, field_h {high}"
            )
        self.anchors = torch.tensor([wide, high], dtype=torch.float32).T
        self.classes: int = of.cls_num
        self.objectness: bool = of.objectness
        if self.classes < 2:
            layer.fail(f"needs a cls_num of at least 2 (the background counts), not {self.classes}")
        if self.objectness and self.classes != 2:
            layer.fail(f"objectness needs cls_num: 2, not {self.classes}")
        if not (of.field_whr > 0 and of.field_xyr > 0):
            layer.fail(f"field_whr and field_xyr must be positive, not {of.field_whr:g} and {of.field_xyr:g}")
        loss = layer.param.loss_param
        self.ignore_label: int | None = loss.ignore_label if loss.HasField("ignore_label") else None

    def fields(self, items: int) -> Tensor:
        """The anchor of each map of a batch, items × 2: those of an image follow each other."""
        return self.anchors.repeat(items // len(self.anchors), 1)

    def check_map(self, name: str, shape: Shape, like: Shape, channels: int) -> None:
        """Raises NetError unless a bottom has these channels, and a batch, height and width as `like`."""
        needed = (like[0], channels, *like[2:])
        if tuple(shape) != needed:
            self.layer.fail(f"'{name}' is {text(shape)}; it must be {text(needed)}")

    def check_first(self, name: str, shape: Shape, channels: int) -> None:
        """Raises NetError unless the first bottom has 4 axes, these channels, and a map for each anchor."""
        count = len(self.anchors)
        if len(shape) != 4 or shape[1] != channels or shape[0] % count:
            maps = "N" if count == 1 else f"N·{count}"
            self.layer.fail(f"'{name}' is {text(shape)}; with cls_num: {self.classes} it must be {maps}×{channels}×H×W")

    def cells(self, labels: Tensor, name: str) -> Cells:
        """What a label map says. Raises NetError for a label that is not a class, if labels may be read."""
        values = full_precision(labels.detach())
        label = values[:, 0].long()
        target = label.clamp(max=1) if self.objectness else label
        counted, taught = torch.ones_like(label, dtype=torch.bool), label != 0
        if self.ignore_label is not None:
            counted = target != self.ignore_label
            taught = taught & (label != self.ignore_label)
        bad = counted & ((target < 0) | (target >= self.classes))
        if can_inspect(label) and bool(bad.any()):
            self.layer.fail(
                f"label {int(label[bad][0])} in '{name}' is not one of the {self.classes} classes (0 to "
                f"{self.classes - 1})"
            )
        return Cells(label, target, values[:, 1:5], values[:, 5], counted, taught)


def split_map(x: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Scores and offsets of a map B × (classes + 4) × H × W."""
    return x[:, :classes], x[:, classes:]
