"""MaskPooling and MaskResize of MNC (Dai et al. 2016), which SSTD (He et al. 2017) has, too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.shapes import text


@register
class MaskPooling(Layer):
    """Bottoms: features N × C × H × W and masks N × 1 × H × W. Top: their product."""

    type_name = "MaskPooling"
    bottoms = (2, 2)
    fresh_tops = True

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        x, mask = (tuple(shape) for shape in bottom)
        if len(x) != 4 or mask != (x[0], 1, *x[2:]):
            self.fail(f"needs features N×C×H×W and masks N×1×H×W; they are {text(x)} and {text(mask)}")
        return [x]

    def forward(self, *bottom: Tensor) -> Tensor:
        x, mask = bottom
        return x * mask


def resize_weights(size: int, top: int) -> Tensor:
    """How much each of `size` pixels of a line counts for each of the `top` pixels of another: top × size, float64.

    Pixel i lies at i · size / top, in single precision: between two pixels, or on the last where that is passed. Beyond
    it by more than half a pixel it is 0.
    """
    ratio = torch.tensor(float(size)) / torch.tensor(float(top))
    place = torch.arange(top, dtype=torch.float32) * ratio
    low = place.long().clamp(max=size - 1)
    beyond = torch.where(low < size - 1, place.double() - low, 0)
    weights = torch.zeros(top, size, dtype=torch.float64)
    weights = weights.scatter_add(1, low[:, None], 1 - beyond[:, None])
    weights = weights.scatter_add(1, (low + 1).clamp(max=size - 1)[:, None], beyond[:, None])
    return weights.masked_fill((place > size - 0.5)[:, None], 0)


@register
class MaskResize(Layer):
    """Masks N × C × H × W resized bilinearly to output_height × output_width, or to factor_height and _width (of SSTD).

    The first pixels of both lie on each other, as `resize_weights` tells. The fork's gradient leaves parts out where it
    enlarges; this is the derivative.
    """

    type_name = "MaskResize"
    fresh_tops = True

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.mask_resize_param
        if param.output_height < 1 or param.output_width < 1:
            self.fail("mask_resize_param must give output_height and output_width, at least 1, also with factors")
        self._made: dict[tuple[object, ...], Tensor] = {}

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        param, shape = self.param.mask_resize_param, bottom[0]
        if len(shape) != 4 or min(shape[2:]) < 1:
            self.fail(f"needs masks N×C×H×W that are not empty, not {text(shape)}")
        sizes = [param.output_height, param.output_width]
        for axis, factor in enumerate((param.factor_height, param.factor_width)):
            if factor > 0:
                sizes[axis] = int(np.float32(shape[2 + axis]) * np.float32(factor))
        if min(sizes) < 1:
            self.fail(f"would make masks of {text(sizes)} from {text(shape)}")
        return [(*shape[:2], *sizes)]

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        height, width = self.reshape([tuple(x.shape)])[0][2:]
        rows = self._weights(x, x.shape[2], height)
        columns = self._weights(x, x.shape[3], width)
        return rows @ x @ columns.t()

    def _weights(self, x: Tensor, size: int, top: int) -> Tensor:
        """`resize_weights` as a tensor like `x`, made once."""
        key = (size, top, x.dtype, x.device)
        made = self._made.get(key)
        if made is None:
            made = resize_weights(size, top).to(x)
            if not torch.compiler.is_compiling():  # while tracing, tensors stand for values and must not be kept
                self._made[key] = made
        return made
