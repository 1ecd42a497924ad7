"""Which convolutions of a net use Winograd's method (caffe/ops/winograd.py) instead of packed weights.

oneDNN, which PyTorch uses otherwise, has no such method for float32 on the CPU. A fixed rule decides, because a choice by
measurement could change from one run to the next, and with it the last digits of the results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe.engine.layer import ConvolutionWindow
from caffe.ops import winograd


@dataclass(frozen=True)
class Costs:
    """What the parts of a convolution take, in the time of one multiply-add of a matrix product."""

    #: transforming one number, to the product or back
    transform: float
    #: fetching one transformed weight, or one weight of a direct convolution
    weight: float
    #: calling oneDNN
    call: float


#: By the floats in a vector. Chosen from the grids that `benchmarks/cpu_winograd.py` measures; see docs/cpu_speed.md.
COSTS = {8: Costs(transform=15, weight=5, call=1e6), 16: Costs(transform=20, weight=5, call=2e6)}
#: the most memory for the transformed weights of a layer, in bytes
MOST_BYTES = 192 << 20


def tile_for(x: Sequence[int], weight: Sequence[int], window: ConvolutionWindow) -> int | None:
    """Returns the side of the tiles by which an N × C × H × W input is convolved, or None for packed weights.

    weight: its shape, outputs × channels × height × width.
    """
    if not winograd.lanes() or tuple(weight[2:]) != (3, 3) or window.group != 1 or tuple(window.stride) != (1, 1):
        return None
    if window.pad[0] != window.pad[1] or window.dilation[0] != window.dilation[1]:
        return None
    lanes = winograd.lanes()
    costs, (outputs, channels) = COSTS[lanes], weight[:2]
    pad, dilation = window.pad[0], window.dilation[0]
    height, width = (size + 2 * (pad - dilation) for size in x[2:])
    filled = [-(-number // lanes) * lanes for number in (channels, outputs)]  # whole vectors
    best, least = None, 9 * channels * filled[1] * (x[0] * height * width + costs.weight) + costs.call
    for tile in winograd.TILES:
        numbers = winograd.weight_floats(outputs, channels, tile)
        if 4 * numbers > MOST_BYTES:
            continue
        tiles = x[0] * dilation**2
        for size in (height, width):
            tiles *= -(-(-(-size // dilation)) // tile)
        cost = numbers * (tiles + costs.weight) + (tile + 2) ** 2 * tiles * sum(filled) * costs.transform
        if cost < least:
            best, least = tile, cost
    return best
