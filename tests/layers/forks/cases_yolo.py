"""YOLO's layers: cases for the tests of every type, bottoms of no items, and settings that are refused."""

from __future__ import annotations

import numpy as np

from tests.layer_harness import Array, Bottom, Case, Shape
from tests.reference import yolo


def given(rng: np.random.Generator, shape: Shape) -> Array:
    """Boxes of three classes: in each image fewer rows than there is room for, two of them in one cell."""
    rows = np.zeros((shape[0], shape[1] // 5, 5))
    for image in rows:
        for row in image[:3]:
            row[:] = [rng.integers(3), *rng.uniform(0.05, 0.95, 2), *rng.uniform(0.05, 0.6, 2)]
        image[-1 if len(image) < 3 else 2, 1:3] = image[0, 1:3]
    return rows.reshape(shape)


REGION = "region_loss_param { num_class: 3 num: 2 biases: [1, 1.5, 2.5, 1] %s }"
BOXES = Bottom((2, 25), given, smooth=False)
WIDE = Bottom((2, 16, 3, 4), lambda rng, s: 1.5 * rng.normal(size=s))
YOLOV3 = "yolov3_param { num_class: 3 num: 2 biases: [6, 8, 12, 10, 20, 26, 22, 24] mask: [2, 3] anchors_scale: 16 %s }"
V2 = "yolo_detection_output_param { num_classes: 3 num_box: 2 biases: [1, 1.5, 2.5, 1] %s }"
V3 = (
    "yolov3_detection_output_param { num_classes: 3 num_box: 2 biases: [8, 6, 14, 20, 30, 12] mask: [1, 2] "
    "anchors_scale: 16 mask_group_num: 1 %s }"
)
V3_OF_TWO = (
    "yolov3_detection_output_param { num_classes: 2 num_box: 2 biases: [8, 6, 14, 20, 30, 12, 40, 40] "
    "mask: [2, 3, 0, 1] anchors_scale: [16, 8] confidence_threshold: 0.3 }"
)

CASES = [
    *(
        Case("RegionLoss", REGION % options, [WIDE, BOXES], yolo.region_loss, resized=[(1, 16, 5, 2), (1, 10)])
        for options in (
            "",
            "rescore: 0 bias_match: 0 thresh: 0.1",
            "object_scale: 5 noobject_scale: 2 class_scale: 3 coord_scale: 0.5 thresh: 0.6",
        )
    ),
    *(
        Case("Yolov3", YOLOV3 % options, [WIDE, BOXES], yolo.yolov3_loss, resized=[(1, 16, 5, 2), (1, 10)])
        for options in (
            "",
            "use_logic_gradient: true object_scale: 3 coord_scale: 0.5 iou_thresh: 0.2 thresh: 0.1",
            "use_focal_loss: true label_smooth_eps: 0 class_scale: 2 iou_thresh: 0.1",
            "label_smooth_eps: 0.3 iou_thresh: 1",
        )
    ),
    Case(
        "Yolov3",
        "yolov3_param { num_class: 11 num: 1 biases: [12, 10, 20, 26] mask: 0 anchors_scale: 16 }",
        [WIDE, BOXES],
        yolo.yolov3_loss,
    ),
    *(
        Case("YoloDetectionOutput", V2 % options, [WIDE], yolo.yolo_detection_output, resized=[(1, 16, 2, 2)])
        for options in ("", "confidence_threshold: 0.3 nms_threshold: 0.1", "confidence_threshold: 0.99")
    ),
    Case(
        "YoloDetectionOutput",
        V2 % "confidence_threshold: 0.2",
        [WIDE, Bottom((2, 16, 2, 5))],
        yolo.yolo_detection_output,
    ),
    *(
        Case("Yolov3DetectionOutput", V3 % options, [WIDE], yolo.yolov3_detection_output, resized=[(1, 16, 2, 2)])
        for options in ("", "confidence_threshold: 0.3 nms_threshold: 0.1", "confidence_threshold: 1")
    ),
    Case(
        "Yolov3DetectionOutput",
        V3_OF_TWO,
        [Bottom((2, 14, 2, 3)), Bottom((2, 14, 4, 6))],
        yolo.yolov3_detection_output,
    ),
    Case(
        "Yolov3DetectionOutput",
        V3 % "gaussian_box: true confidence_threshold: 0.2",
        [Bottom((1, 24, 3, 3))],
        yolo.yolov3_detection_output,
    ),
]

EMPTY: list[tuple[str, str, list[Shape], Shape]] = [
    ("RegionLoss", REGION % "", [(0, 16, 3, 4), (0, 25)], ()),
    ("RegionLoss", REGION % "", [(2, 16, 3, 4), (2, 0)], ()),
    ("Yolov3", YOLOV3 % "", [(0, 16, 3, 4), (0, 25)], ()),
    ("Yolov3", YOLOV3 % "", [(2, 16, 3, 4), (2, 0)], ()),
    ("YoloDetectionOutput", V2 % "", [(0, 16, 3, 4)], (1, 1, 0, 7)),
    ("Yolov3DetectionOutput", V3 % "", [(0, 16, 3, 4)], (1, 1, 0, 7)),
    ("Yolov3DetectionOutput", V3 % "", [(2, 16, 0, 4)], (1, 1, 2, 7)),
]

BAD: list[tuple[str, str, list[Shape], str]] = [
    ("RegionLoss", "", [(1, 125, 3, 3), (1, 25)], "2 biases .* for each of num: 5 anchors, not 0"),
    ("RegionLoss", REGION % "coords: 5", [(1, 16, 3, 3), (1, 25)], "coords 4, not 2, 3 and 5"),
    ("RegionLoss", REGION % 'softmax_tree: "a"', [(1, 16, 3, 3), (1, 25)], "softmax_tree .* not supported"),
    ("RegionLoss", REGION % "", [(1, 15, 3, 3), (1, 25)], "need N×16×H×W; 'b0' is 1×15×3×3"),
    ("RegionLoss", REGION % "", [(1, 16, 3, 3), (1, 24)], "'b1' is 1×24; it must have rows of 5"),
    ("RegionLoss", REGION % "", [(1, 16, 3, 3), (2, 25)], "first axes .the batch. must agree"),
    ("Yolov3", "", [(1, 125, 3, 3), (1, 25)], "biases must be a positive width and height, .*; it has 0 numbers"),
    ("Yolov3", YOLOV3 % "biases: [0, 1]", [(1, 16, 3, 3), (1, 25)], "it has 10 numbers, and 0 among them"),
    ("Yolov3", YOLOV3 % "mask: 1", [(1, 16, 3, 3), (1, 25)], "mask must name num: 2 of the anchors; it has 3 numbers"),
    ("Yolov3", YOLOV3.replace("3]", "4]") % "", [(1, 16, 3, 3), (1, 25)], "mask has anchor 4; .* anchors 0 to 3"),
    ("Yolov3", YOLOV3 % "iou_loss: GIOU", [(1, 16, 3, 3), (1, 25)], "iou_loss: GIOU is not supported"),
    ("Yolov3", "yolov3_param { num_class: 0 }", [(1, 16, 3, 3), (1, 25)], "must be at least 1, not 5, 0 and 32"),
    ("Yolov3", YOLOV3 % "", [(1, 15, 3, 3), (1, 25)], "need N×16×H×W; 'b0' is 1×15×3×3"),
    ("Yolov3", YOLOV3 % "", [(1, 16, 3, 3), (1, 24)], "'b1' is 1×24; it must have rows of 5"),
    ("YoloDetectionOutput", V2 % "biases: 1", [(1, 16, 3, 3)], "for each of 2 anchors, 4, not 5"),
    ("YoloDetectionOutput", V2 % "", [(1, 17, 3, 3)], "need N×16×H×W; 'b0' is 1×17×3×3"),
    ("YoloDetectionOutput", V2 % "", [(1, 16, 3, 3), (2, 16, 3, 3)], "'b1' has 2 images, 'b0' 1"),
    ("YoloDetectionOutput", V2 % "coords: 6", [(1, 16, 3, 3)], "coords must be 4 .*, not 6"),
    (
        "YoloDetectionOutput",
        "yolo_detection_output_param { num_classes: 0 }",
        [(1, 25, 3, 3)],
        "at least 1, not 0 and 5",
    ),
    ("Yolov3DetectionOutput", V3 % "", [(1, 16, 3, 3), (1, 16, 6, 6)], "mask_group_num is 1, but it has 2 bottoms"),
    ("Yolov3DetectionOutput", V3 % "anchors_scale: 8", [(1, 16, 3, 3)], "anchors_scale .* for each of 1 bottoms"),
    ("Yolov3DetectionOutput", V3 % "mask: 0", [(1, 16, 3, 3)], "mask has 3 numbers; .* are 2"),
    (
        "Yolov3DetectionOutput",
        "yolov3_detection_output_param { num_box: 1 mask: 3 anchors_scale: 8 mask_group_num: 1 biases: [1, 1] }",
        [(1, 25, 3, 3)],
        "mask has anchor 3; biases give anchors 0 to 0",
    ),
    ("Yolov3DetectionOutput", V3 % "biases: 1", [(1, 16, 3, 3)], "not 7"),
]
