"""Axpy of Squeeze-and-Excitation, ShuffleChannel of ShuffleNet's ports to Caffe, and Reorg of YOLO v2's."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.shapes import text


@register
class Axpy(Layer):
    """a · x + y (Hu et al. 2018). Bottoms: a, N × C or N × C × 1 × 1; x and y, N × C × …. Top: as x."""

    type_name = "Axpy"
    bottoms = (3, 3)
    fresh_tops = True

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        a, x, y = (tuple(shape) for shape in bottom)
        if len(x) < 2 or a[:2] != x[:2] or a[2:] not in ((), (1, 1)) or y != x:
            self.fail(f"needs a: N×C×1×1, x and y: N×C×H×W; they are {text(a)}, {text(x)} and {text(y)}")
        return [x]

    def forward(self, *bottom: Tensor) -> Tensor:
        a, x, y = bottom
        return a.reshape(*x.shape[:2], *(1,) * (x.dim() - 2)) * x + y


@register
class ShuffleChannel(Layer):
    """Channels (group, C/group) reordered as (C/group, group): the first of each group, then the second of each, ….

    Bottom and top: N × C × …. Zhang et al. 2018, ShuffleNet.
    """

    type_name = "ShuffleChannel"

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.group = self.param.shuffle_channel_param.group
        if self.group < 1:
            self.fail("group must be at least 1, not 0")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        shape = bottom[0]
        if len(shape) < 2:
            self.fail(f"needs a bottom with at least 2 axes (num, channels, …), not {text(shape)}")
        if shape[1] % self.group:
            self.fail(f"group {self.group} must divide the {shape[1]} channels of {text(shape)}")
        return [shape]

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        shape, depth = x.shape, x.shape[1] // self.group
        return x.reshape(shape[0], self.group, depth, *shape[2:]).transpose(1, 2).reshape(shape)


@register
class Reorg(Layer):
    """Blocks of stride × stride pixels become channels, as darknet's reorg layer orders them; `reverse` undoes it.

    Bottom N × C × H × W; top N × C·s² × H/s × W/s, or with `reverse` N × C/s² × H·s × W·s. Darknet reads the bottom's
    memory as if it had C/s² channels of H·s × W·s (also when not reversed), so this is not the usual space-to-depth: it
    needs s² to divide C. The fork also accepted other sizes and left part of its top unset.
    """

    type_name = "Reorg"

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.reorg_param
        if param.stride < 1:
            self.fail("reorg_param must give stride, at least 1")
        self.stride, self.reverse = param.stride, param.reverse

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        shape, s = bottom[0], self.stride
        if len(shape) != 4:
            self.fail(f"needs a bottom of 4 axes (num, channels, height, width), not {text(shape)}")
        n, c, h, w = shape
        if c % (s * s):
            self.fail(f"stride {s} needs a multiple of {s * s} channels; the bottom is {text(shape)}")
        if self.reverse:
            return [(n, c // (s * s), h * s, w * s)]
        if h % s or w % s:
            self.fail(f"stride {s} must divide height and width; the bottom is {text(shape)}")
        return [(n, c * s * s, h // s, w // s)]

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        n, c, h, w = x.shape
        s = self.stride
        # Element (offset row, offset column, channel, row, column) of one side is pixel (row · s + offset row, …) of
        # the other, whose memory has c / s² channels of h · s × w · s.
        if self.reverse:
            spread = x.reshape(n, s, s, c // (s * s), h, w).permute(0, 3, 4, 1, 5, 2)
        else:
            spread = x.reshape(n, c // (s * s), h, s, w, s).permute(0, 3, 5, 1, 2, 4)
        return spread.reshape(self.reshape([tuple(x.shape)])[0])
