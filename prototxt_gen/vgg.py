"""SSD and MDSSD: VGG-16 with fc6 and fc7 as convolutions, SSD's extra layers on top, and MDSSD's fusion modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L
from caffe.net_spec import params as P
from prototxt_gen.fusion import FusionModule, fusion_module
from prototxt_gen.layers import Width, convolution, relu
from prototxt_gen.network import Network

#: (channels, convolutions) of conv1 … conv5
VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


@dataclass(frozen=True)
class Extra:
    """Two convolutions after fc7: `<name>_1`, 1 × 1 to `narrow` channels, and `<name>_2`, to `wide` channels."""

    name: str
    narrow: int
    wide: int
    kernel: int
    stride: int
    pad: int


@dataclass(frozen=True, kw_only=True)
class VGGNetwork(Network):
    """SSD, or MDSSD if it has fusion modules."""

    extra: tuple[Extra, ...]
    modules: tuple[FusionModule, ...] = ()
    starts_from_ssd: bool = True

    @property
    def fuses(self) -> bool:
        """Whether it has fusion modules, as MDSSD has."""
        return bool(self.modules)

    def without_deep_sides(self) -> VGGNetwork:
        """Returns the network in which no deep blob is added to a shallow one."""
        return replace(self, modules=tuple(replace(module, deep=None) for module in self.modules))

    def add_body(self, net: NetSpec, width: Width, training: str) -> None:
        """Adds conv1_1 to the last extra layer, and the fusion modules."""
        top = vgg16(net, "data", width)
        extra_layers(net, top, self.extra, width)
        for module in self.modules:
            fusion_module(net, module, width)


def vgg16(net: NetSpec, bottom: str, width: Width) -> str:
    """Adds conv1_1 … fc7, each with its ReLU; returns the last blob's name, `fc7`.

    pool1 to pool4 halve the size, rounding up. pool5 keeps it; the dilation of 6 in fc6 compensates.
    """
    for block, (channels, convolutions) in enumerate(VGG16, start=1):
        for index in range(1, convolutions + 1):
            name = f"conv{block}_{index}"
            convolution(net, name, bottom, width(channels), kernel=3, pad=1)
            relu(net, f"relu{block}_{index}", name)
            bottom = name
        size = dict(kernel_size=2, stride=2) if block < 5 else dict(kernel_size=3, stride=1, pad=1)
        net[f"pool{block}"] = L.Pooling(net[bottom], pool=P.Pooling.MAX, **size)
        bottom = f"pool{block}"
    convolution(net, "fc6", bottom, width(1024), kernel=3, pad=6, dilation=6)
    relu(net, "relu6", "fc6")
    convolution(net, "fc7", "fc6", width(1024), kernel=1)
    relu(net, "relu7", "fc7")
    return "fc7"


def extra_layers(net: NetSpec, bottom: str, extra: Sequence[Extra], width: Width) -> None:
    """Adds SSD's extra layers, each convolution with its ReLU."""
    for block in extra:
        first, second = f"{block.name}_1", f"{block.name}_2"
        convolution(net, first, bottom, width(block.narrow), kernel=1)
        relu(net, f"{first}_relu", first)
        convolution(net, second, first, width(block.wide), kernel=block.kernel, stride=block.stride, pad=block.pad)
        relu(net, f"{second}_relu", second)
        bottom = second
