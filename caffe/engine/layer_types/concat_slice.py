"""Concat and Slice: joining blobs, or cutting one, along an axis."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.shapes import text


class _Axis(Layer):
    """`axis` (may be negative) or, in old nets, an unsigned `concat_dim` or `slice_dim`."""

    def read_axis(self, param: Any, old_name: str) -> None:
        if param.HasField(old_name) and param.HasField("axis"):
            self.fail(f"give either axis or {old_name}, not both")
        self.axis_name = old_name if param.HasField(old_name) else "axis"
        self.axis: int = getattr(param, self.axis_name)

    def axis_of(self, num_axes: int) -> int:
        return self.canonical_axis(self.axis, num_axes, self.axis_name)


@register
class Concat(_Axis):
    """All bottoms joined along `axis`; their other axes agree."""

    type_name = "Concat"
    bottoms = (1, None)

    def joins_rows(self) -> bool:
        return self.axis in (1, -1)

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.read_axis(self.param.concat_param, "concat_dim")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        first = bottom[0]
        axis = self.axis_of(len(first))
        for i, shape in enumerate(bottom):
            if len(shape) != len(first) or any(
                a != b for j, (a, b) in enumerate(zip(shape, first, strict=True)) if j != axis
            ):
                self.fail(
                    f"bottoms may differ only in axis {axis}; '{self.param.bottom[0]}' is {text(first)} and "
                    f"'{self.param.bottom[i]}' is {text(shape)}"
                )
        return [(*first[:axis], sum(shape[axis] for shape in bottom), *first[axis + 1 :])]

    def forward(self, *bottom: Tensor) -> Tensor:
        if len(bottom) == 1:
            return bottom[0]
        return torch.cat(bottom, dim=self.axis_of(bottom[0].dim()))


@register
class Slice(_Axis):
    """The bottom cut along `axis` before each `slice_point`, or into equal parts."""

    type_name = "Slice"
    tops = (1, None)

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.read_axis(self.param.slice_param, "slice_dim")
        self.points = list(self.param.slice_param.slice_point)

    def _sizes(self, shape: Sequence[int], axis: int) -> list[int]:
        points = self.points
        size, tops = shape[axis], self.num_tops
        if not points:
            if size % tops:
                self.fail(f"axis {axis} of {text(shape)} cannot be cut into {tops} equal parts; give slice_point")
            return [size // tops] * tops
        if len(points) != tops - 1:
            self.fail(f"{tops} tops need {tops - 1} slice_point, not {len(points)}")
        edges = [0, *points, size]
        sizes = [b - a for a, b in itertools.pairwise(edges)]
        if min(sizes) < 1:
            self.fail(f"slice_point {points} must increase, from over 0 to below {size}, the size of axis {axis}")
        return sizes

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        shape = bottom[0]
        axis = self.axis_of(len(shape))
        return [(*shape[:axis], size, *shape[axis + 1 :]) for size in self._sizes(shape, axis)]

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        (x,) = bottom
        if self.num_tops == 1:
            return x
        axis = self.axis_of(x.dim())
        return torch.split(x, self._sizes(x.shape, axis), dim=axis)
