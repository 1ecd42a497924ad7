#!/usr/bin/env python3
"""SSD with 300 × 300 input: the published SSD300*, from which MDSSD300 is built and fine-tuned."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from prototxt_gen.command_line import main
from prototxt_gen.multibox_head import Source
from prototxt_gen.vgg import Extra, VGGNetwork

SSD300 = VGGNetwork(
    name="SSD300",
    size=300,
    batch=32,
    # A 1 × 1 convolution to `narrow` channels (conv6_1), then one to `wide` channels (conv6_2), and so on.
    extra=(
        Extra("conv6", narrow=256, wide=512, kernel=3, stride=2, pad=1),  # 19 → 10
        Extra("conv7", narrow=128, wide=256, kernel=3, stride=2, pad=1),  # 10 → 5
        Extra("conv8", narrow=128, wide=256, kernel=3, stride=1, pad=0),  # 5 → 3
        Extra("conv9", narrow=128, wide=256, kernel=3, stride=1, pad=0),  # 3 → 1
    ),
    sources=(
        Source("conv4_3", aspect_ratios=(2,), step=8, l2norm=True),
        Source("fc7", aspect_ratios=(2, 3), step=16),
        Source("conv6_2", aspect_ratios=(2, 3), step=32),
        Source("conv7_2", aspect_ratios=(2, 3), step=64),
        Source("conv8_2", aspect_ratios=(2,), step=100),
        Source("conv9_2", aspect_ratios=(2,), step=300),
    ),
)

if __name__ == "__main__":
    sys.exit(main(SSD300))
