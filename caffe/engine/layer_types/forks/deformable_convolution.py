"""Deformable convolutions (Dai et al. 2017, Zhu et al. 2018): filters whose taps move from place to place.

DeformableConvolution is unsky's and zhanglonghao1992's, ModulatedDeformableConvolution the latter's. They differ at the
image's edges, as the authors' own two versions do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.convolution import Convolution
from caffe.engine.layer_types.shapes import full_precision, text

#: a pixel of a line, and its weight
Part = tuple[Tensor, Tensor]


@register
class DeformableConvolution(Convolution):
    """A 2-D Convolution of the image at places that a second bottom moves, interpolated between four pixels.

    Bottoms: images N × C × H × W; offsets N × (deformable_group · taps · 2) × the top's height and width: for each
    group of channels and each tap of the kernel in reading order how far it is moved, down and to the right, in pixels.
    Blobs as Convolution's. A place above row 0 or left of column 0 counts as 0, and so does one from H or W on; up to
    there the last row or column goes on.
    """

    type_name = "DeformableConvolution"
    bottoms = (2, 2)
    tops = (1, 1)
    same_count = False
    keeps_bottoms = False
    rounds_blobs = False

    @property
    def window_param(self) -> Any:
        return self.param.deformable_convolution_param

    def setup(self, bottom: Sequence[Shape]) -> None:
        image, offsets, *_ = bottom
        param = self.window_param
        if len(image) != 4 or len(offsets) != 4 or self.canonical_axis(param.axis, 4) != 1:
            self.fail(
                f"needs images and offsets of 4 axes (num, channels, height, width) with axis: 1; they are {text(image)} "
                f"and {text(offsets)}, with axis: {param.axis}"
            )
        super().setup(bottom)
        self.taps = self.geometry.kernel[0] * self.geometry.kernel[1]
        # The forks have different defaults.
        groups = param.deformable_group if param.HasField("deformable_group") else offsets[1] // (2 * self.taps)
        if groups < 1 or self.channels % groups:
            self.fail(f"deformable_group {groups} must divide the {self.channels} input channels")
        self.deformable_group = groups

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        (top,) = super().reshape(bottom[:1])
        if min(bottom[0][2:]) < 1:
            self.fail(f"needs images that are not empty, not {text(bottom[0])}")
        for i, shape in enumerate(bottom[1:], start=1):
            values = 2 if i == 1 else 1
            needed = (top[0], values * self.deformable_group * self.taps, *top[2:])
            if tuple(shape) != needed:
                self.fail(
                    f"'{self.param.bottom[i]}' is {text(shape)}; with deformable_group {self.deformable_group}, a kernel "
                    f"of {text(self.geometry.kernel)} and a top of {text(top[2:])} it must be {text(needed)}"
                )
        return [top]

    def forward(self, *bottom: Tensor) -> Tensor:
        x, offsets, *mask = bottom
        images, groups = len(x), self.deformable_group
        height, width = offsets.shape[2:]
        moves = full_precision(offsets).reshape(images, groups, self.taps, 2, height, width)
        down, across = self._places(moves)
        each = [m.reshape(images, groups, self.taps, height, width) for m in mask]
        columns = self._columns(x, down, across, *each)
        columns = columns.reshape(images, self.group, self.channels // self.group * self.taps, height * width)
        weight = self.blobs[0].reshape(self.group, self.num_output // self.group, columns.shape[2])
        y = torch.matmul(weight, columns).reshape(images, self.num_output, height, width)
        return y + self.blobs[1].to(y.dtype).reshape(-1, 1, 1) if len(self.blobs) > 1 else y

    def _places(self, moves: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns, fractions included: images × groups × taps × the top's height × width each."""
        g = self.geometry
        rows, columns = (
            torch.arange(size, device=moves.device, dtype=moves.dtype) * g.stride[axis] - g.pad[axis]
            for axis, size in enumerate(moves.shape[-2:])
        )
        tap_rows, tap_columns = (
            torch.arange(g.kernel[axis], device=moves.device, dtype=moves.dtype) * g.dilation[axis] for axis in (0, 1)
        )
        down = tap_rows.repeat_interleave(g.kernel[1])[:, None, None] + rows[:, None]
        across = tap_columns.repeat(g.kernel[0])[:, None, None] + columns
        return down + moves[:, :, :, 0], across + moves[:, :, :, 1]

    def _columns(self, x: Tensor, down: Tensor, across: Tensor, mask: Tensor | None = None) -> Tensor:
        """What each tap sees: images × groups × channels of a group × taps × (the top's height · width)."""
        images, channels, height, width = x.shape
        groups, each = self.deformable_group, channels // self.deformable_group
        inside = self._inside(down, height) & self._inside(across, width)
        rows = self._parts(torch.where(inside, down, 0), height)
        columns = self._parts(torch.where(inside, across, 0), width)
        # One row of channels for each pixel, so that a pixel is read at once.
        pixels = x.reshape(images, groups, each, height * width).transpose(2, 3)
        pixels = pixels.reshape(images * groups * height * width, each)
        first = torch.arange(images * groups, device=x.device).reshape(images, groups, 1, 1, 1) * (height * width)
        seen: Tensor | None = None
        for row, of_row in rows:
            for column, of_column in columns:
                weight = torch.where(inside, of_row * of_column, 0)
                if mask is not None:
                    weight = weight * mask
                term = pixels[first + row * width + column] * weight[..., None].to(x.dtype)
                seen = term if seen is None else seen + term
        assert seen is not None
        return seen.flatten(3, 4).permute(0, 1, 4, 2, 3)

    def _inside(self, at: Tensor, size: int) -> Tensor:
        """Which places along an axis do not count as 0."""
        return (at >= 0) & (at < size)

    def _parts(self, at: Tensor, size: int) -> list[Part]:
        """The two pixels of a line around each place within it, with their weights."""
        low = at.detach().floor().clamp(max=size - 1)
        beyond = torch.where(at < size - 1, at - low, 0)
        return [(low.long(), 1 - beyond), ((low + 1).clamp(max=size - 1).long(), beyond)]


@register
class ModulatedDeformableConvolution(DeformableConvolution):
    """A DeformableConvolution whose third bottom says how much each tap counts.

    Bottoms: images, offsets, and factors N × (deformable_group · taps) × the top's height and width. Pixels outside
    the image are 0, and places are interpolated between them as between others; those from one pixel outside on are 0.
    """

    type_name = "ModulatedDeformableConvolution"
    bottoms = (3, 3)

    @property
    def window_param(self) -> Any:
        return self.param.modulated_deformable_convolution_param

    def _inside(self, at: Tensor, size: int) -> Tensor:
        return (at > -1) & (at < size)

    def _parts(self, at: Tensor, size: int) -> list[Part]:
        low = at.detach().floor()
        beyond = at - low
        return [
            (low.clamp(min=0).long(), torch.where(low >= 0, 1 - beyond, 0)),
            ((low + 1).clamp(max=size - 1).long(), torch.where(low < size - 1, beyond, 0)),
        ]
