"""Layers that select: ArgMax, Crop, BatchReindex and Filter."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.activation import NoGradient
from caffe.engine.layer_types.shapes import can_inspect, count, text


@register
class ArgMax(Layer):
    """The positions of the top_k largest values, or with out_max_val the values; among equals the later comes first.

    With `axis`: along that axis, which has size top_k in the top (indices, or values). Without: over each whole item;
    the top is N × 1 × top_k indices, or N × 2 × top_k of indices and values. It has no gradient.
    """

    type_name = "ArgMax"
    least_axes = 1

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.argmax_param
        if param.top_k < 1:
            self.fail("top_k must be at least 1")
        self.axis: int | None = param.axis if param.HasField("axis") else None

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        shape, param = bottom[0], self.param.argmax_param
        if self.axis is not None:
            axis = self.canonical_axis(self.axis, len(shape))
            size, where = shape[axis], f"axis {axis}"
            top = (*shape[:axis], param.top_k, *shape[axis + 1 :])
        else:
            size, where = count(shape, 1), "each item"
            top = (shape[0], 2 if param.out_max_val else 1, param.top_k, *(1,) * (len(shape) - 3))
        if param.top_k > size:
            self.fail(f"top_k {param.top_k} is more than the {size} values along {where} of {text(shape)}")
        return [top]

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        param = self.param.argmax_param
        with torch.no_grad():
            if self.axis is not None:
                values, where = self._largest(x, self.canonical_axis(self.axis, x.dim()))
                result = values if param.out_max_val else where.to(x.dtype)
            else:
                values, where = self._largest(x.reshape(len(x), -1), 1)
                found = [where.to(x.dtype), values] if param.out_max_val else [where.to(x.dtype)]
                result = torch.stack(found, dim=1)
        top: Tensor = NoGradient.apply(result, x, self)
        return top.reshape(self.reshape([tuple(x.shape)])[0])

    def _largest(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        # both argmax and a stable sort put the first among equals first, so they start from the end
        backwards, top_k = x.flip(axis), self.param.argmax_param.top_k
        if top_k == 1:
            where = backwards.argmax(dim=axis, keepdim=True)
            values = backwards.gather(axis, where)
        else:
            values, where = torch.sort(backwards, dim=axis, descending=True, stable=True)
            values, where = values.narrow(axis, 0, top_k), where.narrow(axis, 0, top_k)
        return values, x.shape[axis] - 1 - where


@register
class Crop(Layer):
    """The first bottom cropped to the second's size from `axis` on, starting at `offset` (one, or one per axis)."""

    type_name = "Crop"
    bottoms = (2, 2)

    def takes_gradient(self, index: int) -> bool:
        return index == 0

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.offsets = list(self.param.crop_param.offset) or [0]

    def _offsets(self, num_axes: int) -> tuple[int, list[int]]:
        axis = self.canonical_axis(self.param.crop_param.axis, num_axes)
        offsets = self.offsets
        if len(offsets) == 1:
            offsets = offsets * (num_axes - axis)
        if len(offsets) != num_axes - axis:
            self.fail(
                f"{len(offsets)} offsets for the {num_axes - axis} axes from {axis} on; give one, or one for each"
            )
        return axis, offsets

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        shape, like = bottom
        axis, offsets = self._offsets(len(shape))
        if len(like) < len(shape):
            self.fail(
                f"'{self.param.bottom[1]}' {text(like)} has fewer axes than '{self.param.bottom[0]}' {text(shape)}"
            )
        for i, offset in enumerate(offsets, start=axis):
            if offset + like[i] > shape[i]:
                self.fail(
                    f"axis {i}: offset {offset} and size {like[i]} go past the {shape[i]} of '{self.param.bottom[0]}' "
                    f"{text(shape)}; the size comes from '{self.param.bottom[1]}' {text(like)}"
                )
        return [(*shape[:axis], *like[axis : len(shape)])]

    def forward(self, *bottom: Tensor) -> Tensor:
        x, like = bottom
        axis, offsets = self._offsets(x.dim())
        for i, offset in enumerate(offsets, start=axis):
            x = x.narrow(i, offset, like.shape[i])
        return x


@register
class BatchReindex(Layer):
    """Items of the first bottom in the order of the second's indices, which may omit or repeat items."""

    type_name = "BatchReindex"
    least_axes = 1
    bottoms = (2, 2)

    def takes_gradient(self, index: int) -> bool:
        return index == 0

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        if len(bottom[1]) != 1:
            self.fail(f"the indices '{self.param.bottom[1]}' must have one axis, not {text(bottom[1])}")
        return [(bottom[1][0], *bottom[0][1:])]

    def forward(self, *bottom: Tensor) -> Tensor:
        x, index = bottom[0], bottom[1].detach().long()
        if can_inspect(index) and bool(((index < 0) | (index >= len(x))).any()):
            self.fail(f"indices run from {int(index.min())} to {int(index.max())}; the batch allows 0 to {len(x) - 1}")
        return x.index_select(0, index)


@register
class Filter(Layer):
    """Those items of every bottom for which the last bottom, the selector, is not 0.

    How many remain is known only when it runs: `reshape` returns the maximum, the whole batch.
    """

    type_name = "Filter"
    least_axes = 1
    bottoms = (2, None)
    tops = (1, None)
    dynamic_axes = MappingProxyType({0: "items"})

    def graph_obstacle(self) -> str:
        return "has tops whose sizes depend on values"

    def takes_gradient(self, index: int) -> bool:
        return index < len(self.param.bottom) - 1

    def setup(self, bottom: Sequence[Shape]) -> None:
        if self.num_tops != len(bottom) - 1:
            self.fail(
                f"needs one top per bottom except the selector, the last one: {len(bottom) - 1}, not {self.num_tops}"
            )

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        *items, selector = bottom
        if count(selector, 1) != 1:
            self.fail(f"the selector '{self.param.bottom[-1]}' must have one value per item, not {text(selector)}")
        for name, shape in zip(self.param.bottom, items, strict=False):
            if shape[0] != selector[0]:
                self.fail(f"'{name}' {text(shape)} has {shape[0]} items, but the selector has {selector[0]}")
        return items

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        *items, selector = bottom
        chosen = selector.detach().reshape(-1).nonzero().squeeze(1)
        tops = tuple(item.index_select(0, chosen) for item in items)
        return tops[0] if len(tops) == 1 else tops
