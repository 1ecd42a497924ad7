"""ImResize, Nms, Maximum and Switch of OpenPose (Cao et al. 2017): from a net's maps to the peaks of body parts.

The fork's CPU and GPU versions differ. These are the GPU's, which its programs use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.shapes import count, full_precision, text

#: pixels on each side of a peak that its place is averaged over
_REACH = 3


@register
class ImResize(Layer):
    """Bottom: S × C × H × W, the maps of one image at S scales. Top: their average at the top's size, 1 × C × h × w.

    The top's size is `factor` times the bottom's, or target_spatial_height × target_spatial_width. Map s fills the
    part start_scale − s · scale_gap of its sides, in their middle, and the rest is cut off. Interpolation is cubic
    (Catmull-Rom), with pixels repeated at the borders. No gradient.
    """

    type_name = "ImResize"
    fresh_tops = True

    def takes_gradient(self, index: int) -> bool:
        return False

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.imresize_param
        if param.factor < 0 or not math.isfinite(param.factor):
            self.fail(f"factor must be positive, or 0 for target_spatial_width and _height, not {param.factor:g}")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        param, shape = self.param.imresize_param, bottom[0]
        if len(shape) != 4:
            self.fail(f"needs maps of 4 axes (scales, channels, height, width), not {text(shape)}")
        size = (param.target_spatial_height, param.target_spatial_width)
        if param.factor:
            size = (int(shape[2] * param.factor), int(shape[3] * param.factor))
        if min(size) < 1 or min(shape[2:]) < 1:
            self.fail(f"would make maps of {text(size)} from {text(shape)}; neither may be empty")
        for number in range(shape[0]):
            if min(self._content(side, number)[1] for side in shape[2:]) < 1:
                self.fail(
                    f"with start_scale: {param.start_scale:g} and scale_gap: {param.scale_gap:g}, map {number} of "
                    f"{text(shape)} has no content, or more than the map"
                )
        return [(1, shape[1], *size)]

    def _content(self, side: int, number: int) -> tuple[int, int]:
        """Where the content of a map begins along an axis of `side` pixels, and its length; 0 if it is not inside."""
        param = self.param.imresize_param
        # 32-bit numbers, as in the fork: rounding decides about a pixel
        one, scale, gap = (torch.tensor(v, dtype=torch.float32) for v in (1, param.start_scale, param.scale_gap))
        begin = math.floor(side // 2 * float(one - scale + number * gap))
        return begin, side - 2 * begin if begin >= 0 else 0

    def forward(self, *bottom: Tensor) -> Tensor:
        x = full_precision(bottom[0].detach())
        ((_, _, height, width),) = self.reshape([tuple(x.shape)])
        total = x.new_zeros(1, x.shape[1], height, width)
        for number in range(len(x)):
            down = self._weights(x, x.shape[2], height, number)
            across = self._weights(x, x.shape[3], width, number)
            total += down @ x[number] @ across.T
        return total / max(len(x), 1)

    def _weights(self, x: Tensor, side: int, size: int, number: int) -> Tensor:
        """What each of `size` pixels of the top takes from `side` pixels along one axis of a map: size × side."""
        begin, length = self._content(side, number)
        at = torch.arange(size, dtype=torch.float64, device=x.device)
        at = (at - (size / length / 2 - 0.5)) * (length / size)
        first = (at + 1e-5).trunc().long().clamp(min=0)
        before, after = (first - 1).clamp(min=0), (first + 1).clamp(max=length - 1)
        last = (after + 1).clamp(max=length - 1)
        d = at - first
        factors = (
            -0.5 * d**3 + d**2 - 0.5 * d,
            1.5 * d**3 - 2.5 * d**2 + 1,
            -1.5 * d**3 + 2 * d**2 + 0.5 * d,
            0.5 * d**3 - 0.5 * d**2,
        )
        weights = torch.zeros(size, side, dtype=torch.float64, device=x.device)
        for pixel, factor in zip((before, first, after, last), factors, strict=True):
            weights.scatter_add_(1, begin + pixel[:, None], factor[:, None])
        return weights.to(x)


@register
class Nms(Layer):
    """Bottom: N × C × H × W. Top: N × num_parts × (max_peaks + 1) × 3, the peaks of the first num_parts maps.

    A map's first row is the number of its peaks and two zeros. Then each of the first max_peaks in reading order has a
    row of x, y and value. A peak is over `threshold` and over its eight neighbors, and not at the border. Its place
    is the average of the pixels up to three away, weighted by their values where these are positive, without the map's
    first row and column. Rows after the last peak are zeros. (The fork leaves them as they were, reads beyond a map
    that is wider than high, and takes num_parts for C in a batch.) No gradient.
    """

    type_name = "Nms"
    fresh_tops = True

    def takes_gradient(self, index: int) -> bool:
        return False

    def graph_obstacle(self) -> str:
        return "looks up where its peaks are"

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        param, shape = self.param.nms_param, bottom[0]
        if len(shape) != 4:
            self.fail(f"needs maps of 4 axes (num, channels, height, width), not {text(shape)}")
        if not 1 <= param.num_parts <= shape[1]:
            self.fail(f"num_parts must be from 1 to the {shape[1]} maps of {text(shape)}, not {param.num_parts}")
        return [(shape[0], param.num_parts, param.max_peaks + 1, 3)]

    def forward(self, *bottom: Tensor) -> Tensor:
        param = self.param.nms_param
        x = full_precision(bottom[0].detach())[:, : param.num_parts]
        top = x.new_zeros(len(x), param.num_parts, param.max_peaks + 1, 3)
        height, width = x.shape[2:]
        if min(height, width) < 3 or not len(x):
            return top
        inside = x[:, :, 1:-1, 1:-1]
        peak = inside > param.threshold
        for down in range(3):
            for across in range(3):
                if (down, across) != (1, 1):
                    peak &= inside > x[:, :, down : down + height - 2, across : across + width - 2]
        top[:, :, 0, 0] = peak.sum(dim=(2, 3)).to(x)
        image, part, y, z = peak.nonzero(as_tuple=True)
        y, z = y + 1, z + 1
        group = image * param.num_parts + part
        rank = torch.arange(len(group), device=x.device) - torch.searchsorted(group, group)
        kept = rank < param.max_peaks
        image, part, y, z, rank = (t[kept] for t in (image, part, y, z, rank))
        reach = torch.arange(-_REACH, _REACH + 1, device=x.device)
        rows, columns = (y[:, None] + reach)[:, :, None], (z[:, None] + reach)[:, None]
        near = (rows > 0) & (rows < height) & (columns > 0) & (columns < width)
        values = x[image[:, None, None], part[:, None, None], rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
        values = torch.where(near, values, 0).clamp(min=0)
        total = values.sum(dim=(1, 2))
        place = [(values * axis).sum(dim=(1, 2)) / total for axis in (columns, rows)]
        top[image, part, rank + 1] = torch.stack([*place, x[image, part, y, z]], dim=1)
        return top


@register
class Maximum(Layer):
    """Bottom: maps N × C × H × W. Top: column, row and value of each map's largest value, N × C × 1 × 3.

    Of equal values the first in reading order counts; which one the fork takes depends on the threads that find them. No
    gradient.
    """

    type_name = "Maximum"
    fresh_tops = True

    def takes_gradient(self, index: int) -> bool:
        return False

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        shape = bottom[0]
        if len(shape) != 4 or min(shape[2:]) < 1:
            self.fail(f"needs maps of 4 axes (num, channels, height, width) that are not empty, not {text(shape)}")
        return [(*shape[:2], 1, 3)]

    def forward(self, *bottom: Tensor) -> Tensor:
        x = full_precision(bottom[0].detach())
        values = x.reshape(*x.shape[:2], x.shape[2] * x.shape[3])
        largest = values.amax(dim=2, keepdim=True)
        order = torch.arange(values.shape[2], device=x.device)
        where = torch.where(values == largest, order, values.shape[2] - 1).amin(dim=2, keepdim=True)
        place = [where % x.shape[3], where // x.shape[3]]
        return torch.cat([*(axis.to(x) for axis in place), largest], dim=2).unsqueeze(2)


@register
class Switch(Layer):
    """The last of its bottoms, in the shape of the first. Programs of the fork can choose another one.

    Only the bottom that is chosen gets a gradient.
    """

    type_name = "Switch"
    bottoms = (1, None)

    def takes_gradient(self, index: int) -> bool:
        return index == len(self.param.bottom) - 1

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        first, last = bottom[0], bottom[-1]
        if any(len(shape) != len(first) for shape in bottom) or count(first) != count(last):
            shapes = ", ".join(text(shape) for shape in bottom)
            self.fail(f"needs bottoms with as many axes, and the first and last with as many values, not {shapes}")
        return [first]

    def forward(self, *bottom: Tensor) -> Tensor:
        return bottom[-1].reshape(bottom[0].shape)
