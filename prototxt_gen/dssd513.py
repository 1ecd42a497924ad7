#!/usr/bin/env python3
"""DSSD with 513 × 513 input: SSD513 with six deconvolution modules, from the smallest map to the largest.

As the authors' ssd_coco_resnet_deconv_513.py writes it, for COCO. They have no script for its last training, nor for
VOC. Here the last training is that of DSSD321, and VOC has COCO's boxes and DSSD321's schedule.
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from prototxt_gen.command_line import main
from prototxt_gen.dssd321 import DSSD321
from prototxt_gen.multibox_head import Head
from prototxt_gen.resnet import DeconvolutionModule
from prototxt_gen.ssd513 import SSD513

DECODER = (
    DeconvolutionModule("9", encoder="res9_relu", kernel=2, stride=1),  # 1 → 2
    DeconvolutionModule("8", encoder="res8_relu", kernel=2, stride=2),  # 2 → 4
    DeconvolutionModule("7", encoder="res7_relu", kernel=2, stride=2),  # 4 → 8
    DeconvolutionModule("6", encoder="res6_relu", kernel=2, stride=2),  # 8 → 16
    DeconvolutionModule("5", encoder="res5c_relu", kernel=2, stride=2),  # 16 → 32
    DeconvolutionModule("3", encoder="res3b3_relu", kernel=2, stride=2),  # 32 → 64
)

DSSD513 = replace(
    SSD513,
    name="DSSD513",
    batch=32,
    decoder=DECODER,
    # Each module's output takes the place of its encoder's blob; the last source is SSD513's. All have 256 channels
    # inside their prediction modules.
    sources=(
        *(
            replace(source, name=module.top, residual=256)
            for source, module in zip(SSD513.sources, reversed(DECODER), strict=False)
        ),
        SSD513.sources[-1],
    ),
    head=Head(postfix="new", before=512),
    schedules=DSSD321.schedules,
    fine_tuning=DSSD321.fine_tuning,
    weights="<a trained SSD513>.caffemodel",
)

if __name__ == "__main__":
    sys.exit(main(DSSD513))
