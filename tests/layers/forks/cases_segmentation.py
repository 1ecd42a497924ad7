"""Of segmentation nets (HED, OSVOS, DeepLab, PSPNet): cases, bottoms of no items, settings that are refused."""

from __future__ import annotations

import numpy as np

from tests.layer_harness import Bottom, Case, Shape, labels
from tests.reference import segmentation

#: scores of which many are equal
COARSE = Bottom((2, 4, 3, 5), lambda rng, s: rng.integers(0, 3, s).astype(np.float64), smooth=False)
#: no pixel of class 3
LABELS = labels(2, 1, 3, 5, classes=3)

CASES = [
    Case(
        "SigmoidCrossEntropyBalanceLoss",
        "",
        [Bottom((3, 1, 4, 5)), labels(3, 1, 4, 5, classes=2)],
        segmentation.balanced_cross_entropy,
    ),
    Case(
        "SigmoidCrossEntropyBalanceLoss",
        "",
        [Bottom((4, 3), lambda rng, s: 30 * rng.normal(size=s)), labels(4, 3, 1, classes=2)],
        segmentation.balanced_cross_entropy,
    ),
    *(
        Case("SegAccuracy", f"seg_accuracy_param {{ {text} }}", [COARSE, LABELS], segmentation.seg_accuracy)
        for text in ("", "ignore_label: 0 ignore_label: 255 metric: PixelIOU", "ignore_label: 0 ignore_label: 1")
    ),
    Case("SegAccuracy", "", [Bottom((6, 3), smooth=False), labels(6, 1, classes=3)], segmentation.seg_accuracy),
]

EMPTY: list[tuple[str, str, list[Shape], Shape]] = [
    ("SigmoidCrossEntropyBalanceLoss", "", [(0, 1, 2, 2), (0, 1, 2, 2)], ()),
    ("SegAccuracy", "", [(0, 3, 2, 2), (0, 1, 2, 2)], (1, 1, 1, 3)),
    ("Interp", "interp_param { use_blob_size: true }", [(0, 2, 4, 4), (0, 1, 3, 9)], (0, 2, 3, 9)),
]

SEG = "image_data_param { batch_size: 1 %s } transform_param { %s }"

BAD: list[tuple[str, str, list[Shape], str]] = [
    ("SigmoidCrossEntropyBalanceLoss", "", [(2, 3), (2, 4)], "its bottoms are 2×3 and 2×4; they must have the same"),
    ("SigmoidCrossEntropyBalanceLoss", "", [(2, 3), (3, 2)], "first axes .the batch. must agree"),
    ("SegAccuracy", "", [(2, 3, 4, 4), (2, 1, 4, 5)], "needs scores .* they are 2×3×4×4 and 2×1×4×5"),
    ("SegAccuracy", "", [(2, 3, 4, 4), (2, 4, 4)], "they are 2×3×4×4 and 2×4×4"),
    ("SegAccuracy", "", [(2, 0, 4, 4), (2, 1, 4, 4)], "needs scores of at least one class; 'b0' is 2×0×4×4"),
    (
        "Interp",
        "interp_param { use_blob_size: true }",
        [(1, 2, 4, 4)],
        "a second bottom, whose size .* need each other",
    ),
    ("Interp", "interp_param { zoom_factor: 2 }", [(1, 2, 4, 4)] * 2, "a second bottom, whose size .* need each other"),
    (
        "Interp",
        "interp_param { use_blob_size: true }",
        [(1, 2, 4, 4), (1, 2, 4)],
        "second bottom of 4 axes .* not 1×2×4",
    ),
    ("Interp", "interp_param { use_blob_size: true }", [(1, 2, 4, 4), (1, 2, 4, 0)], "must be positive, not 4×0"),
    (
        "DenseImageData",
        "dense_image_data_param { batch_size: 1 label_divide_factor: 0 }",
        [],
        "must be at least 1, not 0",
    ),
    (
        "DenseImageData",
        "dense_image_data_param { batch_size: 1 label_divide_factor: 8 }",
        [],
        "label_divide_factor needs new_height and new_width, and no crop",
    ),
    (
        "DenseImageData",
        "dense_image_data_param { batch_size: 1 label_divide_factor: 8 new_height: 16 new_width: 7 }",
        [],
        "label_divide_factor 8 leaves nothing of labels of 16×7",
    ),
    *(
        (kind, text, [], message)
        for kind in ("ImageSegData", "ImageLabelmapData")
        for text, message in (
            (SEG % ("new_height: 2", ""), "needs new_height and new_width together"),
            ("image_data_param { batch_size: 0 }", "needs a batch_size over 0"),
            (
                SEG % ("", "resize_param { height: 2 width: 2 }"),
                "has resize_param, which would change the image and not",
            ),
        )
    ),
    (
        "ImageLabelmapData",
        SEG % ("", "scale_factors: 2"),
        [],
        "has scale_factors, which would change the image and not",
    ),
    ("ImageLabelmapData", SEG % ("label_type: PIXEL", ""), [], "label_type and ignore_label .* are for ImageSegData"),
    ("ImageSegData", SEG % ("normalize: true", ""), [], "normalize of image_data_param is for ImageLabelmapData"),
    ("ImageSegData", SEG % ("ignore_label: -1", ""), [], "ignore_label must be from 0 to 255, not -1"),
    ("ImageSegData", SEG % ("", "mean_file: 'mean'"), [], "takes no mean_file; give mean_value"),
    ("ImageSegData", SEG % ("", "scale_factors: 1 scale_factors: 0"), [], "scale_factors must be positive, not 0"),
    (
        "ImageData",
        "image_data_param { label_type: NONE normalize: true }",
        [],
        "label_type, normalize of image_data_param",
    ),
]
