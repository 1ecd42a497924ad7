"""MS-CNN's and Cascade R-CNN's layers: cases for the tests of every type, no items, and settings that are refused."""

from __future__ import annotations

import numpy as np

from caffe.engine.layer import TEST
from tests.layer_harness import Array, Bottom, Case, Shape
from tests.layers.forks.cases_regions import MAP, REGIONS, REGIONS_OF_4_AXES
from tests.reference import forks, mscnn

MAPS = [
    Bottom((2, 7, 5, 6), lambda rng, s: rng.normal(size=s), smooth=False),
    Bottom((2, 7, 3, 3), lambda rng, s: rng.normal(size=s), smooth=False),
]
OUTPUT = "box_output_param { field_w: [24, 40] field_h: [30, 40] downsample_rate: [8, 16] %s }"
NORMALIZED = " bbox_reg_param { bbox_mean: [0.1, 0, 0, -0.2] bbox_std: [0.1, 0.1, 0.2, 0.2] }"
GROUPS = (
    "box_group_output_param { box_group_param { field_w: [24, 30, 16] field_h: [24, 16, 30] stride: 8 } "
    "box_group_param { field_w: 40 field_h: 48 stride: 16 } %s }"
)


def probabilities(rng: np.random.Generator, shape: Shape) -> Array:
    return rng.uniform(size=shape)


PAIRS = [
    Bottom((6, 2, 4, 5), probabilities, smooth=False),
    Bottom((6, 4, 4, 5), lambda rng, s: rng.normal(size=s), smooth=False),
    Bottom((2, 2, 2, 3), probabilities, smooth=False),
    Bottom((2, 4, 2, 3), lambda rng, s: rng.normal(size=s), smooth=False),
]
FEWER: list[Shape] = [(3, 2, 3, 4), (3, 4, 3, 4), (1, 2, 4, 4), (1, 4, 4, 4)]
OFFSETS = Bottom((6, 8), lambda rng, s: 0.4 * rng.normal(size=s), smooth=False)
#: one of them ends before it begins
SORTED_REGIONS = Bottom(
    (6, 5),
    lambda rng, s: np.concatenate(
        [np.arange(len(rng.integers(0, 2, s[0])))[:, None] % 2, np.tile([4.0, 6, 20, 18], (s[0], 1))
         + rng.uniform(-3, 3, (s[0], 4)) - np.eye(s[0], 4)[::-1] * 30], axis=1),
    smooth=False,
)  # fmt: skip
SCORES = Bottom((6, 3), lambda rng, s: rng.normal(size=s), smooth=False)


def one_image(rng: np.random.Generator, shape: Shape) -> Array:
    """Regions of image 0, in pairs that overlap."""
    rows = np.zeros(shape)
    rows[:, 1:3] = rng.uniform(0, 30, (shape[0], 2))
    rows[1::2, 1:3] = rows[: len(rows[1::2]) * 2 : 2, 1:3] + 3
    rows[:, 3:5] = rows[:, 1:3] + rng.uniform(10, 40, (shape[0], 2))
    return rows


SIZE = Bottom((1, 2, 1, 1), lambda rng, s: np.array([40.0, 50]).reshape(s), smooth=False)
DETECTED = [
    Bottom((16, 3), probabilities, smooth=False),
    Bottom((16, 12), lambda rng, s: 0.2 * rng.normal(size=s), smooth=False),
    Bottom((16, 6), one_image, smooth=False),
    SIZE,
]
ONE: Shape = (1, 2)
AGNOSTIC = " bbox_reg_param { cls_aware: false bbox_mean: [0.1, 0, 0, -0.2] bbox_std: [0.1, 0.1, 0.2, 0.2] }"
ONE_FOR_ALL = [
    DETECTED[0],
    Bottom((16, 8), DETECTED[1].draw, smooth=False),
    Bottom((16, 5), one_image, smooth=False),
    SIZE,
]

ALIGN = "roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.5 %s }"

CASES = [
    *(
        Case("BoxOutput", OUTPUT % options + more, MAPS, mscnn.box_output, tops, resized=[(1, 7, 2, 3), (1, 7, 4, 1)])
        for options, more, tops in (
            ("", "", 2),
            ("fg_thr: -5 iou_thr: 0.3 min_size: 0 field_whr: 4 field_xyr: 1", NORMALIZED, 2),
            ("fg_thr: -1 max_nms_num: 12 max_post_nms_num: 5 iou_thr: 0.65", "", 1),
            ("fg_thr: -2 nms_type: 'IOMU' iou_thr: 0.6", "", 2),
            ("fg_thr: -2 nms_type: 'IOFU' iou_thr: 0.4", "", 2),
            ("fg_thr: 99", "", 2),
        )
    ),
    *(
        Case("BoxGroupOutput", GROUPS % options + more, PAIRS, mscnn.box_group_output, tops, resized=FEWER)
        for options, more, tops in (
            ("", "", 2),
            ("fg_thr: 0.3 iou_thr: 0.3 min_size: 5 field_whr: 8 field_xyr: 1", NORMALIZED, 2),
            ("max_nms_num: 9 max_post_nms_num: 4", "", 1),
            ("nms_type: 'IOMU' iou_thr: 0.6 min_size: 0", "", 2),
            ("nms_type: 'IOFU' iou_thr: 0.4 min_size: 0", "", 2),
            ("min_size: 500", "", 2),
        )
    ),
    *(
        Case("FrcnnOutput", f"frcnn_output_param {{ {options} }} {more}", bottoms, mscnn.frcnn_output, resized=shapes)
        for options, more, bottoms, shapes in (
            ("", "", DETECTED, [(7, 3), (7, 12), (7, 6), (1, 2)]),
            ("conf_thr: 0.4 iou_thr: 0.2 max_det_num: 6", NORMALIZED, DETECTED, [(7, 3), (7, 12), (7, 6), (1, 2)]),
            ("nms_type: 'IOMU' iou_thr: 0.7", AGNOSTIC, ONE_FOR_ALL, [(7, 5), (7, 8), (7, 5), (1, 2)]),
            ("nms_type: 'IOFU' max_det_num: 99", AGNOSTIC, ONE_FOR_ALL, [(7, 2), (7, 8), (7, 5), (1, 2)]),
            ("conf_thr: 2", "", DETECTED, [(7, 3), (7, 12), (7, 6), (1, 2)]),
        )
    ),
    Case("DecodeBBox", "", [OFFSETS, SORTED_REGIONS], mscnn.decode_bbox, phase=TEST),
    Case("DecodeBBox", NORMALIZED, [OFFSETS, SORTED_REGIONS], mscnn.decode_bbox),
    *(
        Case("ScaleRoute", f"scale_route_param {{ {options} }}", [SORTED_REGIONS, SCORES], mscnn.scale_route, 2)
        for options in ("", "low_scale: 15", "high_scale: 16", "low_scale: 14 high_scale: 16", "low_scale: 200")
    ),
    Case("ScaleRoute", "scale_route_param { low_scale: 2 high_scale: 3 }", [REGIONS_OF_4_AXES], mscnn.scale_route),
    *(
        Case("ROIAlign", ALIGN % options, [MAP, REGIONS], mscnn.roi_align, resized=[(2, 3, 5, 4), (9, 5)])
        for options in ("", "pad_ratio: 0.25")
    ),
    Case("ROIAlign", "roi_pooling_param { pooled_h: 7 pooled_w: 7 }", [MAP, REGIONS_OF_4_AXES], mscnn.roi_align),
    Case("ROIPooling", ALIGN % "pad_ratio: 0.25", [MAP, REGIONS], forks.roi_pooling),
]

EMPTY: list[tuple[str, str, list[Shape], Shape]] = [
    ("BoxOutput", OUTPUT % "", [(0, 7, 5, 6), (0, 7, 3, 3)], (1, 5, 1, 1)),
    ("BoxOutput", OUTPUT % "", [(2, 7, 0, 6), (2, 7, 3, 0)], (1, 5, 1, 1)),
    ("BoxGroupOutput", GROUPS % "", [(0, 2, 4, 5), (0, 4, 4, 5), (0, 2, 2, 3), (0, 4, 2, 3)], (1, 5, 1, 1)),
    ("DecodeBBox", "", [(0, 8), (0, 5)], (0, 5, 1, 1)),
    ("FrcnnOutput", "", [(0, 3), (0, 12), (0, 5), (1, 2)], (1, 7, 1, 1)),
    ("ScaleRoute", "", [(0, 5)], (0, 5, 1, 1)),
    ("ROIAlign", ALIGN % "", [(1, 2, 4, 4), (0, 5)], (0, 2, 4, 3)),
    ("ROIAlign", ALIGN % "", [(1, 0, 4, 4), (2, 5)], (2, 0, 4, 3)),
]

BAD: list[tuple[str, str, list[Shape], str]] = [
    (
        "BoxOutput",
        OUTPUT % "nms_type: 'iou'",
        [(1, 7, 2, 2)] * 2,
        "nms_type is 'iou'; it must be one of IOU, IOMU, IOFU",
    ),
    ("BoxOutput", OUTPUT % "field_whr: 0", [(1, 7, 2, 2)] * 2, "must be positive, not 0 and 2"),
    ("BoxOutput", OUTPUT % "", [(1, 7, 2, 2)], "field_h for each of its 1 bottoms; found .30, 40."),
    ("BoxOutput", OUTPUT % "", [(1, 7, 2, 2), (1, 5, 2, 2)], "'b1' is 1×5×2×2, 'b0' 1×7×2×2"),
    ("BoxOutput", OUTPUT % "", [(1, 5, 2, 2), (1, 5, 2, 2)], "with at least 2 classes"),
    ("BoxOutput", OUTPUT % "" + " bbox_reg_param { bbox_mean: 0 bbox_std: 1 }", [(1, 7, 2, 2)] * 2, "not 1 and 1"),
    (
        "BoxOutput",
        OUTPUT % "" + NORMALIZED.replace("0.1,", "0,"),
        [(1, 7, 2, 2)] * 2,
        "bbox_std must be positive, not 0",
    ),
    ("BoxGroupOutput", GROUPS % "", [(3, 2, 2, 2), (3, 4, 2, 2)], "for each of its 2 box_group_param; it has 2"),
    (
        "BoxGroupOutput",
        "box_group_output_param { box_group_param { field_w: 1 stride: 1 } }",
        [(1, 2, 2, 2), (1, 4, 2, 2)],
        "as many field_w as field_h",
    ),
    (
        "BoxGroupOutput",
        GROUPS % "",
        [(4, 2, 2, 2), (4, 4, 2, 2), (1, 2, 2, 2), (1, 4, 2, 2)],
        "'b0' is 4×2×2×2; with 3 anchors",
    ),
    (
        "BoxGroupOutput",
        GROUPS % "",
        [(3, 2, 2, 2), (3, 4, 2, 2), (2, 2, 2, 2), (2, 4, 2, 2)],
        "not the same number of images",
    ),
    (
        "BoxGroupOutput",
        GROUPS % "",
        [(3, 2, 2, 2), (3, 8, 2, 2), (1, 2, 2, 2), (1, 4, 2, 2)],
        "'b1' is 3×8×2×2; it must be 3×4×2×2",
    ),
    (
        "FrcnnOutput",
        "frcnn_output_param { nms_type: '' }",
        [(2, 3), (2, 12), (2, 5), ONE],
        "nms_type is ''; it must be one of",
    ),
    ("FrcnnOutput", "", [(2, 3), (2, 8), (2, 5), ONE], "'b1' is 2×8; with 'b0' 2×3 it must be 2×12"),
    ("FrcnnOutput", AGNOSTIC, [(2, 3), (2, 12), (2, 5), ONE], "'b1' is 2×12; with 'b0' 2×3 it must be 2×8"),
    ("FrcnnOutput", "", [(2, 3), (2, 12), (2, 7), ONE], "'b2' is 2×7; .* must be 2×5 or 2×6"),
    ("FrcnnOutput", "", [(2, 3), (2, 12), (2, 5), (2, 2)], "'b3' is 2×2; it must be 1×2, the height and width of one"),
    ("DecodeBBox", "", [(2, 4), (2, 5)], "'b0' is 2×4; it must be 2×8"),
    ("DecodeBBox", "", [(2, 8), (2, 4)], "'b1' is 2×4; it must be 2×5"),
    ("DecodeBBox", "", [(2, 8), (2, 5), (3, 6)], "'b2' is 3×6; it must be 2×K"),
    ("ScaleRoute", "scale_route_param { low_scale: 0 }", [(2, 5)], "0 < low_scale <= high_scale; found 0 and inf"),
    ("ScaleRoute", "scale_route_param { low_scale: 3 high_scale: 2 }", [(2, 5)], "found 3 and 2"),
    ("ScaleRoute", "", [(2, 4)], "regions of 5 values .* 'b0' is 2×4"),
    ("ROIAlign", "roi_pooling_param { pooled_h: 2 }", [(1, 2, 4, 4), (1, 5)], "positive, not 2 and 0"),
    ("ROIAlign", ALIGN % "", [(1, 2, 4, 4), (1, 4)], "regions of 5 values .* 'b1' is 1×4"),
]
