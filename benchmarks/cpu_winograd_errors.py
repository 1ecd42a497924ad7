"""Rounding errors of 3 × 3 convolutions on the CPU: Winograd's method beside a direct convolution, in float32.

Inputs and weights are normal, the inputs also after a ReLU. Errors are relative to the largest result of a convolution
in float64: the largest, and the root of their mean square.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from report import write_result

from caffe.ops.winograd import TILES, WinogradConvolution, lanes

CHANNELS = (64, 256, 1024)
OUTPUTS, SIDE, ROUNDS = 128, 36, 4


@torch.inference_mode()
def main() -> None:
    if not lanes():
        raise SystemExit("this processor has neither AVX2 nor AVX-512")
    torch.manual_seed(0)
    figures: dict[str, Any] = {"what": "largest error, root of the mean square; relative to the largest result"}
    for channels in CHANNELS:
        errors: dict[str, list[torch.Tensor]] = {}
        for relu, _ in product((False, True), range(ROUNDS)):
            x, weight = torch.randn(1, channels, SIDE, SIDE), torch.randn(OUTPUTS, channels, 3, 3)
            x = x.relu() if relu else x
            exact = F.conv2d(x.double(), weight.double(), padding=1)
            results = {f"tiles of {tile} x {tile}": WinogradConvolution(weight, None, tile)(x) for tile in TILES}
            for name, result in ({"direct": F.conv2d(x, weight, padding=1)} | results).items():
                errors.setdefault(name, []).append((result - exact) / exact.abs().max())
        figures[f"{channels} channels"] = {
            name: [f"{value:.1e}" for value in (all_.abs().max(), all_.square().mean().sqrt())]
            for name, all_ in ((name, torch.stack(parts)) for name, parts in errors.items())
        }
    write_result("cpu_winograd_errors", figures)


if __name__ == "__main__":
    main()
