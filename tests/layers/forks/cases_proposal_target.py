"""ProposalTarget and BboxAccuracy: cases for the tests of every type, no items, and settings that are refused."""

from __future__ import annotations

import numpy as np

from tests.layer_harness import Array, Bottom, Case, Shape, labels
from tests.layers.forks.cases_mscnn import NORMALIZED
from tests.reference import forks, mscnn_training


def draw_regions(rng: np.random.Generator, shape: Shape) -> Array:
    """Of two images, mostly within 50 × 50 pixels; the last one ends before it begins."""
    rows = np.zeros((shape[0], 5))
    rows[:, 0] = np.arange(shape[0]) % 2
    rows[:, 1:3] = rng.uniform(0, 25, (shape[0], 2))
    rows[:, 3:] = rows[:, 1:3] + rng.uniform(12, 40, (shape[0], 2))
    rows[-1:, 3:] = rows[-1:, 1:3] - 5
    return rows.reshape(shape)


def draw_objects(rng: np.random.Generator, shape: Shape) -> Array:
    """Of the same images, with labels 1 and 2; the second is ignored, the last one in Cascade R-CNN's rows is no object."""
    rows = np.zeros((shape[0], shape[1]))
    rows[:, 0] = np.arange(shape[0]) // 3 % 2
    rows[:, 1:3] = rng.uniform(0, 15, (shape[0], 2))
    rows[:, 3:5] = rows[:, 1:3] + rng.uniform(15, 35, (shape[0], 2))
    rows[:, 5] = 1 + np.arange(shape[0]) % 2
    rows[1:2, 6] = 1
    if shape[1] == 8:
        rows[-1:] = -1
    return rows.reshape(shape)


def draw_matches(rng: np.random.Generator, shape: Shape) -> Array:
    """Objects of the regions above: labels 0, 1 and 2, and one that is its region."""
    rows = draw_regions(rng, (shape[0], 5))
    rows[:, 0] = np.arange(shape[0]) % 3
    rows[-1:, 3:] = rows[-1:, 1:3] + 20
    fit = rng.uniform(0.3, 0.9, (shape[0], 1))
    fit[4:5] = 0.98
    return np.concatenate([rows, fit], axis=1).reshape(shape)


def zero_or_one(rng: np.random.Generator, shape: Shape) -> Array:
    return rng.integers(0, 2, shape).astype(float)


REGIONS = Bottom((24, 5, 1, 1), draw_regions, smooth=False)
OBJECTS = Bottom((6, 8, 1, 1), draw_objects, smooth=False)
MSCNN_OBJECTS = Bottom((5, 7), draw_objects, smooth=False)
TARGET = "proposal_target_param { cls_num: 3 num_img_per_batch: 2 %s }"
AGNOSTIC = " bbox_reg_param { cls_aware: false }"
TWO: list[Shape] = [(2, 5), (2, 7)]
FEWER: list[Shape] = [(7, 5, 1, 1), (4, 8, 1, 1)]

CASES = [
    *(
        Case("ProposalTarget", TARGET % options + more, [REGIONS, OBJECTS], mscnn_training.proposal_target, tops, resized=FEWER)
        for options, more, tops in (
            ("batch_size: -1", "", 6),
            ("batch_size: -1 bg_thr_lw: 0 iou_weighted: true", NORMALIZED, 7),
            ("batch_size: -1 fg_thr: 0.6 bg_thr_hg: 0.4 bbox_thr_lw: 0.65 bbox_thr_hg: 0.95", AGNOSTIC, 7),
            ("batch_size: 26 fg_fraction: 0.8", "", 7),
            ("batch_size: 500 fg_fraction: 0.5 pickup_discard: false append_gtbox: false", "", 6),
        )
    ),
    Case("ProposalTarget", TARGET % "batch_size: -1", [REGIONS, MSCNN_OBJECTS], mscnn_training.proposal_target, 7,
         resized=[(9, 5), (3, 7)]),
    Case("SoftmaxWithLoss", "loss_param { ignore_label: 1 }", [Bottom((6, 3)), labels(6, classes=3)],
         forks.softmax_loss_ohem, 3),
    *(
        Case("SmoothL1Loss", "", [Bottom(shape)] * 2 + [Bottom(shape, zero_or_one, smooth=False)] * 2,
             mscnn_training.smooth_l1_loss, 2)
        for shape in ((4, 8), (2, 3, 2, 4))
    ),
    *(
        Case("HardMining", f"hard_mining_param {{ {options} }}", [
            Bottom((14, 1, 1, 1), lambda rng, s: rng.integers(0, 6, s).astype(float), smooth=False),
            Bottom((14, 5), draw_regions, smooth=False), Bottom((14, 3, 2), smooth=False)],
            mscnn_training.hard_mining, 2, resized=[(5, 1, 1, 1), (5, 5), (5, 3, 2)])
        for options in ("num_roi_per_image: 3 num_image: 2", "num_roi_per_image: 3 num_image: 4", "")
    ),
    *(
        Case("BboxAccuracy", text, [Bottom((9, width), lambda rng, s: 0.3 * rng.normal(size=s), smooth=False),
             Bottom((9, 5), draw_regions, smooth=False), Bottom((9, 6, 1, 1), draw_matches, smooth=False)],
             mscnn_training.bbox_accuracy, tops, resized=[(2, width), (2, 5), (2, 6, 1, 1)])
        for text, width, tops in (("", 12, 2), (NORMALIZED, 12, 1), (AGNOSTIC, 8, 2))
    ),
]  # fmt: skip

EMPTY: list[tuple[str, str, list[Shape], Shape]] = [
    ("ProposalTarget", TARGET % "batch_size: -1", [(0, 5, 1, 1), (0, 7, 1, 1)], (1, 5, 1, 1)),
    ("ProposalTarget", TARGET % "batch_size: 3", [(0, 5, 1, 1), (0, 7, 1, 1)], (3, 5, 1, 1)),
    ("ProposalTarget", TARGET % "batch_size: 3", [(0, 5, 1, 1), (0, 8, 1, 1)], (1, 5, 1, 1)),
    ("BboxAccuracy", "", [(0, 8), (0, 5), (0, 6)], (1, 1, 1, 1)),
    ("HardMining", "", [(0,), (0, 5)], (0, 5, 1, 1)),
]

BAD: list[tuple[str, str, list[Shape], str]] = [
    *(
        ("ProposalTarget", (TARGET % options).replace("cls_num: 3", classes), TWO, message)
        for options, classes, message in (
            ("", "", "needs a cls_num of at least 2 .the background counts., not 0"),
            ("batch_size: 0", "cls_num: 3", "batch_size must be positive, or -1 for all regions, not 0"),
            ("fg_fraction: 1.5", "cls_num: 3", "fg_fraction is 1.5; it must be from 0 to 1"),
            ("fg_thr: 0.4", "cls_num: 3", "fg_thr must be positive and at least bg_thr_hg; found 0.4 and 0.5"),
            ("fg_thr: 0 bg_thr_hg: 0", "cls_num: 3", "found 0 and 0"),
        )
    ),
    ("ProposalTarget", TARGET.replace("batch: 2", "batch: 0") % "", [(2, 5), (2, 7)], "num_img_per_batch must be at"),
    ("ProposalTarget", TARGET % "", [(2, 6), (2, 7)], "'b0' is 2×6; it must have rows of 5 values"),
    ("ProposalTarget", TARGET % "", [(2, 5), (2, 6)], "'b1' is 2×6; it must have rows of 7 or 8 values"),
    ("ProposalTarget", TARGET % "" + NORMALIZED.replace("0.1,", "0,"), [(2, 5), (2, 7)], "bbox_std must be positive"),
    ("HardMining", "hard_mining_param { num_image: 0 }", [(2,), (2, 5)], "must be positive, not 128 and 0"),
    ("HardMining", "", [(2,), (2, 5), (2, 3)], "needs a top for each bottom but the first, 2; it has 1"),
    ("HardMining", "", [(2, 2), (2, 5)], "'b0' is 2×2; it must be 2×1"),
    ("HardMining", "", [(2,), (3, 5)], "'b1' is 3×5; it must be 2×5"),
    ("BboxAccuracy", "", [(2, 10), (2, 5), (2, 6)], "'b0' is 2×10; it must be 2×4·classes"),
    ("BboxAccuracy", AGNOSTIC, [(2, 12), (2, 5), (2, 6)], "'b0' is 2×12; it must be 2×8"),
    ("BboxAccuracy", "", [(2, 8), (2, 5), (2, 5)], "'b2' is 2×5; it must be 2×6"),
    ("BboxAccuracy", "", [(2, 8), (3, 5), (2, 6)], "'b0' is 2×8; it must be 3×4·classes"),
]
