#!/usr/bin/env python3
"""SSD with 512 × 512 input: the published SSD512*, from which MDSSD512 is built and fine-tuned."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from prototxt_gen.command_line import main
from prototxt_gen.multibox_head import Source
from prototxt_gen.vgg import Extra, VGGNetwork

SSD512 = VGGNetwork(
    name="SSD512",
    size=512,
    batch=16,
    # A 1 × 1 convolution to `narrow` channels (conv6_1), then one to `wide` channels (conv6_2), and so on.
    extra=(
        Extra("conv6", narrow=256, wide=512, kernel=3, stride=2, pad=1),  # 32 → 16
        Extra("conv7", narrow=128, wide=256, kernel=3, stride=2, pad=1),  # 16 → 8
        Extra("conv8", narrow=128, wide=256, kernel=3, stride=2, pad=1),  # 8 → 4
        Extra("conv9", narrow=128, wide=256, kernel=3, stride=2, pad=1),  # 4 → 2
        Extra("conv10", narrow=128, wide=256, kernel=4, stride=1, pad=1),  # 2 → 1
    ),
    sources=(
        Source("conv4_3", aspect_ratios=(2,), step=8, l2norm=True),
        Source("fc7", aspect_ratios=(2, 3), step=16),
        Source("conv6_2", aspect_ratios=(2, 3), step=32),
        Source("conv7_2", aspect_ratios=(2, 3), step=64),
        Source("conv8_2", aspect_ratios=(2, 3), step=128),
        Source("conv9_2", aspect_ratios=(2,), step=256),
        Source("conv10_2", aspect_ratios=(2,), step=512),
    ),
)

if __name__ == "__main__":
    sys.exit(main(SSD512))
