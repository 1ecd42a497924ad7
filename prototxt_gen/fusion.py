"""MDSSD's fusion module (paper, section III-C, Fig. 4, Table I): a deep blob, upsampled, is added to a shallow one.

Without its deep side, a module is a control that shows what the deep blob contributes: sources, default boxes and the
layers after the sum are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L
from caffe.net_spec import params as P
from prototxt_gen.layers import Width, convolution, deconvolution, l2norm, relu


@dataclass(frozen=True)
class Deconv:
    """A deconvolution of stride 2 and the 3 × 3 convolution after it, both to `channels`."""

    kernel: int
    channels: int
    pad: int = 0


@dataclass(frozen=True)
class FusionModule:
    """One column pair of Table I. The fused blob has the shallow one's size, and its name is the module's."""

    name: str
    shallow: str
    #: None: without the deep side
    deep: str | None
    #: "[Deconv → Conv → ReLU] × 2"
    twice: Deconv
    #: "Deconv → Conv → L2Norm"
    third: Deconv


def fusion_module(net: NetSpec, module: FusionModule, width: Width) -> None:
    """Adds the module's layers, `<name>_…`, and its output `<name>`."""
    name = module.name
    # A vector of length 20 over fewer channels has larger numbers in each, too large for the layers after it to start
    # learning; this keeps them as large as in the full network.
    scale = 20 if width.fraction == 1 else round(20 * math.sqrt(width.fraction), 3)
    if module.deep is not None:
        _deep_side(net, module, module.deep, width, scale)

    channels = width(module.third.channels)
    convolution(net, f"{name}_shallow", module.shallow, channels, kernel=3, pad=1)
    l2norm(net, f"{name}_shallow_norm", f"{name}_shallow", scale)

    fused = f"{name}_shallow_norm"
    if module.deep is not None:
        fused = f"{name}_sum"
        net[fused] = L.Eltwise(net[f"{name}_shallow_norm"], net[f"{name}_deep_norm"], operation=P.Eltwise.SUM)
    relu(net, f"{name}_sum_relu", fused)
    convolution(net, name, fused, channels, kernel=3, pad=1)
    relu(net, f"{name}_relu", name)


def _deep_side(net: NetSpec, module: FusionModule, bottom: str, width: Width, scale: float) -> None:
    name = module.name
    for step, up in enumerate((module.twice, module.twice, module.third), start=1):
        deconvolution(net, f"{name}_deconv{step}", bottom, width(up.channels), kernel=up.kernel, pad=up.pad, stride=2)
        bottom = f"{name}_conv{step}"
        convolution(net, bottom, f"{name}_deconv{step}", width(up.channels), kernel=3, pad=1)
        if step < 3:
            relu(net, f"{name}_relu{step}", bottom)
    l2norm(net, f"{name}_deep_norm", bottom, scale)
