"""OpenPose's layers: cases for the tests of every type, bottoms of no items, and settings that are refused."""

from __future__ import annotations

from tests.layer_harness import Bottom, Case, Shape
from tests.reference import openpose

SCALES = Bottom((3, 2, 8, 10))
MAPS = Bottom((2, 4, 9, 12), lambda rng, s: rng.normal(size=s), smooth=False)

CASES = [
    *(
        Case("ImResize", f"imresize_param {{ {options} }}", [SCALES], openpose.im_resize, resized=[(1, 3, 5, 4)])
        for options in (
            "factor: 2 scale_gap: 0.3",
            "target_spatial_height: 13 target_spatial_width: 7 start_scale: 0.9 scale_gap: 0.2",
            "factor: 0.5 scale_gap: 0",
        )
    ),
    *(
        Case("Nms", f"nms_param {{ {options} }}", [MAPS], openpose.nms, resized=[(1, 5, 12, 6)])
        for options in ("num_parts: 4", "num_parts: 2 max_peaks: 3 threshold: 0.05", "num_parts: 3 threshold: -2")
    ),
    Case("Nms", "nms_param { num_parts: 1 }", [Bottom((1, 1, 2, 5))], openpose.nms),
]

EMPTY: list[tuple[str, str, list[Shape], Shape]] = [
    ("ImResize", "imresize_param { factor: 2 }", [(0, 3, 4, 4)], (1, 3, 8, 8)),
    ("Nms", "nms_param { num_parts: 2 max_peaks: 4 }", [(0, 2, 5, 5)], (0, 2, 5, 3)),
    ("Nms", "nms_param { num_parts: 2 max_peaks: 4 }", [(2, 2, 0, 5)], (2, 2, 5, 3)),
    ("Nms", "nms_param { num_parts: 2 max_peaks: 0 }", [(2, 2, 4, 5)], (2, 2, 1, 3)),
]

BAD: list[tuple[str, str, list[Shape], str]] = [
    ("ImResize", "imresize_param { factor: -1 }", [(1, 1, 4, 4)], "factor must be positive, .* not -1"),
    ("ImResize", "imresize_param { factor: 0.1 }", [(1, 1, 4, 4)], "would make maps of 0×0 from 1×1×4×4"),
    ("ImResize", "imresize_param { target_spatial_width: 0 }", [(1, 1, 4, 4)], "would make maps of 368×0"),
    ("ImResize", "", [(1, 4, 4)], "4 axes"),
    (
        "ImResize",
        "imresize_param { factor: 2 start_scale: 1.6 }",
        [(1, 1, 4, 4)],
        "map 0 of 1×1×4×4 has no content, or more",
    ),
    ("ImResize", "imresize_param { factor: 2 scale_gap: 0.5 }", [(3, 1, 4, 4)], "map 2 of 3×1×4×4 has no content"),
    ("Nms", "", [(1, 14, 4, 4)], "num_parts must be from 1 to the 14 maps of 1×14×4×4, not 15"),
    ("Nms", "nms_param { num_parts: 0 }", [(1, 14, 4, 4)], "not 0"),
    ("Nms", "", [(15, 4, 4)], "4 axes"),
]
