"""PSROIPooling of R-FCN (Dai et al. 2016): each cell of a region averages over channels of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.forks.regions import RegionLayer, rounded


def _spans(first: Tensor, last: Tensor, cells: int, size: int) -> tuple[Tensor, Tensor]:
    """Where each region's cells start and end along an axis of `size` pixels, R × cells each; the end is exclusive."""
    cell = (last - first).clamp(min=0.1)[:, None] / cells
    steps = torch.arange(cells, device=first.device, dtype=first.dtype)
    start = torch.floor(steps * cell + first[:, None])
    end = torch.ceil((steps + 1) * cell + first[:, None])
    return start.clamp(0, size).long(), end.clamp(0, size).long()


@register
class PSROIPooling(RegionLayer):
    """Bottoms: score maps N × (output_dim · k²) × H × W, regions R × 5. Top: R × output_dim × k × k, k = group_size.

    Cell (i, j) of output c averages channel (c · k + i) · k + j. A region's corners are rounded to pixels of the image,
    the lower right one is moved by one pixel, and both are scaled; cells are cut off at the map's edges, and one with
    nothing left is 0.
    """

    type_name = "PSROIPooling"

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.psroi_pooling_param
        for field in ("spatial_scale", "output_dim", "group_size"):
            if getattr(param, field) <= 0:
                self.fail(f"psroi_pooling_param must give {field}, above 0, not {getattr(param, field):g}")
        self.scale, self.outputs, self.cells = param.spatial_scale, param.output_dim, param.group_size

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        self.check_regions(bottom)
        needed = self.outputs * self.cells**2
        if bottom[0][1] != needed:
            self.fail(
                f"output_dim {self.outputs} and group_size {self.cells} need {needed} channels; "
                f"'{self.param.bottom[0]}' has {bottom[0][1]}"
            )
        return [(bottom[1][0], self.outputs, self.cells, self.cells)]

    def forward(self, *bottom: Tensor) -> Tensor:
        x, regions = bottom[0], bottom[1].detach().reshape(len(bottom[1]), 5)
        k, (images, _, height, width) = self.cells, x.shape
        image = self.images_of(regions, images)
        corners = rounded(regions[:, 1:])
        left, top_edge = corners[:, 0] * self.scale, corners[:, 1] * self.scale
        right, bottom_edge = (corners[:, 2] + 1) * self.scale, (corners[:, 3] + 1) * self.scale
        y1, y2 = (edge[:, :, None] for edge in _spans(top_edge, bottom_edge, k, height))  # R × k × 1
        x1, x2 = (edge[:, None, :] for edge in _spans(left, right, k, width))  # R × 1 × k
        if not len(regions) or not x.numel():
            return x.new_zeros(len(regions), self.outputs, k, k)
        # Sums over rectangles from running sums, at double precision: their differences lose nothing that counts.
        sums = torch.nn.functional.pad(x.double().cumsum(2).cumsum(3), (1, 0, 1, 0))
        sums = sums.reshape(images, self.outputs, k, k, height + 1, width + 1).permute(0, 2, 3, 4, 5, 1)
        item = image[:, None, None]
        i, j = torch.arange(k, device=x.device)[:, None], torch.arange(k, device=x.device)
        total = (
            sums[item, i, j, y2, x2] - sums[item, i, j, y1, x2] - sums[item, i, j, y2, x1] + sums[item, i, j, y1, x1]
        )
        area = ((y2 - y1) * (x2 - x1)).clamp(min=1)
        mean = torch.where(((y2 > y1) & (x2 > x1))[..., None], total / area[..., None], 0)
        return mean.permute(0, 3, 1, 2).to(x.dtype)
