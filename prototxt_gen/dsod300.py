#!/usr/bin/env python3
"""DSOD with 300 × 300 input: a detector that is trained from random numbers, as its authors' DSOD300_pascal.py writes it."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from prototxt_gen.command_line import main
from prototxt_gen.dense import DenseNetwork
from prototxt_gen.multibox_head import Head, Source
from prototxt_gen.network import Schedule

DSOD300 = DenseNetwork(
    name="DSOD300",
    size=300,
    batch=128,
    images_per_gpu=32,
    stem=(64, 64, 128),
    blocks=(6, 8, 8, 8),
    growth=48,
    second=256,
    extra=(("Third", 256), ("Fourth", 128), ("Fifth", 128), ("Sixth", 128)),
    sources=(
        Source("First", aspect_ratios=(2,), step=8, l2norm=True),  # 38 × 38
        Source("Second", aspect_ratios=(2, 3), step=16, l2norm=True),  # 19 × 19
        Source("Third", aspect_ratios=(2, 3), step=32, l2norm=True),  # 10 × 10
        Source("Fourth", aspect_ratios=(2, 3), step=64, l2norm=True),  # 5 × 5
        Source("Fifth", aspect_ratios=(2,), step=100, l2norm=True),  # 3 × 3
        Source("Sixth", aspect_ratios=(2,), step=300, l2norm=True),  # 2 × 2
    ),
    head=Head(batch_norm=True),
    schedules={
        "voc": Schedule(0.1, 100_000, (20_000, 40_000, 60_000, 80_000, 100_000)),
        "coco": Schedule(0.1, 320_000, (80_000, 140_000, 200_000, 260_000, 320_000)),
    },
)

if __name__ == "__main__":
    sys.exit(main(DSOD300))
