"""ROIAlign of MS-CNN and Cascade R-CNN (Cai et al. 2016, 2018): the map's values at the corners of a region's cells."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.forks.regions import RegionLayer, padded, pooled_size
from caffe.engine.layer_types.shapes import full_precision


@register
class ROIAlign(RegionLayer):
    """Bottoms: feature map N × C × H × W, regions R × 5. Top: R × C × (pooled_h + 1) × (pooled_w + 1).

    A grid of pooled_h × pooled_w cells is laid on each region, which pad_ratio enlarges first. The top has the map's
    values at the grid's corners, interpolated between four pixels; a Pooling layer after it (AVE, kernel_size: 2,
    stride: 1) makes one value of each cell. Corners more than half a pixel outside the map are 0, and so are all of a
    region that does not end after it begins.
    """

    type_name = "ROIAlign"

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.cells = pooled_size(self)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        self.check_regions(bottom)
        return [(bottom[1][0], bottom[0][1], self.cells[0] + 1, self.cells[1] + 1)]

    def forward(self, *bottom: Tensor) -> Tensor:
        x, regions = bottom[0], full_precision(bottom[1].detach()).reshape(len(bottom[1]), 5)
        param = self.param.roi_pooling_param
        image = self.images_of(regions, len(x))
        corners = padded(regions[:, 1:], param.pad_ratio) * param.spatial_scale - 0.5
        malformed = (corners[:, 2:] <= corners[:, :2]).any(dim=1)
        if not x.numel() or not len(regions):
            return x.new_zeros(len(regions), x.shape[1], self.cells[0] + 1, self.cells[1] + 1)
        across, outside_x = self._points(corners[:, 0], corners[:, 2], self.cells[1], x.shape[3])
        down, outside_y = self._points(corners[:, 1], corners[:, 3], self.cells[0], x.shape[2])
        pixels = x.permute(0, 2, 3, 1)
        outside = outside_y[:, :, None] | outside_x[:, None] | malformed[:, None, None]
        top: Tensor | None = None
        for row, high in down:
            for column, wide in across:
                weight = torch.where(outside, 0, high[:, :, None] * wide[:, None])
                term = pixels[image[:, None, None], row[:, :, None], column[:, None]] * weight[..., None].to(x)
                top = term if top is None else top + term
        assert top is not None
        return top.permute(0, 3, 1, 2).contiguous()

    @staticmethod
    def _points(start: Tensor, end: Tensor, cells: int, size: int) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Along one axis, for each region and grid line: two pixels with their weights; and which lines are outside."""
        steps = torch.arange(cells + 1, device=start.device, dtype=start.dtype)
        at = start[:, None] + steps * ((end - start) / cells)[:, None]
        outside = ~((at >= -0.5) & (at <= size - 0.5))
        at = torch.where(outside, 0, at)
        low = at.floor()
        first, second = (pixel.clamp(0, size - 1) for pixel in (low, low + 1))
        part = at.clamp(0, size - 1) - first
        return [(first.long(), 1 - part), (second.long(), part)], outside
