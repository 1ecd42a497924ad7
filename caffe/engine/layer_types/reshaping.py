"""Flatten, Reshape, Permute and Tile: the same values in another shape or order."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.shapes import count, text


def refuse_in_place(layer: Layer) -> None:
    """For layers that may not overwrite their bottom, as in the original."""
    if len(layer.param.top) and layer.param.top[0] == layer.param.bottom[0]:
        layer.fail(f"cannot work in place; give its top another name than '{layer.param.top[0]}'")


@register
class Flatten(Layer):
    """Axes `axis` to `end_axis` become one."""

    type_name = "Flatten"

    def makes_rows(self) -> bool:
        return (self.param.flatten_param.axis, self.param.flatten_param.end_axis) == (1, -1)

    def setup(self, bottom: Sequence[Shape]) -> None:
        refuse_in_place(self)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        shape = bottom[0]
        start = self.canonical_axis(self.param.flatten_param.axis, len(shape))
        end = self.canonical_axis(self.param.flatten_param.end_axis, len(shape), "end_axis")
        if end < start - 1:
            self.fail(f"end_axis {end} is before axis {start}")
        return [(*shape[:start], count(shape, start, end + 1), *shape[end + 1 :])]

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        return x.reshape(self.reshape([tuple(x.shape)])[0])


@register
class Reshape(Layer):
    """`num_axes` axes from `axis` on become `shape`: 0 copies the bottom's size there, −1 takes the rest."""

    type_name = "Reshape"

    def setup(self, bottom: Sequence[Shape]) -> None:
        refuse_in_place(self)
        self.dims = list(self.param.reshape_param.shape.dim)
        if sum(d == -1 for d in self.dims) > 1 or min(self.dims, default=0) < -1:
            self.fail(f"shape {self.dims} may have sizes, 0 (copy), and at most one −1 (the rest)")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        shape, param = bottom[0], self.param.reshape_param
        start = param.axis if param.axis >= 0 else len(shape) + param.axis + 1
        if not 0 <= start <= len(shape):
            self.fail(f"axis {param.axis} is out of range for a bottom of {text(shape)}")
        end = len(shape) if param.num_axes == -1 else start + param.num_axes
        if not start <= end <= len(shape):
            self.fail(f"num_axes {param.num_axes} from axis {start} on is out of range for a bottom of {text(shape)}")
        new = self.dims
        copied = [start + i for i, d in enumerate(new) if d == 0]
        if copied and copied[-1] >= len(shape):
            self.fail(f"shape {new} copies axis {copied[-1]}, which a bottom of {text(shape)} does not have")
        # Copied sizes cancel out, so that the rest is defined for an empty batch
        rest = count([shape[i] for i in range(start, end) if i not in copied])
        outside = count([shape[i] for i in copied if i >= end])
        fixed = count([d for d in new if d > 0]) * outside
        sizes = [shape[start + i] if d == 0 else d for i, d in enumerate(new)]
        if -1 in sizes:
            if fixed == 0 or rest % fixed:
                self.fail(f"cannot reshape {text(shape)} to {new}: {rest} elements are not divisible by {fixed}")
            sizes[sizes.index(-1)] = rest // fixed
        top = (*shape[:start], *sizes, *shape[end:])
        if count(top) != count(shape):
            self.fail(f"cannot reshape {text(shape)}, {count(shape)} elements, to {text(top)}, {count(top)}")
        return [top]

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        return x.reshape(self.reshape([tuple(x.shape)])[0])


@register
class Permute(Layer):
    """Axes in another order: top axis i is bottom axis order[i]; axes that are not named follow in their order."""

    type_name = "Permute"

    def setup(self, bottom: Sequence[Shape]) -> None:
        axes = len(bottom[0])
        order = list(self.param.permute_param.order)
        if len(set(order)) != len(order) or any(axis >= axes for axis in order):
            self.fail(f"order {order} must name different axes of a bottom of {text(bottom[0])} (0 to {axes - 1})")
        self.order = order + [axis for axis in range(axes) if axis not in order]

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        if len(bottom[0]) != len(self.order):
            self.fail(f"was set up for blobs of {len(self.order)} axes and now gets {text(bottom[0])}")
        return [tuple(bottom[0][axis] for axis in self.order)]

    def forward(self, *bottom: Tensor) -> Tensor:
        return bottom[0].permute(self.order)


@register
class Tile(Layer):
    """The bottom repeated `tiles` times along `axis`."""

    type_name = "Tile"

    def setup(self, bottom: Sequence[Shape]) -> None:
        if self.param.tile_param.tiles < 1:
            self.fail("tiles must be given and positive")

    def _repeats(self, num_axes: int) -> list[int]:
        axis = self.canonical_axis(self.param.tile_param.axis, num_axes)
        return [self.param.tile_param.tiles if i == axis else 1 for i in range(num_axes)]

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        repeats = self._repeats(len(bottom[0]))
        return [tuple(size * times for size, times in zip(bottom[0], repeats, strict=True))]

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        return x.repeat(self._repeats(x.dim()))
