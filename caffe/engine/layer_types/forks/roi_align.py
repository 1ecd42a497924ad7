"""ROIAlign of MS-CNN and Cascade R-CNN (Cai et al. 2016, 2018): the map's values at the corners of a region's cells."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.forks.regions import RegionLayer, interpolated, padded, places, pooled_size
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
        self.cells = pooled_size(self, self.param.roi_pooling_param)

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
        side = corners[:, 2:] - corners[:, :2]
        across, down = (
            places(corners[:, i], side[:, i] / cells, cells + 1, x.shape[3 - i])
            for i, cells in enumerate(reversed(self.cells))
        )
        down = down._replace(outside=down.outside | malformed[:, None])
        return interpolated(x, image, down.down(), across.across())
