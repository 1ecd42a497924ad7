"""DSOD: dense blocks, with every source a concatenation, trained without weights to start from (Shen et al. 2017).

Most layers have no names in the authors' generator, which numbers them by type in the order of their use. The same
happens here, so that released weights load.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L
from caffe.net_spec import params as P
from prototxt_gen.layers import Width
from prototxt_gen.network import Network

XAVIER: dict[str, Any] = {"bias_term": False, "weight_filler": dict(type="xavier")}
#: batch normalization keeps its statistics itself
STATISTICS = [dict(lr_mult=0, decay_mult=0)] * 3


@dataclass(frozen=True, kw_only=True)
class DenseNetwork(Network):
    """DSOD. Its sources are First, Second, and so on."""

    #: channels of the three convolutions at the input
    stem: tuple[int, int, int]
    #: layers of the dense blocks
    blocks: tuple[int, int, int, int]
    #: channels that a layer of a block adds
    growth: int
    #: channels of each of the two halves of Second
    second: int
    #: the further sources: names, and channels of each of their two halves
    extra: tuple[tuple[str, int], ...]
    weights: str | None = None

    def add_body(self, net: NetSpec, width: Width, training: str) -> None:
        """Adds the stem to the last source."""
        growth = width(self.growth)
        top = net.data
        for index, channels in enumerate(self.stem):
            top = activation(L.Convolution(top, num_output=width(channels), **_size(3, 1, 1 if index else 2), **XAVIER))
        channels = width(self.stem[-1])
        top = pooling(top)
        for index, layers in enumerate(self.blocks):
            for _ in range(layers):
                top = dense_layer(top, growth)
            channels += layers * growth
            # A transition keeps the number of channels, except the last one, of which Second is made.
            top = bn_convolution(top, channels if index < 3 else width(self.second), 1, in_place=False)
            if index == 0:
                top = pooling(top)
            elif index == 1:
                net.First = top
                top = pooling(top)
        shortcut = bn_convolution(pooling(net.First), width(self.second), 1)
        net.Second = top = L.Concat(top, shortcut, axis=1)
        for name, half in self.extra:
            net[name] = top = downsampling(top, width(half))


def activation(bottom: Any, in_place: bool = True) -> Any:
    """Batch normalization, scale and ReLU. in_place: whether the ReLU overwrites its input, as the scale does."""
    normalized = L.BatchNorm(bottom, in_place=False, param=STATISTICS)
    scaled = L.Scale(normalized, bias_term=True, in_place=True, filler=dict(value=1), bias_filler=dict(value=0))
    return L.ReLU(scaled, in_place=in_place)


def bn_convolution(bottom: Any, channels: int, kernel: int, stride: int = 1, in_place: bool = True) -> Any:
    """An activation and a convolution after it."""
    return L.Convolution(
        activation(bottom, in_place), num_output=channels, **_size(kernel, kernel // 2, stride), **XAVIER
    )


def dense_layer(bottom: Any, growth: int) -> Any:
    """Adds `growth` channels to `bottom`: a 1 × 1 convolution to four times as many, and a 3 × 3 convolution."""
    return L.Concat(bottom, bn_convolution(bn_convolution(bottom, 4 * growth, 1), growth, 3), axis=1)


def downsampling(bottom: Any, half: int) -> Any:
    """Halves the size: one half of the channels by pooling and a 1 × 1 convolution, the other by convolutions."""
    pooled = bn_convolution(pooling(bottom), half, 1)
    return L.Concat(pooled, bn_convolution(bn_convolution(bottom, half, 1), half, 3, stride=2), axis=1)


def pooling(bottom: Any) -> Any:
    """The maximum of 2 × 2, which halves the size, rounding up."""
    return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=2, stride=2)


def _size(kernel: int, pad: int, stride: int) -> dict[str, int]:
    return dict(kernel_size=kernel, pad=pad, stride=stride)
