"""Pooling and SPP (a pyramid of poolings).

The number of windows rounds up, or down if a fork's ceil_mode or round_mode says so, and with padding the last window
must start inside the image or its left padding. An average divides by the size of the window's part within the padded
image, like PyTorch's `ceil_mode`. Where PyTorch has other limits (padding over half a kernel, windows outside the
image), the image is padded first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe.engine.layer import TRAIN, Layer, Shape, register
from caffe.engine.layer_types.shapes import text
from caffe.proto import caffe_pb2

_Method = caffe_pb2.PoolingParameter.PoolMethod
MAX, AVE, STOCHASTIC = _Method.Value("MAX"), _Method.Value("AVE"), _Method.Value("STOCHASTIC")
_LOWEST = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class PoolingWindow:
    """(height, width) of the kernel, its stride and the padding, in pixels."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    #: the number of windows rounds up; otherwise what is left over at the ends is not looked at
    ceil: bool = True

    def pooled(self, height: int, width: int) -> tuple[int, int]:
        """The number of windows of an image, down and across."""
        padded = self.pad != (0, 0)
        sizes = []
        for size, kernel, stride, pad in zip((height, width), self.kernel, self.stride, self.pad, strict=True):
            room = size + 2 * pad - kernel
            n = (-(-room // stride) if self.ceil else room // stride) + 1
            if padded and (n - 1) * stride >= size + pad:
                n -= 1
            sizes.append(n)
        return sizes[0], sizes[1]

    def fits_torch(self, height: int, width: int) -> bool:
        """Whether PyTorch's pooling accepts this window, and has the same number of them."""
        for size, kernel, stride, pad, n in zip(
            (height, width), self.kernel, self.stride, self.pad, self.pooled(height, width), strict=True
        ):
            if 2 * pad > kernel or size + 2 * pad < kernel or (n - 1) * stride >= size + pad:
                return False
        return True

    def margins(self, height: int, width: int) -> list[int]:
        """Padding (left, right, top, bottom) that completes all windows; negative where pixels are left over."""
        margins: list[int] = []
        for axis, size, n in ((1, width, self.pooled(height, width)[1]), (0, height, self.pooled(height, width)[0])):
            reach = (n - 1) * self.stride[axis] + self.kernel[axis]
            margins += [self.pad[axis], reach - size - self.pad[axis]]
        return margins


def max_pool(x: Tensor, window: PoolingWindow) -> tuple[Tensor, Tensor]:
    """The maximum of each window and where it is (row · width + column); the first among equals.

    A window without pixels gives the lowest float32, at −1.
    """
    height, width = x.shape[2:]
    if window.fits_torch(height, width):
        pooled, where = F.max_pool2d(
            x, window.kernel, window.stride, window.pad, ceil_mode=window.ceil, return_indices=True
        )
        return pooled, where
    margins = window.margins(height, width)
    padded = F.pad(x, margins, value=_LOWEST)
    pooled, where = F.max_pool2d(padded, window.kernel, window.stride, return_indices=True)
    row = where // padded.shape[3] - margins[2]
    column = where % padded.shape[3] - margins[0]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return pooled, torch.where(inside, row * width + column, -1)


def average_pool(x: Tensor, window: PoolingWindow) -> Tensor:
    """The sum over each window, divided by its size within the padded image (0 for a window outside)."""
    height, width = x.shape[2:]
    if window.fits_torch(height, width):
        return F.avg_pool2d(x, window.kernel, window.stride, window.pad, window.ceil, count_include_pad=True)
    padded = F.pad(x, window.margins(height, width))
    sums = F.avg_pool2d(padded, window.kernel, window.stride, divisor_override=1)
    spans = []
    for axis, size, n in zip((0, 1), (height, width), window.pooled(height, width), strict=True):
        start = torch.arange(n, device=x.device) * window.stride[axis] - window.pad[axis]
        spans.append(((start + window.kernel[axis]).clamp(max=size + window.pad[axis]) - start).clamp(min=1))
    return sums / (spans[0][:, None] * spans[1]).to(x.dtype)


def stochastic_pool(x: Tensor, window: PoolingWindow, phase: int) -> Tensor:
    """In training one pixel of each window, drawn in proportion to its value; in test their expected value.

    Like the original's GPU code (its CPU code has none). Values are assumed to be non-negative, as after a ReLU.
    """
    height, width = x.shape[2:]
    down, across = window.pooled(height, width)
    batch, channels = x.shape[:2]
    padded = F.pad(x, window.margins(height, width))
    pixels = padded.unfold(2, window.kernel[0], window.stride[0]).unfold(3, window.kernel[1], window.stride[1])
    pixels = pixels.reshape(batch, channels, down, across, -1)
    total = pixels.sum(dim=-1, keepdim=True)
    if phase == TRAIN:
        running = pixels.detach().cumsum(dim=-1)
        threshold = torch.rand_like(total) * running[..., -1:]
        drawn = (running < threshold).sum(dim=-1, keepdim=True).clamp(max=pixels.shape[-1] - 1)
        return pixels.gather(-1, drawn).squeeze(-1)
    tiny = torch.finfo(torch.float32).tiny
    return (pixels.square().sum(dim=-1, keepdim=True) / (total + tiny)).squeeze(-1)


def pool(x: Tensor, window: PoolingWindow, method: int, phase: int) -> Tensor:
    """`x` (N × C × H × W) pooled by one of the three methods."""
    if method == MAX:
        if window.fits_torch(*x.shape[2:]):  # without positions, which would stay in an exported graph
            return F.max_pool2d(x, window.kernel, window.stride, window.pad, ceil_mode=window.ceil)
        return max_pool(x, window)[0]
    return average_pool(x, window) if method == AVE else stochastic_pool(x, window, phase)


class _Pooled(Layer):
    """Checks shared by Pooling and SPP."""

    def check_window(self, window: PoolingWindow, method: int) -> None:
        if min(window.kernel) < 1 or min(window.stride) < 1:
            self.fail(f"kernel {text(window.kernel)} and stride {text(window.stride)} must be positive")
        if max(*window.kernel, *window.stride, *window.pad) >= 1 << 31:
            self.fail(
                f"kernel {text(window.kernel)}, stride {text(window.stride)} or pad {text(window.pad)} is over 2³¹"
            )
        if window.pad != (0, 0):
            if method == STOCHASTIC:
                self.fail("STOCHASTIC pooling does not allow padding; only MAX and AVE do")
            if window.pad[0] >= window.kernel[0] or window.pad[1] >= window.kernel[1]:
                self.fail(f"padding {text(window.pad)} must be smaller than the kernel {text(window.kernel)}")

    def check_image(self, bottom: Sequence[int]) -> None:
        if len(bottom) != 4:
            self.fail(f"needs a bottom of 4 axes (num, channels, height, width), not {text(bottom)}")

    def pooled_shape(self, bottom: Sequence[int], window: PoolingWindow) -> Shape:
        down, across = window.pooled(bottom[2], bottom[3])
        if not window.fits_torch(bottom[2], bottom[3]) and self.memory is not None:
            left, right, above, below = window.margins(bottom[2], bottom[3])
            self.memory.blobs(self, [(*bottom[:2], bottom[2] + above + below, bottom[3] + left + right)], [])
        if down < 1 or across < 1:
            self.fail(f"a kernel of {text(window.kernel)} has no window in an image of {text(bottom[2:])}")
        return (bottom[0], bottom[1], down, across)


@register
class Pooling(_Pooled):
    """MAX, AVE or STOCHASTIC over windows of an image; a second top of MAX holds the positions of the maxima."""

    type_name = "Pooling"
    tops = (1, 2)

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.pooling_param
        if self.num_tops > 1 and param.pool != MAX:
            self.fail("a second top (the mask) is for MAX pooling only")
        has_kernel = param.HasField("kernel_size")
        both = param.HasField("kernel_h") and param.HasField("kernel_w")
        if param.global_pooling:
            if has_kernel or param.HasField("kernel_h") or param.HasField("kernel_w"):
                self.fail("global_pooling takes the whole image; leave the kernel out")
        elif has_kernel == both:
            self.fail("give either kernel_size, or both kernel_h and kernel_w")
        self.window = PoolingWindow(
            kernel=(param.kernel_size,) * 2 if has_kernel else (param.kernel_h, param.kernel_w),
            stride=self._pair("stride"),
            pad=self._pair("pad"),
            ceil=self._rounds_up(),
        )
        if param.global_pooling:
            if self.window.stride != (1, 1) or self.window.pad != (0, 0):
                self.fail("global_pooling allows only stride 1 and pad 0")
        else:
            self.check_window(self.window, param.pool)

    def _rounds_up(self) -> bool:
        """From round_mode (of Caffe after the SSD branch left it) or ceil_mode (of other forks)."""
        param = self.param.pooling_param
        by_mode = param.round_mode == caffe_pb2.PoolingParameter.CEIL
        if not param.HasField("ceil_mode"):
            return bool(by_mode)
        if param.HasField("round_mode") and by_mode != param.ceil_mode:
            self.fail("round_mode and ceil_mode contradict each other; give one of them")
        return bool(param.ceil_mode)

    def _pair(self, field: str) -> tuple[int, int]:
        param = self.param.pooling_param
        given = [param.HasField(f"{field}_h"), param.HasField(f"{field}_w")]
        if any(given) and (not all(given) or param.HasField(field)):
            self.fail(f"give either {field}, or both {field}_h and {field}_w")
        if all(given):
            return getattr(param, f"{field}_h"), getattr(param, f"{field}_w")
        return (getattr(param, field),) * 2

    def _window(self, bottom: Sequence[int]) -> PoolingWindow:
        return PoolingWindow((bottom[2], bottom[3])) if self.param.pooling_param.global_pooling else self.window

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        self.check_image(bottom[0])
        return [self.pooled_shape(bottom[0], self._window(bottom[0]))] * max(self.num_tops, 1)

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        (x,) = bottom
        window = self._window(x.shape)
        if self.num_tops > 1:
            pooled, where = max_pool(x, window)
            return pooled, where.to(x.dtype)
        return pool(x, window, self.param.pooling_param.pool, self.phase)


#: an image of four billion pixels a side
_MOST_LEVELS = 32


@register
class SPP(_Pooled):
    """Spatial pyramid pooling (He et al. 2014): level l pools the image into about 2^l × 2^l bins; all side by side."""

    type_name = "SPP"

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.height = self.param.spp_param.pyramid_height
        if not 1 <= self.height <= _MOST_LEVELS:
            self.fail(f"pyramid_height must be given, from 1 to {_MOST_LEVELS}, not {self.height}")

    def _windows(self, bottom: Sequence[int]) -> list[PoolingWindow]:
        windows = []
        for level in range(self.height):
            bins = 2**level
            kernel = (-(-bottom[2] // bins), -(-bottom[3] // bins))
            pad = ((kernel[0] * bins - bottom[2] + 1) // 2, (kernel[1] * bins - bottom[3] + 1) // 2)
            windows.append(PoolingWindow(kernel, kernel, pad))
        return windows

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        self.check_image(bottom[0])
        shapes = []
        for level, window in enumerate(self._windows(bottom[0])):
            if window.pad[0] >= window.kernel[0] or window.pad[1] >= window.kernel[1]:
                self.fail(f"an image of {text(bottom[0][2:])} is too small for pyramid level {level}")
            self.check_window(window, self.param.spp_param.pool)
            shapes.append(self.pooled_shape(bottom[0], window))
        if self.height == 1:
            return shapes
        return [(bottom[0][0], sum(c * h * w for _, c, h, w in shapes))]

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        levels = [pool(x, window, self.param.spp_param.pool, self.phase) for window in self._windows(x.shape)]
        return levels[0] if self.height == 1 else torch.cat([level.flatten(1) for level in levels], dim=1)
