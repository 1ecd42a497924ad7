#!/usr/bin/env python3
"""MDSSD with 512 × 512 input: SSD512 with the three fusion modules of the paper's Table I.

The paper counts fc6 and fc7 as conv6 and conv7. Its conv8_2 … conv12_2 are `conv6_2` … `conv10_2` here: the names in
the released SSD weights, from which training starts.
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from prototxt_gen.command_line import main
from prototxt_gen.fusion import Deconv, FusionModule
from prototxt_gen.multibox_head import Source
from prototxt_gen.ssd512 import SSD512

# Table I, 512 × 512. Deep side: [Deconv → Conv 3×3 → ReLU] × 2, then Deconv → Conv 3×3 → L2Norm.
# Shallow side: Conv 3×3 → L2Norm. Fusion: Eltw-sum → ReLU → Conv 3×3 → ReLU.
MODULE_1 = FusionModule(
    name="module1",
    shallow="conv3_3",  # 128 × 128
    deep="conv6_2",  # conv8_2 in the paper
    twice=Deconv(kernel=2, channels=256),  # 16 → 32 → 64
    third=Deconv(kernel=2, channels=256),  # 64 → 128
)
MODULE_2 = FusionModule(
    name="module2",
    shallow="conv4_3",  # 64 × 64
    deep="conv7_2",  # conv9_2 in the paper
    twice=Deconv(kernel=2, channels=256),  # 8 → 16 → 32
    third=Deconv(kernel=2, channels=512),  # 32 → 64
)
MODULE_3 = FusionModule(
    name="module3",
    shallow="fc7",  # conv7 in the paper, 32 × 32
    deep="conv8_2",  # conv10_2 in the paper
    twice=Deconv(kernel=2, channels=512),  # 4 → 8 → 16
    third=Deconv(kernel=2, channels=1024),  # 16 → 32
)

MDSSD512 = replace(
    SSD512,
    name="MDSSD512",
    modules=(MODULE_1, MODULE_2, MODULE_3),
    # Modules 2 and 3 replace conv4_3 and fc7, Module 1 is added; the other five are SSD's.
    sources=(
        Source("module1", aspect_ratios=(2,), step=4),
        Source("module2", aspect_ratios=(2,), step=8),
        Source("module3", aspect_ratios=(2, 3), step=16),
        *SSD512.sources[2:],
    ),
)

if __name__ == "__main__":
    sys.exit(main(MDSSD512))
