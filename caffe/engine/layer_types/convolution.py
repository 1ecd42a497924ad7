"""Convolution, Deconvolution and Im2col: sliding windows over one to three spatial axes.

All three read the same geometry: kernel, stride, pad, dilation; given once, once per axis, or with `_h` and `_w`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe.engine.layer import ConvolutionWindow, Layer, Shape, register
from caffe.engine.layer_types import onednn_limits
from caffe.engine.layer_types.shapes import count, text


@dataclass(frozen=True)
class Geometry:
    """The window, one entry per spatial axis, in pixels."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]

    def extent(self, axis: int) -> int:
        """The number of pixels that the dilated kernel spans."""
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1


class _Windowed(Layer):
    """Shared by the three types: the channel axis and the geometry."""

    @property
    def window_param(self) -> Any:
        """The message with the fields of the window and the filters."""
        return self.param.convolution_param

    def setup_geometry(self, bottom: Sequence[int]) -> None:
        param = self.window_param
        self.channel_axis = self.canonical_axis(param.axis, len(bottom))
        axes = len(bottom) - self.channel_axis - 1
        self.geometry = Geometry(
            kernel=self._per_axis("kernel_size", "kernel", axes, None, 1),
            stride=self._per_axis("stride", "stride", axes, 1, 1),
            pad=self._per_axis("pad", "pad", axes, 0, 0),
            dilation=self._per_axis("dilation", None, axes, 1, 1),
        )

    def _per_axis(self, field: str, stem: str | None, axes: int, default: int | None, least: int) -> tuple[int, ...]:
        param = self.window_param
        given = list(getattr(param, field))
        if stem and (param.HasField(f"{stem}_h") or param.HasField(f"{stem}_w")):
            if axes != 2:
                self.fail(f"{stem}_h and {stem}_w are for 2 spatial axes; this blob has {axes}")
            if given:
                self.fail(f"give either {field}, or {stem}_h and {stem}_w, not both")
            values: tuple[int, ...] = (getattr(param, f"{stem}_h"), getattr(param, f"{stem}_w"))
        elif not given and default is not None:
            values = (default,) * axes
        elif len(given) == 1:
            values = (given[0],) * axes
        elif len(given) == axes:
            values = tuple(given)
        else:
            self.fail(f"{field} is given {len(given)} times; give it once, or once for each of the {axes} spatial axes")
        if any(v < least for v in values):
            self.fail(f"{field} must be at least {least}, not {text(values)}")
        return values

    def window_counts(self, bottom: Sequence[int]) -> list[int]:
        """How many windows fit along each spatial axis of a blob."""
        g = self.geometry
        sizes = bottom[self.channel_axis + 1 :]
        counts = []
        for axis, size in enumerate(sizes):
            room = size + 2 * g.pad[axis] - g.extent(axis)
            if room < 0:
                self.fail(
                    f"the kernel spans {g.extent(axis)} pixels, but spatial axis {axis} of {text(bottom)} has {size} "
                    f"with {g.pad[axis]} of padding on each side"
                )
            counts.append(room // g.stride[axis] + 1)
        return counts

    def check_axes(self, bottom: Sequence[int]) -> None:
        axes = self.channel_axis + 1 + len(self.geometry.kernel)
        if len(bottom) != axes:
            self.fail(f"was set up for blobs with {axes} axes and now gets {text(bottom)}")


class _Convolving(_Windowed):
    """A learned filter bank; every bottom goes through the same one into the top with the same index."""

    bottoms: ClassVar[tuple[int, int | None]] = (1, None)
    tops: ClassVar[tuple[int, int | None]] = (1, None)
    same_count = True
    fresh_tops = True
    keeps_bottoms = True
    rounds_blobs = True
    transposed: ClassVar[bool] = False
    operations: tuple[Callable[..., Any], ...]

    def outputs_and_groups(self, channels: int) -> tuple[int, int]:
        """The number of the tops' channels, and into how many groups both sides are divided."""
        return self.window_param.num_output, self.window_param.group

    def plain_window(self) -> ConvolutionWindow | None:
        """What `as_convolution` or `as_deconvolution` returns for a layer that computes nothing else."""
        if len(self.geometry.kernel) != 2 or self.channel_axis != 1:
            return None
        g = self.geometry
        return ConvolutionWindow(g.stride, g.pad, g.dilation, self.group)

    def weight_shape(self, channels: int, num_output: int, group: int) -> Shape:
        raise NotImplementedError

    def output_sizes(self, bottom: Sequence[int]) -> list[int]:
        raise NotImplementedError

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.setup_geometry(bottom[0])
        param = self.window_param
        if len(self.geometry.kernel) > len(self.operations):
            self.fail(f"at most {len(self.operations)} spatial axes are supported; {text(bottom[0])} has more")
        self.channels = bottom[0][self.channel_axis]
        self.num_output, self.group = self.outputs_and_groups(self.channels)
        if self.num_output < 1:
            self.fail("num_output must be given and positive")
        if self.group < 1 or self.channels % self.group or self.num_output % self.group:
            self.fail(
                f"group {self.group} must divide both the {self.channels} input channels and num_output "
                f"{self.num_output}"
            )
        shape = self.weight_shape(self.channels, self.num_output, self.group) + self.geometry.kernel
        self.add_blob(shape, param.weight_filler)
        if param.bias_term:
            self.add_blob((self.num_output,), param.bias_filler)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        for shape in bottom:
            self.check_axes(shape)
            if shape[self.channel_axis] != self.channels:
                self.fail(
                    f"the filters take {self.channels} channels (axis {self.channel_axis}), but the bottom is "
                    f"{text(shape)}"
                )
            if tuple(shape) != tuple(bottom[0]):
                self.fail(f"all bottoms must have the same shape; found {text(bottom[0])} and {text(shape)}")
        top = (*bottom[0][: self.channel_axis], self.num_output, *self.output_sizes(bottom[0]))
        return [top] * len(bottom)

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        tops = tuple(self._filter(x) for x in bottom)
        return tops[0] if len(tops) == 1 else tops

    def _filter(self, x: Tensor) -> Tensor:
        g = self.geometry
        weight = self.blobs[0]
        bias = self.blobs[1] if len(self.blobs) > 1 else None
        axes = len(g.kernel)
        lead = x.shape[: self.channel_axis]
        if self.channel_axis != 1:
            x = x.reshape(count(lead), *x.shape[self.channel_axis :])
        if axes == 0:  # every position is a window of one
            y = self._run(x.unsqueeze(2), weight.unsqueeze(2), bias, Geometry((1,), (1,), (0,), (1,))).squeeze(2)
        else:
            y = self._run(x, weight, bias, g)
        return y if self.channel_axis == 1 else y.reshape(*lead, *y.shape[1:])

    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None, g: Geometry) -> Tensor:
        if onednn_limits.is_far_apart(x.device.type, g.stride, self.written):
            return onednn_limits.without_onednn(
                x, weight, bias, (g.stride, g.pad, g.dilation), self.transposed, self.group
            )
        most = onednn_limits.most_channels(x.device.type, g.kernel, g.stride)
        if most is None or self.summed // self.group <= most:
            return self._operate(x, weight, bias, g, self.group)
        groups = zip(x.chunk(self.group, 1), weight.chunk(self.group), strict=True)
        y = torch.cat([self._in_parts(of_group, w, g, most) for of_group, w in groups], 1)
        return y if bias is None else y + bias.view(-1, *[1] * len(g.kernel))

    @property
    def summed(self) -> int:
        """The channels that the transposed convolution sums over, which is the layer's or its gradient."""
        return self.channels if self.transposed else self.num_output

    @property
    def written(self) -> int:
        """The channels that it writes."""
        return self.num_output if self.transposed else self.channels

    def _operate(self, x: Tensor, weight: Tensor, bias: Tensor | None, g: Geometry, group: int = 1) -> Tensor:
        raise NotImplementedError

    def _in_parts(self, x: Tensor, weight: Tensor, g: Geometry, most: int) -> Tensor:
        """One group without its bias, `most` of the channels of `summed` at a time."""
        raise NotImplementedError


@register
class Convolution(_Convolving):
    """Cross-correlation with learned filters; blobs: weight num_output × channels/group × kernel, bias num_output."""

    type_name = "Convolution"
    operations = (F.conv1d, F.conv2d, F.conv3d)

    def as_convolution(self) -> ConvolutionWindow | None:
        # A type derived from this one may compute something else.
        return self.plain_window() if type(self) is Convolution else None

    def weight_shape(self, channels: int, num_output: int, group: int) -> Shape:
        return (num_output, channels // group)

    def output_sizes(self, bottom: Sequence[int]) -> list[int]:
        return self.window_counts(bottom)

    def _operate(self, x: Tensor, weight: Tensor, bias: Tensor | None, g: Geometry, group: int = 1) -> Tensor:
        y: Tensor = self.operations[len(g.kernel) - 1](x, weight, bias, g.stride, g.pad, g.dilation, group)
        return y

    def _in_parts(self, x: Tensor, weight: Tensor, g: Geometry, most: int) -> Tensor:
        return torch.cat([self._operate(x, w, None, g) for w in torch.split(weight, most)], 1)


@register
class Deconvolution(_Convolving):
    """Transposed convolution: out = stride·(in − 1) + extent − 2·pad; weight channels × num_output/group × kernel."""

    type_name = "Deconvolution"
    transposed = True
    operations = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)

    def as_deconvolution(self) -> ConvolutionWindow | None:
        window = self.plain_window() if type(self) is Deconvolution else None
        g = self.geometry
        if window is None or onednn_limits.is_far_apart("cpu", g.stride, self.written):
            return None
        most = onednn_limits.most_channels("cpu", g.kernel, g.stride)
        return window if most is None or self.channels // self.group <= most else None

    def weight_shape(self, channels: int, num_output: int, group: int) -> Shape:
        return (channels, num_output // group)

    def output_sizes(self, bottom: Sequence[int]) -> list[int]:
        g = self.geometry
        sizes = []
        for axis, size in enumerate(bottom[self.channel_axis + 1 :]):
            out = g.stride[axis] * (size - 1) + g.extent(axis) - 2 * g.pad[axis]
            if out < 1:
                self.fail(
                    f"padding of {g.pad[axis]} leaves no pixel of spatial axis {axis} of {text(bottom)}: stride "
                    f"{g.stride[axis]} and a kernel of {g.extent(axis)} give {out} pixels"
                )
            sizes.append(out)
        return sizes

    def _operate(self, x: Tensor, weight: Tensor, bias: Tensor | None, g: Geometry, group: int = 1) -> Tensor:
        y: Tensor = self.operations[len(g.kernel) - 1](x, weight, bias, g.stride, g.pad, 0, group, g.dilation)
        return y

    def _in_parts(self, x: Tensor, weight: Tensor, g: Geometry, most: int) -> Tensor:
        parts = zip(torch.split(x, most, 1), torch.split(weight, most), strict=True)
        return torch.stack([self._operate(channels, w, None, g) for channels, w in parts]).sum(0)


@register
class Im2col(_Windowed):
    """The windows as channels: N × C × H × W to N × (C·kernel_h·kernel_w) × rows × columns of windows."""

    type_name = "Im2col"

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.setup_geometry(bottom[0])
        if not self.geometry.kernel:
            self.fail(f"needs a spatial axis after the channels; the bottom is {text(bottom[0])}")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        shape = bottom[0]
        self.check_axes(shape)
        channels = shape[self.channel_axis] * count(self.geometry.kernel)
        return [(*shape[: self.channel_axis], channels, *self.window_counts(shape))]

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        g = self.geometry
        top = self.reshape([tuple(x.shape)])[0]
        padded = F.pad(x, [p for pad in reversed(g.pad) for p in (pad, pad)])
        windows = top[self.channel_axis + 1 :]
        columns = []
        for offset in itertools.product(*map(range, g.kernel)):
            picks: list[slice] = [
                slice(o * d, o * d + s * (n - 1) + 1, s)
                for o, d, s, n in zip(offset, g.dilation, g.stride, windows, strict=True)
            ]
            columns.append(padded[(slice(None),) * (self.channel_axis + 1) + tuple(picks)])
        return torch.stack(columns, dim=self.channel_axis + 1).reshape(top)
