"""ROIPooling of Fast R-CNN (Girshick 2015): the maximum over each cell of a grid that is laid on each region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.forks.regions import RegionLayer, padded, pooled_size, rounded

_CHUNK = 1 << 24
"""About how many values are looked at at once; it bounds the memory that a pass takes."""


def _spans(first: Tensor, last: Tensor, cells: int, size: int) -> tuple[Tensor, Tensor]:
    """Where each region's cells start and end along an axis of `size` pixels, R × cells each; the end is exclusive."""
    extent = (last - first + 1).clamp(min=1)
    cell = extent / cells
    steps = torch.arange(cells, device=first.device, dtype=first.dtype)
    start = torch.floor(steps * cell[:, None]) + first[:, None]
    end = torch.ceil((steps + 1) * cell[:, None]) + first[:, None]
    return start.clamp(0, size).long(), end.clamp(0, size).long()


def _pool_rows(x: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """x: R × P × … × C; the first maximum of x[r, start:end] for each r and cell: values and positions, R × cells × ….

    Empty cells give the lowest value.
    """
    longest = max(int((end - start).max()), 1)
    at = start[:, :, None] + torch.arange(longest, device=x.device)
    outside = at >= end[:, :, None]
    at = at.clamp(max=x.shape[1] - 1)
    picked = x[torch.arange(len(x), device=x.device)[:, None, None], at]
    picked = picked.masked_fill(outside.reshape(*outside.shape, *(1,) * (picked.dim() - 3)), torch.finfo(x.dtype).min)
    values, offset = picked.max(dim=2)
    return values, start.reshape(*start.shape, *(1,) * (values.dim() - 2)) + offset


class _ROIPool(torch.autograd.Function):
    """The maxima, and the gradient to the first of each cell in reading order."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, image: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]
    ) -> Tensor:
        _, channels, height, width = x.shape
        grid = (rows[0].shape[1], columns[0].shape[1])
        top = x.new_zeros(len(image), *grid, channels)
        where = image.new_full(top.shape, -1)
        pixels = x.permute(0, 2, 3, 1).contiguous()
        each = max(height * width * channels, grid[1] * height * channels)
        step = max(1, _CHUNK // max(each, 1))
        for begin in range(0, len(image) if x.numel() else 0, step):
            part = slice(begin, begin + step)
            # Columns first: the first maximum of a row; then the first row that has the largest.
            turned = pixels[image[part]].transpose(1, 2)
            best, column = _pool_rows(turned, columns[0][part], columns[1][part])  # R × across × H × C
            best, row = _pool_rows(best.transpose(1, 2), rows[0][part], rows[1][part])  # R × down × across × C
            column = column.transpose(1, 2).gather(1, row.clamp(max=height - 1))
            inside = (rows[1] > rows[0])[part, :, None, None] & (columns[1] > columns[0])[part, None, :, None]
            top[part] = torch.where(inside, best, 0)
            where[part] = torch.where(inside, row * width + column, -1)
        ctx.save_for_backward(image, where)
        ctx.shape = x.shape
        return top.permute(0, 3, 1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        image, where = ctx.saved_tensors
        images, channels, height, width = ctx.shape
        grad = grads[0].permute(0, 2, 3, 1)
        channel = torch.arange(channels, device=where.device)
        target = (image[:, None, None, None] * channels + channel) * (height * width) + where
        found = where >= 0
        diff = grad.new_zeros(images * channels * height * width)
        diff.index_add_(0, target[found], grad[found])
        return diff.reshape(ctx.shape), None, None, None


@register
class ROIPooling(RegionLayer):
    """Bottoms: feature map N × C × H × W, regions R × 5. Top: R × C × pooled_h × pooled_w.

    With pad_ratio, as in MS-CNN, a region is enlarged first. Its corners times spatial_scale are rounded to pixels of
    the map, both inclusive; one of no size has one pixel. Cells overlap by up to a pixel, and are cut off at the map's
    edges; one with nothing left is 0.
    """

    type_name = "ROIPooling"

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.roi_pooling_param
        self.pooled = pooled_size(self, param)
        self.scale, self.pad_ratio = param.spatial_scale, param.pad_ratio

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        self.check_regions(bottom)
        return [(bottom[1][0], bottom[0][1], *self.pooled)]

    def graph_obstacle(self) -> str:
        return "reads the sizes of its regions"

    def forward(self, *bottom: Tensor) -> Tensor:
        x, regions = bottom[0], bottom[1].detach().reshape(len(bottom[1]), 5)
        if not len(regions):
            return x.new_zeros(0, x.shape[1], *self.pooled)
        image = self.images_of(regions, len(x))
        corners = rounded(padded(regions[:, 1:], self.pad_ratio) * self.scale)
        rows = _spans(corners[:, 1], corners[:, 3], self.pooled[0], x.shape[2])
        columns = _spans(corners[:, 0], corners[:, 2], self.pooled[1], x.shape[3])
        top: Tensor = _ROIPool.apply(x, image, rows, columns)
        return top
