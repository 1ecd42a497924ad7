"""Which convolutions of a net use Winograd's method (caffe/ops/winograd.py) instead of packed weights.

oneDNN, which PyTorch uses otherwise, has no such method for float32 on the CPU. NNPACK only uses AVX2, so it is faster
only for enough tiles and channels. A fixed rule decides, because a choice by measurement could change from one run to
the next, and with it the last digits of the results.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch

from caffe.engine.layer import ConvolutionWindow
from caffe.ops.winograd import nnpack_function

#: the side of a tile of results, in pixels
TILE = 6
#: By the instructions of the processor: the least number of tiles, of input channels and of output channels. Chosen from
#: the grids that `benchmarks/cpu_winograd.py` measures; see docs/cpu_speed.md.
RULES = {"AVX2": (4, 16, 32), "AVX512": (25, 32, 64)}
#: the most memory for the transformed weights of a layer, in bytes: 512 to 1,024 channels
MOST_BYTES = 128 << 20


@cache
def rule() -> tuple[int, int, int] | None:
    """Returns the limits for this processor, as in `RULES`, or None where packed weights are always used."""
    return RULES.get(torch.backends.cpu.get_cpu_capability()) if nnpack_function() else None


def suits(x: Sequence[int], weight: Sequence[int], window: ConvolutionWindow) -> bool:
    """Returns whether the convolution of an N × C × H × W input uses Winograd's method.

    weight: its shape, outputs × channels × height × width.
    """
    limits = rule()
    if limits is None or tuple(weight[2:]) != (3, 3) or window.group != 1:
        return False
    if tuple(window.stride) != (1, 1) or tuple(window.dilation) != (1, 1) or tuple(window.pad) != (1, 1):
        return False
    tiles = -(-x[2] // TILE) * -(-x[3] // TILE)
    outputs, channels = weight[:2]
    if 256 * outputs * channels > MOST_BYTES:  # 8 × 8 numbers for each filter
        return False
    return tiles >= limits[0] and channels >= limits[1] and outputs >= limits[2]
