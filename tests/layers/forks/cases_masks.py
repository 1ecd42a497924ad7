"""Of MNC and SSTD, SphereFace, OpenPose (Maximum) and OpenVINO's Caffe: cases, no items, settings that are refused."""

from __future__ import annotations

import numpy as np

from tests.layer_harness import Bottom, Case, Shape, labels
from tests.layers.forks.cases_regions import MAP, REGIONS, REGIONS_OF_4_AXES
from tests.reference import masks
from tests.reference.roi_warping import roi_warping

B = Bottom
MAPS = B((2, 3, 6, 8))
#: values of which many are equal
COARSE = Bottom((2, 3, 4, 5), lambda rng, s: rng.integers(-5, 2, s).astype(np.float64), smooth=False)
SIZES = "width: 9.4 height: 15 width: 25.1 height: 39.6 width: 3 height: 200.5"
ITEMS = B((6, 5))


def product(options: str, item: Bottom = ITEMS, label: Bottom | None = None, tops: int = 2) -> Case:
    text = f"margin_inner_product_param {{ num_output: 4 {options} }}"
    return Case("MarginInnerProduct", text, [item, label or labels(6, classes=4)], masks.margin_inner_product, tops)


def clustered(options: str) -> Case:
    feature, image = B((2, 1, 3, 4), smooth=False), B((2, 3, 50, 70), smooth=False)
    text = f"prior_box_param {{ {SIZES} {options} }}"
    return Case("PriorBoxClustered", text, [feature, image], masks.prior_boxes, resized=[(1, 2, 2, 1), (1, 3, 40, 60)])


def warping(options: str, regions: Bottom = REGIONS) -> Case:
    text = f"roi_warping_param {{ {options} }}"
    return Case("ROIWarping", text, [MAP, regions], roi_warping, resized=[(2, 3, 5, 4), (9, *regions.shape[1:])])


CASES = [
    warping("pooled_h: 3 pooled_w: 2 spatial_scale: 0.5"),
    warping("pooled_h: 1 pooled_w: 9", REGIONS_OF_4_AXES),
    Case("MaskPooling", "", [MAPS, B((2, 1, 6, 8))], masks.mask_pooling),
    *(
        Case("MaskResize", f"mask_resize_param {{ {text} }}", [MAPS], masks.mask_resize, resized=[(1, 2, 9, 5)])
        for text in (
            "output_height: 3 output_width: 8",
            "output_height: 14 output_width: 20",
            "output_height: 4 output_width: 3",
            "output_height: 1 output_width: 1 factor_height: 0.5 factor_width: 0.3",
        )
    ),
    Case("MaskResize", "mask_resize_param { output_height: 5 output_width: 3 }", [B((1, 1, 1, 1))], masks.mask_resize),
    Case("Maximum", "", [COARSE], masks.maximum, resized=[(1, 2, 3, 7)]),
    Case("Maximum", "", [B((2, 3, 1, 7), smooth=False)], masks.maximum),
    product(""),
    product("type: DOUBLE", tops=1),
    product("type: TRIPLE base: 0"),
    product("type: QUADRUPLE base: 1000 gamma: 0.12 power: 1 lambda_min: 5 iteration: 2000"),
    product("type: QUADRUPLE base: 0 axis: 2", B((3, 2, 5)), labels(3, 2, classes=4)),
    clustered("variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"),
    clustered("clip: true step: 16 offset: 0.25 variance: 0.3"),
    clustered(""),
]

EMPTY: list[tuple[str, str, list[Shape], Shape]] = [
    ("ROIWarping", "roi_warping_param { pooled_h: 2 pooled_w: 3 }", [(1, 2, 4, 4), (0, 5)], (0, 2, 2, 3)),
    ("MaskPooling", "", [(0, 3, 2, 2), (0, 1, 2, 2)], (0, 3, 2, 2)),
    ("MaskResize", "mask_resize_param { output_height: 2 output_width: 3 }", [(0, 3, 4, 4)], (0, 3, 2, 3)),
    ("Maximum", "", [(0, 3, 2, 2)], (0, 3, 1, 3)),
    ("MarginInnerProduct", "margin_inner_product_param { num_output: 4 type: DOUBLE }", [(0, 3), (0,)], (0, 4)),
]

BAD: list[tuple[str, str, list[Shape], str]] = [
    ("ROIWarping", "roi_warping_param { pooled_w: 2 }", [(1, 2, 4, 4), (1, 5)], "positive, not 0 and 2"),
    ("ROIWarping", "roi_warping_param { pooled_h: 2 pooled_w: 2 }", [(1, 2, 4, 4), (1, 4)], "'b1' is 1×4"),
    ("ROIWarping", "roi_warping_param { pooled_h: 2 pooled_w: 2 }", [(2, 4, 4), (1, 5)], "4 axes"),
    ("MaskPooling", "", [(2, 3, 4, 4), (2, 3, 4, 4)], "needs features .* they are 2×3×4×4 and 2×3×4×4"),
    ("MaskPooling", "", [(2, 3, 4, 4), (2, 1, 4, 5)], "they are 2×3×4×4 and 2×1×4×5"),
    (
        "MaskResize",
        "mask_resize_param { output_height: 2 }",
        [(2, 3, 4, 4)],
        "must give output_height and output_width",
    ),
    ("MaskResize", "mask_resize_param { output_height: 2 output_width: 2 }", [(2, 3, 4)], "not empty, not 2×3×4"),
    ("MaskResize", "mask_resize_param { output_height: 2 output_width: 2 }", [(2, 3, 4, 0)], "not empty, not 2×3×4×0"),
    (
        "MaskResize",
        "mask_resize_param { output_height: 2 output_width: 2 factor_width: 0.125 }",
        [(2, 3, 4, 4)],
        "would make masks of 2×0 from 2×3×4×4",
    ),
    ("Maximum", "", [(2, 3, 4)], "4 axes .* not 2×3×4"),
    ("Maximum", "", [(2, 3, 0, 4)], "not empty, not 2×3×0×4"),
    ("MarginInnerProduct", "", [(2, 3), (2,)], "num_output must be given and positive"),
    (
        "MarginInnerProduct",
        "margin_inner_product_param { num_output: 1 }",
        [(2, 3), (3,)],
        "one label per item; 'b1' is 3",
    ),
    ("PriorBoxClustered", "", [(1, 2, 3, 4)] * 2, "needs width and height, .* not 0 and 0"),
    ("PriorBoxClustered", "prior_box_param { width: 3 }", [(1, 2, 3, 4)] * 2, "needs width and height, .* not 1 and 0"),
    (
        "PriorBoxClustered",
        "prior_box_param { width: 3 height: 0 }",
        [(1, 2, 3, 4)] * 2,
        "height must be positive, not 0",
    ),
    (
        "PriorBoxClustered",
        "prior_box_param { width: 3 height: 3 denser_prior_boxes: true }",
        [(1, 2, 3, 4)] * 2,
        "denser_prior_boxes is for PriorBox layers",
    ),
    (
        "PriorBoxClustered",
        "prior_box_param { width: 3 height: 3 variance: -1 }",
        [(1, 2, 3, 4)] * 2,
        "variance must be pos",
    ),
    ("PriorBox", "prior_box_param { width: 3 min_size: 3 }", [(1, 2, 3, 4)] * 2, "are for PriorBoxClustered layers"),
]
