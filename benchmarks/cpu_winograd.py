"""3 × 3 convolutions with a ReLU on the CPU: Winograd's method (NNPACK) beside weights packed for oneDNN.

For each size of the map and number of channels on both sides, the ratio of the times, Winograd's over packed. These
ratios are where the rule of caffe/engine/winograd.py comes from. Both results are compared before they are timed.
Processor time of one thread is measured, so that other work on the machine matters less. ATEN_CPU_CAPABILITY=avx2
together with ONEDNN_MAX_CPU_ISA=AVX2 shows a processor with AVX-512 as one without.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from report import write_result
from torch import Tensor

from caffe.engine import winograd
from caffe.engine.layer import ConvolutionWindow
from caffe.ops.winograd import WinogradConvolution, nnpack_function

SIDES = (300, 150, 75, 38, 28, 19, 10)
CHANNELS = (8, 16, 32, 64, 128, 256, 512)
#: the largest convolution to measure, in multiply-adds: MDSSD300's largest has 3.3 G
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
def ratio(side: int, channels: int, outputs: int, rounds: int) -> float:
    """Winograd's time over that of packed weights, each the fastest of `rounds` in turn."""
    x = torch.randn(1, channels, side, side)
    weight, bias = torch.randn(outputs, channels, 3, 3) * (channels * 9) ** -0.5, torch.randn(outputs)
    plain = packed(x, weight, bias)
    transformed = WinogradConvolution(x.shape, weight, bias)
    runs = (lambda: transformed(x, True), plain)
    torch.testing.assert_close(runs[0](), runs[1](), rtol=1e-4, atol=1e-4)
    repeat = max(1, int(0.01 / max(1e-4, seconds(plain, 1))))
    times = [[seconds(run, repeat) for run in runs] for _ in range(rounds)]
    first, second = (min(column) for column in zip(*times, strict=True))
    return first / second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4, help="timed rounds of each (default: 4)")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if not nnpack_function():
        raise SystemExit("this build of PyTorch has no NNPACK, or the processor has no AVX2")
    capability = torch.backends.cpu.get_cpu_capability()
    figures: dict[str, Any] = {"what": "3 x 3 convolution and ReLU: Winograd's time / that of packed weights"}
    figures |= {"capability": capability, "rows": "input channels", "columns": ["output channels", *CHANNELS]}
    used: list[float] = []
    for side in SIDES:
        rows: dict[str, list[float | None]] = {}
        for channels in CHANNELS:
            row: list[float | None] = []
            for outputs in CHANNELS:
                if 9.0 * channels * outputs * side * side > MOST:
                    row.append(None)
                    continue
                row.append(round(ratio(side, channels, outputs, args.rounds), 2))
                if winograd.suits((1, channels, side, side), (outputs, channels, 3, 3), WINDOW):
                    used.append(float(row[-1] or 0))
            rows[str(channels)] = row
        figures[f"{side} x {side}"] = rows
    figures["where the rule uses Winograd's method"] = {
        "cases": len(used),
        "slower by over 5 %": sum(value > 1.05 for value in used),
        "lowest, median, highest": [min(used), sorted(used)[len(used) // 2], max(used)] if used else None,
    }
    write_result(f"cpu_winograd_{capability.lower()}", figures)


if __name__ == "__main__":
    main()
