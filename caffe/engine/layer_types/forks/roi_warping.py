"""ROIWarping of MNC (Dai et al. 2016): a map's values on a grid in each region, with a gradient for the regions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.forks.regions import Line, RegionLayer, interpolated, places, pooled_size, rounded
from caffe.engine.layer_types.shapes import full_precision


@register
class ROIWarping(RegionLayer):
    """Bottoms: feature map N × C × H × W, regions R × 5. Top: R × C × pooled_h × pooled_w.

    A region's corners times spatial_scale are rounded to pixels of the map. From the first corner on, its sides are
    divided into pooled_h and pooled_w steps, and the top has the values where each step begins, interpolated between
    four pixels. Places more than half a pixel outside the map are 0. A region that ends before it begins has no size.

    The regions' gradient is the fork's: of a corner's rounded place, as if it were not rounded, and for sides that are
    a pixel longer than those of the grid. It is 0 in the map's last row and column.
    """

    type_name = "ROIWarping"

    def takes_gradient(self, index: int) -> bool:
        return True

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.roi_warping_param
        self.pooled, self.scale = pooled_size(self, param), param.spatial_scale

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        self.check_regions(bottom)
        return [(bottom[1][0], bottom[0][1], *self.pooled)]

    def forward(self, *bottom: Tensor) -> Tensor:
        x, regions = bottom[0], full_precision(bottom[1]).reshape(len(bottom[1]), 5)
        image = self.images_of(regions.detach(), len(x))
        if not x.numel() or not len(regions):
            return x.new_zeros(len(regions), x.shape[1], *self.pooled)
        corners = rounded(regions.detach()[:, 1:] * self.scale)
        start, side = corners[:, :2], corners[:, 2:] - corners[:, :2]
        across, down = (
            places(start[:, i], side[:, i].clamp(min=0) / count, count, x.shape[3 - i])
            for i, count in enumerate(reversed(self.pooled))
        )
        rows, columns = down.down(), across.across()
        if regions.requires_grad:
            right, lower = (self._moves(regions, start, side, i, line) for i, line in enumerate((across, down)))
            inside = (rows.high > rows.low) & (columns.high > columns.low)
            rows = rows._replace(part=rows.part + torch.where(inside, lower[:, :, None], 0))
            columns = columns._replace(part=columns.part + torch.where(inside, right[:, None], 0))
        return interpolated(x, image, rows, columns)

    def _moves(self, regions: Tensor, start: Tensor, side: Tensor, axis: int, line: Line) -> Tensor:
        """Zeros, R × places, whose gradient is that of the places along an axis (0: x) by the regions' corners."""
        share = (line.low + line.part - start[:, axis, None]) / (side[:, axis, None] + 1).clamp(min=1)
        first, last = ((v - v.detach())[:, None] for v in (regions[:, 1 + axis], regions[:, 3 + axis]))
        moves: Tensor = self.scale * ((1 - share) * first + share * last)
        return moves
