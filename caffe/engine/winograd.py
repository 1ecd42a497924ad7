"""3 × 3 convolutions by Winograd's minimal filtering (Lavin and Gray 2015), for inference on the CPU.

PyTorch's builds for x86 contain NNPACK, which computes tiles of 6 × 6 results with 64 multiplications instead of 324.
oneDNN, which PyTorch uses otherwise, has no such method for float32. NNPACK transforms the weights in every call and
only uses AVX2, so it is faster only for enough tiles and channels. `suits` decides by a fixed rule, because a choice by
measurement could change from one run to the next, and with it the last digits of the results. It is used with one
thread only: NNPACK has threads of its own, for which OpenMP's, spinning after each other layer, leave no core.

The method's rounding errors are larger than those of a direct convolution: up to 2e-5 of the largest result, instead of
4e-7.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe.engine.layer import ConvolutionWindow

#: the side of a tile of results, in pixels
TILE = 6
#: By the instructions of the processor: the least number of tiles, of channels on either side, and of their product.
#: Chosen from the grids that `benchmarks/cpu_winograd.py` measures; see docs/cpu_speed.md.
RULES = {"AVX2": (16, 32, 32 * 32), "AVX512": (49, 64, 64 * 128)}


@cache
def available() -> bool:
    """Returns whether this PyTorch and processor have NNPACK, and initializes it: its operator fails before that."""
    return bool(torch.backends.nnpack.is_available())  # type: ignore[no-untyped-call]


@cache
def rule() -> tuple[int, int, int] | None:
    """Returns the limits for this processor, as in `RULES`, or None where packed weights are always used."""
    return RULES.get(torch.backends.cpu.get_cpu_capability()) if available() else None


def suits(x: Sequence[int], weight: Sequence[int], window: ConvolutionWindow) -> bool:
    """Returns whether the convolution of an N × C × H × W input is computed by `convolution`.

    weight: its shape, outputs × channels × height × width.
    """
    limits = rule() if torch.get_num_threads() == 1 else None
    if limits is None or tuple(weight[2:]) != (3, 3) or window.group != 1:
        return False
    if tuple(window.stride) != (1, 1) or tuple(window.dilation) != (1, 1) or tuple(window.pad) != (1, 1):
        return False
    tiles = -(-x[2] // TILE) * -(-x[3] // TILE)
    outputs, channels = weight[:2]
    return tiles >= limits[0] and min(outputs, channels) >= limits[1] and outputs * channels >= limits[2]


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    """The convolution of a float32 input with 3 × 3 filters, stride 1 and pad 1, perhaps with a ReLU. Has no gradient.

    Images are convolved one by one: for a batch, PyTorch calls another function of NNPACK, which is slower than this.
    """
    images = [x[i : i + 1] for i in range(len(x))]
    tops = [torch.ops.aten._nnpack_spatial_convolution(image, weight, bias, [1, 1], [1, 1]) for image in images]
    top = tops[0] if len(tops) == 1 else torch.cat(tops)
    return F.relu_(top) if relu else top
