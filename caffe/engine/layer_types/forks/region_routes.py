"""DecodeBBox and ScaleRoute of Cascade R-CNN (Cai and Vasconcelos 2018): regions that are refined, or chosen by size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from caffe.engine.layer import TRAIN, Layer, Shape, register
from caffe.engine.layer_types.forks.bbox_reg import moved_regions, offsets_scale
from caffe.engine.layer_types.shapes import count, full_precision, legacy_dim, text


class _Regions(Layer):
    """A layer that passes some of its regions on. No gradient."""

    fresh_tops = True
    dynamic_axes = MappingProxyType({0: "regions"})

    def takes_gradient(self, index: int) -> bool:
        return False

    def graph_obstacle(self) -> str:
        return "gives as many regions as it keeps"


@register
class DecodeBBox(_Regions):
    """Bottoms: offsets R × 8 (of the background, then of the object), regions R × 5; in training perhaps objects R × K.

    Top: the regions moved by the object's offsets, with their images, R × 5 × 1 × 1. Corners are inclusive. Training
    leaves out boxes that end before they begin, and those whose last value in the third bottom, the overlap with
    their object, is gt_iou_thr or more. (The fork ends if none is left. Here the top is then empty.)
    """

    type_name = "DecodeBBox"
    bottoms = (2, 3)

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.scale = offsets_scale(self)
        if len(bottom) > 2 and self.phase != TRAIN:
            self.fail("takes a third bottom, the objects of its regions, in the TRAIN phase only")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        for i, (shape, values) in enumerate(zip(bottom, (8, 5, None), strict=False)):
            bad = not shape or shape[0] != bottom[1][0] or (values is not None and count(shape, 1) != values)
            if bad or not count(shape, 1):
                needed = text((*bottom[1][:1], values or "K"))
                self.fail(f"'{self.param.bottom[i]}' is {text(shape)}; it must be {needed}")
        return [(bottom[1][0], 5, 1, 1)]

    def forward(self, *bottom: Tensor) -> Tensor:
        offsets, regions = (full_precision(b.detach()) for b in bottom[:2])
        offsets, regions = offsets.reshape(-1, 8)[:, 4:], regions.reshape(-1, 5)
        found = torch.cat([regions[:, :1], moved_regions(offsets, regions[:, 1:], self.scale)], dim=1)
        if self.phase == TRAIN:
            kept = ~(found[:, 1:3] > found[:, 3:]).any(dim=1)
            if len(bottom) > 2:
                kept &= bottom[2].detach().flatten(1)[:, -1] < self.param.decode_bbox_param.gt_iou_thr
            found = found[kept]
        return found.reshape(-1, 5, 1, 1)


@register
class ScaleRoute(_Regions):
    """Bottoms: regions R × 5, and any others of R items. Tops: the items whose region's size is in a range.

    A size is the root of the area in pixels, from low_scale to below high_scale; a limit that is not given does not
    apply. If no region is in the range, the one whose size is the nearest to the middle is passed on, the first of
    equal ones: nearest in octaves, and the middle is the geometric mean of the limits, or the only limit. (If all
    regions end before they begin, the fork ends; here the tops are then empty.)
    """

    type_name = "ScaleRoute"
    bottoms = (1, None)
    tops = (1, None)
    same_count = True

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.scale_route_param
        self.low = param.low_scale if param.HasField("low_scale") else 0.0
        self.high = param.high_scale if param.HasField("high_scale") else math.inf
        if (param.HasField("low_scale") and not self.low > 0) or not self.high >= self.low:
            self.fail(f"scale_route_param needs 0 < low_scale <= high_scale; found {self.low:g} and {self.high:g}")
        given = [limit for limit in (self.low, self.high) if 0 < limit < math.inf]
        self.middle = math.sqrt(given[0] * given[-1]) if given else 256.0

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        regions = bottom[0]
        if not regions or count(regions, 1) != 5:
            self.fail(f"needs regions of 5 values (image, x1, y1, x2, y2); '{self.param.bottom[0]}' is {text(regions)}")
        for name, shape in zip(self.param.bottom, bottom, strict=True):
            if not 1 <= len(shape) <= 4 or shape[0] != regions[0]:
                self.fail(f"'{name}' is {text(shape)}; it must have an item for each of the {regions[0]} regions")
        return [(min(regions[0], 1), *(legacy_dim(shape, axis) for axis in (1, 2, 3))) for shape in bottom]

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        regions = bottom[0].detach().reshape(-1, 5)
        sides = regions[:, 3:] - regions[:, 1:3] + 1
        size = torch.where((sides < 1).any(dim=1), 0, sides.prod(dim=1)).sqrt()
        kept = ((size >= self.low) & (size < self.high)).nonzero().reshape(-1)
        if not len(kept) and len(size):
            distance = (size / self.middle).log2().abs()
            kept = ((distance == distance.min()) & distance.isfinite()).nonzero().reshape(-1)[:1]
        return tuple(
            b.detach()[kept].reshape(len(kept), *(legacy_dim(b.shape, axis) for axis in (1, 2, 3))) for b in bottom
        )
