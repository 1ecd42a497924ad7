#!/usr/bin/env python3
"""SSD on ResNet-101 with 513 × 513 input: the baseline of DSSD513, and the weights that its training starts from.

As the DSSD authors' ssd_coco_resnet_513.py writes it. They have no script for VOC at this size. Here it has COCO's
boxes, and the schedule of SSD321.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from prototxt_gen.command_line import main
from prototxt_gen.multibox_head import Source
from prototxt_gen.resnet import ExtraBlock, ResNetNetwork
from prototxt_gen.ssd321 import RATIOS, SSD321

SSD513 = ResNetNetwork(
    name="SSD513",
    size=513,
    batch=40,
    extra=(
        ExtraBlock("6", kernel=2, stride=2),  # 32 → 16
        ExtraBlock("7", kernel=2, stride=2),  # 16 → 8
        ExtraBlock("8", kernel=2, stride=2),  # 8 → 4
        ExtraBlock("9", kernel=2, stride=2),  # 4 → 2
        ExtraBlock("10", kernel=2, stride=2),  # 2 → 1
    ),
    # The authors write the center of the first cell, in pixels, as the offset, which PriorBox counts in steps.
    sources=(
        Source("res3b3_relu", RATIOS, step=8, residual=128, kernel=5, offset=2.5),
        Source("res5c_relu", RATIOS, step=16, residual=512, kernel=5, offset=2.5),
        Source("res6_relu", RATIOS, step=32, residual=256, offset=10.5),
        Source("res7_relu", RATIOS, step=64, residual=256, offset=26.5),
        Source("res8_relu", RATIOS, step=128, residual=256, offset=58.5),
        Source("res9_relu", RATIOS, step=256, residual=256, offset=122.5),
        Source("res10_relu", RATIOS, step=513, residual=256, offset=256.5),
    ),
    schedules=SSD321.schedules,
)

if __name__ == "__main__":
    sys.exit(main(SSD513))
