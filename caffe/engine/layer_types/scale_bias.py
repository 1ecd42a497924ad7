"""Scale and Bias: a blob times, or plus, a smaller one, which is learned or the second bottom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.shapes import text
from caffe.proto import caffe_pb2


class _Broadcast(Layer):
    """The factor's (or term's) axes match the bottom's from `axis` on; it is repeated along all others."""

    bottoms = (1, 2)

    def operand_shape(self, bottom: Sequence[Shape], param: Any) -> Shape:
        """The shape of the learned operand: `num_axes` axes from `axis` on (−1: to the end)."""
        if param.num_axes < -1:
            self.fail(f"num_axes must be at least 0, or −1 for all from axis on, not {param.num_axes}")
        axis = self.canonical_axis(param.axis, len(bottom[0])) if bottom[0] else 0
        if param.num_axes > len(bottom[0]) - axis:
            self.fail(f"{param.num_axes} axes from axis {axis} on go past the end of the bottom, {text(bottom[0])}")
        return tuple(bottom[0][axis:] if param.num_axes == -1 else bottom[0][axis : axis + param.num_axes])

    def check_operand(self, bottom: Sequence[int], operand: Sequence[int], axis: int) -> None:
        if not operand:
            return
        axis = self.canonical_axis(axis, len(bottom))
        if tuple(bottom[axis : axis + len(operand)]) != tuple(operand):
            self.fail(
                f"the bottom is {text(bottom)}; from axis {axis} on it must start with {text(operand)}, "
                f"the shape of the {self.type_name.lower()}"
            )

    def spread(self, operand: Tensor, x: Tensor, axis: int) -> Tensor:
        """`operand` with axes of 1 added, so that it broadcasts over `x`."""
        if operand.dim() == 0:
            return operand
        axis = self.canonical_axis(axis, x.dim())
        return operand.reshape(*operand.shape, *(1,) * (x.dim() - axis - operand.dim()))


@register
class Scale(_Broadcast):
    """x · factor, plus bias if bias_term is set. Blobs: factor (1 at first; none with two bottoms), bias (0 at first).

    With min_value or max_value (of caffe-windows) the learned factor is brought back within them before each pass.
    """

    type_name = "Scale"
    fresh_tops = True

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.scale_param
        self.limited = param.HasField("min_value") or param.HasField("max_value")
        if self.limited and len(bottom) > 1:
            self.fail("min_value and max_value are for a learned factor, not for a second bottom")
        shape = bottom[1] if len(bottom) > 1 else self.operand_shape(bottom, param)
        if len(bottom) == 1:
            ones = caffe_pb2.FillerParameter(type="constant", value=1)
            self.add_blob(shape, param.filler if param.HasField("filler") else ones)
        if param.bias_term:
            self.add_blob(shape, param.bias_filler)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        axis = self.param.scale_param.axis
        self.check_operand(bottom[0], bottom[1] if len(bottom) > 1 else self.blobs[0].shape, axis)
        if self.param.scale_param.bias_term:
            self.check_operand(bottom[0], self.blobs[-1].shape, axis)
        return [bottom[0]]

    def compile_obstacle(self) -> str | None:
        return "limits its weights in place" if self.limited else None

    def constrain(self) -> None:
        """What is done to the factor before each pass; where both are given, max_value comes last."""
        param = self.param.scale_param
        if param.HasField("min_value"):
            self.blobs[0].data.clamp_(min=param.min_value)
        if param.HasField("max_value"):
            self.blobs[0].data.clamp_(max=param.max_value)

    def forward(self, *bottom: Tensor) -> Tensor:
        if self.limited:
            self.constrain()
        x = bottom[0]
        param = self.param.scale_param
        top = x * self.spread(bottom[1] if len(bottom) > 1 else self.blobs[0], x, param.axis)
        return top + self.spread(self.blobs[-1], x, param.axis) if param.bias_term else top


@register
class Bias(_Broadcast):
    """x + term. Blobs: the term (0 at first; none with two bottoms)."""

    type_name = "Bias"

    def setup(self, bottom: Sequence[Shape]) -> None:
        if len(bottom) == 1:
            self.add_blob(self.operand_shape(bottom, self.param.bias_param), self.param.bias_param.filler)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        operand = bottom[1] if len(bottom) > 1 else self.blobs[0].shape
        self.check_operand(bottom[0], operand, self.param.bias_param.axis)
        return [bottom[0]]

    def forward(self, *bottom: Tensor) -> Tensor:
        x = bottom[0]
        return x + self.spread(bottom[1] if len(bottom) > 1 else self.blobs[0], x, self.param.bias_param.axis)
