#!/usr/bin/env python3
"""DSSD with 321 × 321 input: SSD321 with five deconvolution modules, from the smallest map to the largest.

As the authors' ssd_pascal_resnet_deconv_321.py and …_ft_321.py write its two trainings, for VOC. They have no script for
COCO at this size. Here it has VOC's boxes, and the schedule of DSSD513. scripts/train_dssd.sh runs all three trainings,
the first of which is SSD321's.
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from prototxt_gen.command_line import main
from prototxt_gen.multibox_head import Head
from prototxt_gen.network import Schedule
from prototxt_gen.resnet import DeconvolutionModule
from prototxt_gen.ssd321 import SSD321

DECODER = (
    DeconvolutionModule("8", encoder="res8_relu", kernel=3, stride=1),  # 1 → 3
    DeconvolutionModule("7", encoder="res7_relu", kernel=3, stride=1),  # 3 → 5
    DeconvolutionModule("6", encoder="res6_relu", kernel=2, stride=2),  # 5 → 10
    DeconvolutionModule("5", encoder="res5c_relu", kernel=2, stride=2),  # 10 → 20
    DeconvolutionModule("3", encoder="res3b3_relu", kernel=2, stride=2),  # 20 → 40
)

DSSD321 = replace(
    SSD321,
    name="DSSD321",
    decoder=DECODER,
    # Each module's output takes the place of its encoder's blob; the last source is SSD321's.
    sources=(
        *(replace(source, name=module.top) for source, module in zip(SSD321.sources, reversed(DECODER), strict=False)),
        SSD321.sources[-1],
    ),
    # SSD321's weights have other prediction layers, so these have other names.
    head=Head(postfix="new"),
    schedules={
        "voc": Schedule(0.001, 30_000, (20_000,)),
        "coco": Schedule(0.001, 150_000, (80_000, 130_000)),
    },
    fine_tuning={
        "voc": Schedule(0.0001, 40_000, (20_000,)),
        "coco": Schedule(0.0001, 40_000, (20_000,)),
    },
    weights="<a trained SSD321>.caffemodel",
)

if __name__ == "__main__":
    sys.exit(main(DSSD321))
