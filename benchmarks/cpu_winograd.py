"""3 × 3 convolutions with a ReLU on the CPU: Winograd's method beside weights packed for oneDNN.

For each size of the map and number of channels on both sides, the time over that of packed weights, with tiles of 4 × 4
and of 6 × 6. The costs of caffe/engine/winograd.py are chosen so that its rule takes the fastest. All results are
compared before they are timed. Processor time of one thread is measured, so that other work matters less.
ATEN_CPU_CAPABILITY=avx2 together with ONEDNN_MAX_CPU_ISA=AVX2 shows a processor with AVX-512 as one without.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from report import write_result
from torch import Tensor

from caffe.data.feed.memory import keep_freed_memory
from caffe.engine import winograd
from caffe.engine.layer import ConvolutionWindow
from caffe.ops.winograd import TILES, WinogradConvolution, lanes

SIDES = (300, 150, 75, 38, 19, 10, 5)
CHANNELS = (8, 16, 32, 64, 128, 256, 512, 1024)
#: the largest convolution to measure, in multiply-adds: MDSSD300's largest has 3.4 G
MOST = 4e9
WINDOW = ConvolutionWindow((1, 1), (1, 1), (1, 1), 1)


def packed(x: Tensor, weight: Tensor, bias: Tensor) -> Callable[[], Tensor]:
    """The convolution as PackedConvolution runs it where Winograd's method does not suit."""
    window = [1, 1], [1, 1], [1, 1], 1
    laid_out = torch.ops.mkldnn._reorder_convolution_weight(weight, *window, list(x.shape))
    return lambda: torch.ops.mkldnn._convolution_pointwise(x, laid_out, bias, *window, "relu", [], "")


def seconds(run: Callable[[], object], repeat: int) -> float:
    """Processor time of `repeat` calls."""
    start = time.process_time()
    for _ in range(repeat):
        run()
    return time.process_time() - start


@torch.inference_mode()
def ratios(side: int, channels: int, outputs: int, rounds: int) -> list[float]:
    """The time for each of TILES over that of packed weights, each the fastest of `rounds` in turn."""
    x = torch.randn(1, channels, side, side).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(outputs, channels, 3, 3) * (channels * 9) ** -0.5, torch.randn(outputs)
    plain = packed(x, weight, bias)
    convolutions = [WinogradConvolution(weight, bias, tile) for tile in TILES]
    runs = [plain, *(lambda convolution=convolution: convolution(x, True) for convolution in convolutions)]
    for run in runs[1:]:
        torch.testing.assert_close(run(), plain(), rtol=0, atol=1e-4 * float(plain().max()))
    repeat = max(1, int(0.01 / max(1e-4, seconds(plain, 1))))
    times = [[seconds(run, repeat) for run in runs] for _ in range(rounds)]
    first, *others = (min(column) for column in zip(*times, strict=True))
    return [round(other / first, 2) for other in others]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4, help="timed rounds of each (default: 4)")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    keep_freed_memory()  # getting pages from the system would take as long as some convolutions
    if not lanes():
        raise SystemExit("this processor has neither AVX2 nor AVX-512")
    capability = torch.backends.cpu.get_cpu_capability()
    figures: dict[str, Any] = {
        "what": "3 x 3 convolution and ReLU: the time with tiles of 4 x 4 and of 6 x 6 / that of packed weights",
        "capability": capability,
        "rows": "input channels",
        "columns": ["output channels", *CHANNELS],
    }
    used: list[float] = []
    losses: list[float] = []  # the rule's time over that of the fastest
    for side in SIDES:
        tables: list[dict[str, list[float | None]]] = [{} for _ in TILES]
        for channels in CHANNELS:
            columns: list[list[float | None]] = []
            for outputs in CHANNELS:
                if 9.0 * channels * outputs * side * side > MOST:
                    columns.append([None] * len(TILES))
                    continue
                found = ratios(side, channels, outputs, args.rounds)
                columns.append([*found])
                tile = winograd.tile_for((1, channels, side, side), (outputs, channels, 3, 3), WINDOW)
                chosen = 1.0 if tile is None else found[TILES.index(tile)]
                losses.append(chosen / min(1.0, *found))
                if tile is not None:
                    used.append(chosen)
            for table, row in zip(tables, zip(*columns, strict=True), strict=True):
                table[str(channels)] = list(row)
        for tile, table in zip(TILES, tables, strict=True):
            figures[f"{side} x {side}, tiles of {tile} x {tile}"] = table
    figures["where the rule uses Winograd's method"] = {
        "cases": len(used),
        "slower by over 5 %": sum(value > 1.05 for value in used),
        "lowest, median, highest": [min(used), sorted(used)[len(used) // 2], max(used)] if used else None,
    }
    figures["the rule's choice / the fastest"] = {
        "cases": len(losses),
        "slower by over 10 %": sum(value > 1.1 for value in losses),
        "mean, highest": [round(sum(losses) / len(losses), 3), round(max(losses), 2)],
    }
    write_result(f"cpu_winograd_{capability.lower()}", figures)


if __name__ == "__main__":
    main()
