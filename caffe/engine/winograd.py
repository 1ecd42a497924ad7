"""Which convolutions of a net use Winograd's method (caffe/ops/winograd.py) instead of packed weights.

oneDNN, which PyTorch uses otherwise, has no such method for float32 on the CPU. A fixed rule decides, because a choice
by measurement could change from one run to the next, and with it the last digits of the results.
"""

from __future__ import annotations

from collections.abc import Sequence

from caffe.engine.layer import ConvolutionWindow
from caffe.ops import winograd

#: The costs of transforming a number, of fetching a weight, and of calling oneDNN, in the time of one multiply-add of a
#: large matrix product. Chosen from the grids that `benchmarks/cpu_winograd.py` measures; see docs/cpu_speed.md.
TRANSFORM, WEIGHT, CALL = 15.0, 5.0, 2e6
#: By the side of a tile: the most memory for the transformed weights of a layer, in bytes. Tiles of 6 × 6 need almost
#: twice that of 4 × 4, and where weights are so many they save only a tenth of the time.
MOST_BYTES = {4: 192 << 20, 6: 48 << 20}


def tile_for(x: Sequence[int], weight: Sequence[int], window: ConvolutionWindow) -> int | None:
    """Returns the side of the tiles by which an N × C × H × W input is convolved, or None for packed weights.

    weight: its shape, outputs × channels × height × width. It is the choice for one image: others in the batch
    then change no result, and weights are not transformed again for a last, smaller batch.
    """
    vector = winograd.lanes()
    if not vector or tuple(weight[2:]) != (3, 3) or window.group != 1 or tuple(window.stride) != (1, 1):
        return None
    if window.pad[0] != window.pad[1] or window.dilation[0] != window.dilation[1]:
        return None
    outputs, channels = weight[:2]
    pad, dilation = window.pad[0], window.dilation[0]
    height, width = (size + 2 * (pad - dilation) for size in x[2:])
    filled = [_parts(number, vector) * vector for number in (channels, outputs)]  # whole vectors
    best, least = None, 9 * channels * filled[1] * (height * width + WEIGHT) + CALL
    for tile in winograd.TILES:
        numbers = winograd.weight_floats(outputs, channels, tile)
        if 4 * numbers > MOST_BYTES[tile]:
            continue
        down, across = (dilation * _parts(_parts(size, dilation), tile) for size in (height, width))
        tiles = down * across
        cost = numbers * (tiles + WEIGHT) + (tile + 2) ** 2 * tiles * sum(filled) * TRANSFORM
        if cost < least:
            best, least = tile, cost
    return best


def _parts(length: int, size: int) -> int:
    """How many parts of a size cover a length."""
    return -(-length // size)
