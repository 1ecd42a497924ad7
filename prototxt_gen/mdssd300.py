#!/usr/bin/env python3
"""MDSSD with 300 × 300 input: SSD300 with the three fusion modules of the paper's Table I.

The paper counts fc6 and fc7 as conv6 and conv7. Its conv8_2, conv9_2, conv10_2 and conv11_2 are `conv6_2`, `conv7_2`,
`conv8_2` and `conv9_2` here: the names in the released SSD weights, from which training starts.
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from prototxt_gen.command_line import main
from prototxt_gen.fusion import Deconv, FusionModule
from prototxt_gen.multibox_head import Source
from prototxt_gen.ssd300 import SSD300

# Table I, 300 × 300. Deep side: [Deconv → Conv 3×3 → ReLU] × 2, then Deconv → Conv 3×3 → L2Norm.
# Shallow side: Conv 3×3 → L2Norm. Fusion: Eltw-sum → ReLU → Conv 3×3 → ReLU.
# The table gives no pads; with these the sizes match, and the first two operations are alike.
MODULE_1 = FusionModule(
    name="module1",
    shallow="conv3_3",  # 75 × 75
    deep="conv6_2",  # conv8_2 in the paper
    twice=Deconv(kernel=2, channels=256),  # 10 → 20 → 40
    third=Deconv(kernel=3, channels=256, pad=3),  # 40 → 75
)
MODULE_2 = FusionModule(
    name="module2",
    shallow="conv4_3",  # 38 × 38
    deep="conv7_2",  # conv9_2 in the paper
    twice=Deconv(kernel=2, channels=256),  # 5 → 10 → 20
    third=Deconv(kernel=2, channels=512, pad=1),  # 20 → 38
)
MODULE_3 = FusionModule(
    name="module3",
    shallow="fc7",  # conv7 in the paper, 19 × 19
    deep="conv8_2",  # conv10_2 in the paper
    twice=Deconv(kernel=2, channels=512),  # 3 → 6 → 12
    third=Deconv(kernel=3, channels=1024, pad=3),  # 12 → 19
)

MDSSD300 = replace(
    SSD300,
    name="MDSSD300",
    modules=(MODULE_1, MODULE_2, MODULE_3),
    # Modules 2 and 3 replace conv4_3 and fc7, Module 1 is added; the other four are SSD's.
    sources=(
        Source("module1", aspect_ratios=(2,), step=4),
        Source("module2", aspect_ratios=(2,), step=8),
        Source("module3", aspect_ratios=(2, 3), step=16),
        *SSD300.sources[2:],
    ),
)

if __name__ == "__main__":
    sys.exit(main(MDSSD300))
