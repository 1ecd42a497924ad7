"""What the layers that pool regions of interest share: the regions, their grid, and rounding as C does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape
from caffe.engine.layer_types.shapes import can_inspect, count, text


class RegionLayer(Layer):
    """A layer with a feature map N × C × H × W and regions R × 5: image, x1, y1, x2, y2 in pixels of the net's input.

    Corners are inclusive. Regions get no gradient.
    """

    bottoms = (2, 2)
    fresh_tops = True

    def takes_gradient(self, index: int) -> bool:
        return index == 0

    def check_regions(self, bottom: Sequence[Shape]) -> None:
        image, regions = bottom
        if len(image) != 4:
            self.fail(f"needs a feature map of 4 axes (num, channels, height, width), not {text(image)}")
        if not regions or count(regions, 1) != 5:
            self.fail(f"needs regions of 5 values (image, x1, y1, x2, y2); '{self.param.bottom[1]}' is {text(regions)}")

    def images_of(self, regions: Tensor, images: int) -> Tensor:
        """Each region's image, R; raises NetError for one that is not in the batch, where values may be read."""
        index = regions[:, 0].long()
        if can_inspect(index) and bool(((index < 0) | (index >= images)).any()):
            bad = int(index[(index < 0) | (index >= images)][0])
            self.fail(f"a region of '{self.param.bottom[1]}' is in image {bad}; the batch has images 0 to {images - 1}")
        return index.clamp(0, max(images - 1, 0))


def rounded(x: Tensor) -> Tensor:
    """The nearest integers, halves away from zero (torch.round takes the even one)."""
    whole = torch.trunc(x)
    return whole + torch.sign(x) * ((x - whole).abs() >= 0.5)


def padded(corners: Tensor, ratio: float) -> Tensor:
    """Regions R × 4 (corners inclusive), enlarged on every side by `ratio` times their own side."""
    if not ratio:
        return corners
    pad = (corners[:, 2:] - corners[:, :2] + 1) * ratio
    return torch.cat([corners[:, :2] - pad, corners[:, 2:] + pad], dim=1)


def pooled_size(layer: Layer, param: Any) -> tuple[int, int]:
    """pooled_h and pooled_w of a layer's `param`, its roi_pooling_param or one with the same fields."""
    if param.pooled_h < 1 or param.pooled_w < 1:
        layer.fail(f"pooled_h and pooled_w must be given and positive, not {param.pooled_h} and {param.pooled_w}")
    return param.pooled_h, param.pooled_w


class Line(NamedTuple):
    """Places along an axis of a map, regions × places: the two pixels around each, how far it is from `low`, and
    whether it is outside, which is more than half a pixel from all pixels. Up to there it is on the nearest.
    """

    low: Tensor
    high: Tensor
    part: Tensor
    outside: Tensor

    def down(self) -> Line:
        """As rows of a grid: regions × places × 1."""
        return Line(*(t[:, :, None] for t in self))

    def across(self) -> Line:
        """As columns of a grid: regions × 1 × places."""
        return Line(*(t[:, None] for t in self))


def places(start: Tensor, step: Tensor, count: int, size: int) -> Line:
    """`count` places from each start on, along an axis of `size` pixels."""
    steps = torch.arange(count, device=start.device, dtype=start.dtype)
    at = start[:, None] + steps * step[:, None]
    outside = ~((at >= -0.5) & (at <= size - 0.5))
    at = torch.where(outside, 0, at).clamp(0, size - 1)
    low = at.floor()
    return Line(low.long(), (low + 1).clamp(max=size - 1).long(), at - low, outside)


def interpolated(x: Tensor, image: Tensor, rows: Line, columns: Line) -> Tensor:
    """The values of a map N × C × H × W on a grid in each region, R × C × the grid's height × width; 0 outside.

    image: each region's, R. The lines' tensors are R × the grid's height × width, or broadcast to that.
    """
    outside = rows.outside | columns.outside
    pixels = x.permute(0, 2, 3, 1)
    top: Tensor | None = None
    for row, of_row in ((rows.low, 1 - rows.part), (rows.high, rows.part)):
        for column, of_column in ((columns.low, 1 - columns.part), (columns.high, columns.part)):
            weight = torch.where(outside, 0, of_row * of_column)
            term = pixels[image[:, None, None], row, column] * weight[..., None].to(x)
            top = term if top is None else top + term
    assert top is not None
    return top.permute(0, 3, 1, 2).contiguous()
