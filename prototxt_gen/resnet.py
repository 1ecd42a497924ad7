"""SSD on ResNet-101, and DSSD: the same with a decoder of deconvolution modules (Fu et al. 2017).

Layers have the names of the authors' generators, which released weights depend on. conv5 keeps the size of conv4, with
dilation, as fc6 does in SSD. Where the paper and the code differ, this is the code: the convolution in the middle of a
prediction module is 3 × 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caffe.model_libs.blocks import ConvBNLayer
from caffe.model_libs.resnet import ResBody
from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L
from caffe.net_spec import params as P
from prototxt_gen.layers import Width, deconvolution
from prototxt_gen.network import FINE_TUNING, WHOLE, Network

#: conv2 … conv5: channels inside a block, a quarter of those of its output; stride; dilation; names of the blocks
RESNET101 = (
    (64, 1, 1, ("2a", "2b", "2c")),
    (128, 2, 1, ("3a", *(f"3b{i}" for i in range(1, 4)))),
    (256, 2, 1, ("4a", *(f"4b{i}" for i in range(1, 23)))),
    (512, 1, 2, ("5a", "5b", "5c")),
)
#: channels inside the extra blocks and at their output
EXTRA = (256, 1024)
#: channels of the decoder
DECODER = 512


@dataclass(frozen=True)
class ExtraBlock:
    """A residual block after conv5. The first convolution of both sides, which reduces the size, has this kernel."""

    name: str
    kernel: int
    stride: int


@dataclass(frozen=True)
class DeconvolutionModule:
    """Upsamples the previous module's output (the first: the last extra block's) and multiplies it with `encoder`."""

    name: str
    encoder: str
    kernel: int
    stride: int

    @property
    def top(self) -> str:
        """The blob that it outputs."""
        return f"combined_{self.name}_EltwisePROD_relu"


@dataclass(frozen=True, kw_only=True)
class ResNetNetwork(Network):
    """SSD on ResNet-101, or DSSD if it has deconvolution modules.

    DSSD is trained from a trained SSD in two steps: first with the encoder, SSD's layers, fixed; then all of it, with
    fixed statistics of batch normalization. In the training WHOLE, all layers and statistics learn from the start.
    """

    extra: tuple[ExtraBlock, ...]
    decoder: tuple[DeconvolutionModule, ...] = ()
    weights: str | None = "ResNet-101-model.caffemodel"

    def add_body(self, net: NetSpec, width: Width, training: str) -> None:
        """Adds conv1 to the last extra block, and the decoder."""
        fixed: dict[str, Any] = {}
        if self.decoder and training != WHOLE:
            learned = int(training == FINE_TUNING)
            fixed = dict(lr_mult=learned, decay_mult=learned, use_global_stats=True)
        top = resnet101(net, "data", width, fixed)
        inner, outer = map(width, EXTRA)
        for block in self.extra:
            ResBody(net, top, block.name, inner, inner, outer, block.stride, True, kernel=block.kernel, **fixed)
            top = f"res{block.name}"
        for module in self.decoder:
            top = deconvolution_module(net, top, module, width(DECODER), training == FINE_TUNING)


def resnet101(net: NetSpec, bottom: str, width: Width, fixed: dict[str, Any]) -> str:
    """Adds conv1 … conv5; returns the last blob's name. fixed: further arguments of ConvBNLayer."""
    ConvBNLayer(
        net, bottom, "conv1", True, True, width(64), 7, 3, 2, bn_prefix="bn_", bn_postfix="", scale_prefix="scale_",
        scale_postfix="", **fixed,
    )  # fmt: skip
    net.pool1 = L.Pooling(net.conv1, pool=P.Pooling.MAX, kernel_size=3, stride=2)
    top = "pool1"
    for channels, stride, dilation, names in RESNET101:
        inner, outer = width(channels), width(4 * channels)
        for name in names:
            first = name == names[0]
            ResBody(net, top, name, inner, inner, outer, stride if first else 1, first, dilation, **fixed)
            top = f"res{name}"
    return top


def deconvolution_module(
    net: NetSpec, bottom: str, module: DeconvolutionModule, channels: int, fixed_statistics: bool
) -> str:
    """Adds a deconvolution and a convolution of `bottom`, two convolutions of the encoder's blob, and their product."""
    deconv, encoder = f"deconv_{module.name}", module.encoder
    deconvolution(net, deconv, bottom, channels, kernel=module.kernel, pad=0, stride=module.stride)
    convolutions: Sequence[tuple[str, str, bool]] = (
        (encoder, f"{encoder}_pre1", True),
        (f"{encoder}_pre1", f"{encoder}_pre2", False),
        (deconv, f"{deconv}_pre", False),
    )
    for source, name, relu in convolutions:
        ConvBNLayer(net, source, name, True, relu, channels, 3, 1, 1, use_global_stats=fixed_statistics)
    product = f"combined_{module.name}_EltwisePROD"
    net[product] = L.Eltwise(net[f"{deconv}_pre"], net[f"{encoder}_pre2"], operation=P.Eltwise.PROD)
    net[module.top] = L.ReLU(net[product])
    return module.top
