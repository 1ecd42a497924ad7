"""R-CNN's and R-FCN's layers: cases for the tests of every type, bottoms of no items, and settings that are refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.layer_harness import Bottom, Case, Shape, constant, labels
from tests.reference import forks, losses

B = Bottom
MAP = B((2, 4, 7, 9))
REGIONS = Bottom(
    (6, 5),
    lambda rng, s: np.concatenate([rng.integers(0, 2, (s[0], 1)), rng.uniform(-8, 24, (s[0], 4))], 1)[:, : s[1]],
    smooth=False,
)
REGIONS_OF_4_AXES = Bottom((6, 5, 1, 1), lambda rng, s: REGIONS.values(rng, s[:2]).reshape(s), smooth=False)
LOSSES = Bottom((8, 1), lambda rng, s: rng.uniform(0, 3, s), smooth=False)
SIDES = Bottom(
    (8, 5), lambda rng, s: np.concatenate([rng.integers(0, 3, (s[0], 1)), rng.normal(size=(s[0], 4))], 1), smooth=False
)
LABELS = Bottom((8, 1), lambda rng, s: rng.integers(0, 4, s).astype(float), smooth=False)
WEIGHTS = Bottom((8, 6), lambda rng, s: rng.integers(0, 2, s).astype(float), smooth=False)
FACTORS = Bottom((3, 4), lambda rng, s: rng.uniform(0, 2, s), smooth=False)
PROPOSAL = (
    "proposal_param { feat_stride: 8 base_size: 8 min_size: 4 ratio: 0.5 ratio: 2 scale: 1 scale: 2 scale: 4 %s }"
)
SCORES = Bottom((2, 12, 4, 5), lambda rng, s: rng.uniform(size=s), smooth=False)
MOVES = Bottom((2, 24, 4, 5), lambda rng, s: 0.3 * rng.normal(size=s), smooth=False)
INFO = Bottom((2, 3), lambda rng, s: np.tile([30.0, 41.0, 1.5, 0.7][: s[1]], (s[0], 1)), smooth=False)


def ohem(text: str, *bottoms: Bottom, kind: str, reference: Any, **more: Any) -> Case:
    return Case(kind, f"loss_param {{ {text} }}", bottoms, reference, **more)


def proposal(options: str, info: Bottom = INFO, **more: Any) -> Case:
    resized = [(1, 12, 3, 3), (1, 24, 3, 3), (1, info.shape[1])]
    return Case("Proposal", PROPOSAL % options, [SCORES, MOVES, info], forks.proposal, resized=resized, **more)


CASES = [
    Case(
        "ROIPooling",
        "roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.5 }",
        [MAP, REGIONS],
        forks.roi_pooling,
        resized=[(2, 3, 5, 4), (9, 5)],
    ),
    Case(
        "ROIPooling",
        "roi_pooling_param { pooled_h: 7 pooled_w: 7 }",
        [MAP, REGIONS_OF_4_AXES],
        forks.roi_pooling,
    ),
    Case(
        "PSROIPooling",
        "psroi_pooling_param { spatial_scale: 0.25 output_dim: 3 group_size: 2 }",
        [B((2, 12, 6, 7)), REGIONS],
        forks.psroi_pooling,
        resized=[(2, 12, 5, 4), (9, 5)],
    ),
    Case(
        "PSROIPooling",
        "psroi_pooling_param { spatial_scale: 1 output_dim: 1 group_size: 3 }",
        [B((2, 9, 8, 8)), REGIONS],
        forks.psroi_pooling,
    ),
    *(
        ohem(text, B((8, 4)), LABELS, kind="SoftmaxWithLossOHEM", reference=forks.softmax_loss_ohem, tops=tops)
        for text, tops in (("", 1), ("ignore_label: 2", 3), ("normalization: PRE_FIXED pre_fixed_normalizer: 3", 3))
    ),
    ohem(
        "ignore_label: 1",
        B((2, 3, 2, 2)),
        labels(2, 1, 2, 2, classes=3),
        kind="SoftmaxWithLossOHEM",
        reference=forks.softmax_loss_ohem,
        tops=3,
    ),
    *(
        ohem(text, B((8, 6)), B((8, 6)), WEIGHTS, kind="SmoothL1LossOHEM", reference=forks.smooth_l1_loss_ohem, tops=2)
        for text in ("", "normalization: PRE_FIXED pre_fixed_normalizer: 5", "normalization: NONE", "normalize: false")
    ),
    ohem("", B((2, 4, 2, 3)), B((2, 4, 2, 3)), kind="SmoothL1LossOHEM", reference=forks.smooth_l1_loss_ohem, tops=2),
    Case(
        "BoxAnnotatorOHEM",
        "box_annotator_ohem_param { roi_per_img: 2 }",
        [SIDES, LOSSES, LABELS, WEIGHTS],
        forks.box_annotator_ohem,
        2,
    ),
    Case(
        "BoxAnnotatorOHEM",
        "box_annotator_ohem_param { roi_per_img: 1 ignore_label: 255 }",
        [SIDES, constant(1, 8, 1), LABELS, WEIGHTS],
        forks.box_annotator_ohem,
        2,
    ),
    Case(
        "BoxAnnotatorOHEM",
        "box_annotator_ohem_param { roi_per_img: 3 }",
        [labels(2, 5, 2, 3, classes=2), B((2, 1, 2, 3)), labels(2, 1, 2, 3, classes=3), labels(2, 4, 2, 3, classes=2)],
        forks.box_annotator_ohem,
        2,
    ),
    proposal(""),
    proposal("pre_nms_topn: 40 post_nms_topn: 7 nms_thresh: 0.3", tops=2),
    proposal("nms_thresh: 0.5", B((2, 4), INFO.draw, smooth=False), tops=2),
    Case("SmoothL1Loss", "smooth_l1_loss_param { sigma: 3 }", [B((3, 4)), B((3, 4))], losses.smooth_l1),
    Case(
        "SmoothL1Loss",
        "smooth_l1_loss_param { sigma: 0.5 }",
        [B((3, 4)), B((3, 4)), FACTORS, FACTORS],
        losses.smooth_l1,
    ),
    Case(
        "SoftmaxWithLoss",
        "loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 4 }",
        [B((8, 4)), LABELS],
        losses.softmax_loss,
        2,
    ),
]

EMPTY: list[tuple[str, str, list[Shape], Shape]] = [
    ("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 3 }", [(1, 2, 4, 4), (0, 5)], (0, 2, 2, 3)),
    (
        "PSROIPooling",
        "psroi_pooling_param { spatial_scale: 1 output_dim: 2 group_size: 2 }",
        [(1, 8, 4, 4), (0, 5)],
        (0, 2, 2, 2),
    ),
    (
        "BoxAnnotatorOHEM",
        "box_annotator_ohem_param { roi_per_img: 2 }",
        [(0, 5), (0, 1), (0, 1), (0, 8)],
        (0, 1, 1, 1),
    ),
    ("Proposal", PROPOSAL % "", [(0, 12, 2, 2), (0, 24, 2, 2), (0, 3)], (0, 5)),
]

BAD: list[tuple[str, str, list[Shape], str]] = [
    ("SmoothL1Loss", "smooth_l1_loss_param { sigma: 0 }", [(1, 4)] * 2, "sigma must be positive, not 0"),
    ("ROIPooling", "roi_pooling_param { pooled_h: 2 }", [(1, 2, 4, 4), (1, 5)], "positive, not 2 and 0"),
    (
        "ROIPooling",
        "roi_pooling_param { pooled_h: 2 pooled_w: 2 }",
        [(1, 2, 4, 4), (1, 4)],
        "regions of 5 values .* 'b1' is 1×4",
    ),
    ("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 }", [(1, 2, 4), (1, 5)], "4 axes"),
    (
        "PSROIPooling",
        "psroi_pooling_param { output_dim: 2 group_size: 2 }",
        [(1, 8, 4, 4), (1, 5)],
        "must give spatial_scale",
    ),
    (
        "PSROIPooling",
        "psroi_pooling_param { spatial_scale: 1 output_dim: 2 group_size: 2 }",
        [(1, 9, 4, 4), (1, 5)],
        "need 8 channels; 'b0' has 9",
    ),
    ("BoxAnnotatorOHEM", "", [(2, 5), (2, 1), (2, 1), (2, 8)], "must give roi_per_img"),
    (
        "BoxAnnotatorOHEM",
        "box_annotator_ohem_param { roi_per_img: 1 }",
        [(2, 5), (3, 1), (2, 1), (2, 8)],
        "'b1' is 3×1; with 2 regions it must be 2×1×1×1",
    ),
    ("Proposal", "", [(1, 12, 2, 2), (1, 24, 2, 2), (1, 3)], "must give ratio"),
    ("Proposal", PROPOSAL % "", [(1, 18, 2, 2), (1, 24, 2, 2), (1, 3)], "need scores N×12×H×W; 'b0' is 1×18×2×2"),
    ("Proposal", PROPOSAL % "", [(1, 12, 2, 2), (1, 24, 2, 3), (1, 3)], "it must be 1×24×2×2"),
    ("Proposal", PROPOSAL % "", [(1, 12, 2, 2), (1, 24, 2, 2), (1, 2)], "height, width and scale"),
]
