#!/usr/bin/env python3
"""SSD on ResNet-101 with 321 × 321 input: the baseline of DSSD321, and the weights that its training starts from.

As the DSSD authors' ssd_pascal_resnet_321.py writes it. They have no script for COCO at this size. Here it has VOC's
boxes and SSD513's schedule.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from prototxt_gen.command_line import main
from prototxt_gen.multibox_head import Source
from prototxt_gen.network import Schedule
from prototxt_gen.resnet import ExtraBlock, ResNetNetwork

#: of k-means over the training boxes' shapes (DSSD, section 3)
RATIOS = (1.6, 2, 3)

SSD321 = ResNetNetwork(
    name="SSD321",
    size=321,
    batch=32,
    extra=(
        ExtraBlock("6", kernel=2, stride=2),  # 20 → 10
        ExtraBlock("7", kernel=2, stride=2),  # 10 → 5
        ExtraBlock("8", kernel=3, stride=1),  # 5 → 3
        ExtraBlock("9", kernel=3, stride=1),  # 3 → 1
    ),
    # The authors write the center of the first cell, in pixels, as the offset, which PriorBox counts in steps.
    sources=(
        Source("res3b3_relu", RATIOS, step=8, residual=256, kernel=5, offset=2.5),
        Source("res5c_relu", RATIOS, step=16, residual=256, kernel=5, offset=2.5),
        Source("res6_relu", RATIOS, step=32, residual=256, offset=10.5),
        Source("res7_relu", RATIOS, step=64, residual=256, offset=26.5),
        Source("res8_relu", RATIOS, step=64, residual=256, offset=90.5),
        Source("res9_relu", RATIOS, step=321, residual=256, offset=160.5),
    ),
    schedules={
        "voc": Schedule(0.001, 80_000, (40_000, 60_000)),
        "coco": Schedule(0.001, 250_000, (130_000, 210_000)),
    },
)

if __name__ == "__main__":
    sys.exit(main(SSD321))
