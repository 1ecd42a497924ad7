"""Depthwise convolutions under the names of the repositories that made them fast.

DepthwiseConvolution (yonghenglh6) is a Convolution whose author wrote kernels for one channel per group; it reads
`group` like a Convolution. ConvolutionDepthwise takes every channel by itself.
"""

from __future__ import annotations

from caffe.engine.layer import ConvolutionWindow, register
from caffe.engine.layer_types.convolution import Convolution


class _Grouped(Convolution):
    """A Convolution in all but its name, so that what makes one faster applies."""

    def as_convolution(self) -> ConvolutionWindow | None:
        return self.plain_window()


@register
class DepthwiseConvolution(_Grouped):
    """A Convolution, usually with as many groups as channels. Blobs: weight num_output × channels/group × kernel, bias."""

    type_name = "DepthwiseConvolution"


@register
class ConvolutionDepthwise(_Grouped):
    """A Convolution of each channel by itself. Blobs: weight channels × 1 × kernel, bias channels.

    As in its repository, the top has the bottom's channels, whatever num_output and group say.
    """

    type_name = "ConvolutionDepthwise"

    def outputs_and_groups(self, channels: int) -> tuple[int, int]:
        return channels, channels
