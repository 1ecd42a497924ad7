"""What MS-CNN and Cascade R-CNN train with: cases for the tests of every type, no items, and settings that are refused."""

from __future__ import annotations

import re

import numpy as np

from tests.layer_harness import Array, Bottom, Case, Shape
from tests.layers.forks.cases_mscnn import NORMALIZED
from tests.reference import mscnn_training


def label_maps(classes: int) -> Bottom:
    """A third of the cells has an object, and some of the others nearly have one."""

    def draw(rng: np.random.Generator, shape: Shape) -> Array:
        maps = np.zeros(shape)
        cells = (shape[0], *shape[2:])
        fore = rng.uniform(size=cells) < 0.35
        maps[:, 0] = rng.integers(1, classes, cells) * fore
        maps[:, 1:3] = rng.uniform(0, 48, (shape[0], 2, *shape[2:]))
        maps[:, 3:5] = rng.uniform(0.5, 60, (shape[0], 2, *shape[2:]))
        maps[:, 5] = rng.uniform(0, 0.6, cells) + 0.4 * fore
        return maps

    return Bottom((2, 6, 5, 4), draw, smooth=False)


def changed(text: str, field: str, value: str) -> str:
    """The text with another value for the field."""
    return re.sub(rf"\b{field}: \S+", f"{field}: {value}", text)


def grouped(bottom: Bottom) -> Bottom:
    """The same for two images with three anchors."""
    return Bottom((6, 6, 3, 4), bottom.draw, smooth=False)


LOSS = "detection_loss_param { cls_num: 3 field_w: 24 field_h: 30 downsample_rate: 8 %s }"
ACCURACY = "detection_accuracy_param { cls_num: 3 field_w: 24 field_h: 30 downsample_rate: 8 %s }"
ONE_CLASS = "field_w: 24 field_h: 30 downsample_rate: 8 cls_num: 2 objectness: true"
MAP = Bottom((2, 7, 5, 4), lambda rng, s: rng.normal(size=s))
MAP_OF_2 = Bottom((2, 6, 5, 4), lambda rng, s: rng.normal(size=s))
#: scores that repeat
TIES = Bottom((2, 7, 5, 4), lambda rng, s: rng.integers(0, 2, s).astype(float))
ANCHORS = "field_w: [24, 30, 16] field_h: [24, 16, 30] stride: 8"
GROUP_LOSS = f"detection_group_loss_param {{ cls_num: 3 {ANCHORS} neg_mining_type: 'bootstrap' %s }}"
GROUP_ACCURACY = f"detection_group_accuracy_param {{ cls_num: 3 {ANCHORS} %s }}"
GROUP = [
    Bottom((6, 3, 3, 4), lambda rng, s: rng.normal(size=s)),
    Bottom((6, 4, 3, 4), lambda rng, s: rng.normal(size=s)),
    grouped(label_maps(3)),
]
GROUP_OF_2 = [
    Bottom((6, 2, 3, 4), lambda rng, s: rng.normal(size=s)), GROUP[1], grouped(label_maps(4))
]  # fmt: skip
FEWER_OF_2: list[Shape] = [(3, 2, 5, 2), (3, 4, 5, 2), (3, 6, 5, 2)]
FEWER: list[Shape] = [(3, 3, 5, 2), (3, 4, 5, 2), (3, 6, 5, 2)]

CASES = [
    *(
        Case("DetectionLoss", LOSS % options + more, [x, label_maps(3)], mscnn_training.detection_loss)
        for options, more, x in (
            ("sample_mode: 'all'", "", MAP),
            ("sample_mode: 'bootstrap'", "", MAP),
            ("sample_mode: 'bootstrap' bg_multiple: 1 bg_threshold: 0.3", "", TIES),
            ("sample_mode: 'bootstrap' pos_neg_weighted: true bg_multiple: 2 lambda: 0.5", NORMALIZED, MAP),
            ("sample_mode: 'all' pos_neg_weighted: true iou_weighted: true bb_smooth: false", "", MAP),
            ("sample_mode: 'all' iou_weighted: true field_whr: 8 field_xyr: 0.2", "", MAP),
            ("sample_mode: 'bootstrap'", "loss_param { ignore_label: 2 }", MAP),
            ("sample_mode: 'all'", "loss_param { ignore_label: 0 }", MAP),
        )
    ),
    Case(
        "DetectionLoss",
        f"detection_loss_param {{ {ONE_CLASS} sample_mode: 'bootstrap' }}",
        [MAP_OF_2, label_maps(4)],
        mscnn_training.detection_loss,
    ),
    *(
        Case("DetectionGroupLoss", GROUP_LOSS % options + more, GROUP, mscnn_training.detection_group_loss, resized=FEWER)
        for options, more in (
            ("", ""),
            ("bg_multiple: 1 bg_threshold: 0.3 neg_ranking_type: 'conf_prob'", ""),
            ("batch_size: 60 pos_neg_weighted: true bg_multiple: 1", NORMALIZED),
            ("batch_size: 100 field_whr: 8 field_xyr: 1 bg_multiple: 2", ""),
            ("field_whr: 2 field_xyr: 4 lambda: 3 bbox_loss_type: 'Euclidean_L2'", NORMALIZED),
            ("", "loss_param { ignore_label: 2 }"),
        )
    ),
    Case(
        "DetectionGroupLoss",
        GROUP_LOSS.replace("cls_num: 3", "cls_num: 2 objectness: true") % "",
        GROUP_OF_2,
        mscnn_training.detection_group_loss,
        resized=FEWER_OF_2,
    ),
    *(
        Case("DetectionAccuracy", ACCURACY % options + more, [x, label_maps(3)], mscnn_training.detection_accuracy, tops)
        for options, more, x, tops in (
            ("", "", MAP, 2),
            ("top_k: 2 bg_threshold: 0.2 field_whr: 8 field_xyr: 1", NORMALIZED, TIES, 2),
            ("", "loss_param { ignore_label: 2 }", TIES, 1),
        )
    ),
    Case(
        "DetectionAccuracy",
        f"detection_accuracy_param {{ {ONE_CLASS} }}",
        [MAP_OF_2, label_maps(4)],
        mscnn_training.detection_accuracy,
        2,
    ),
    *(
        Case(
            "DetectionGroupAccuracy", GROUP_ACCURACY % options + more, GROUP, mscnn_training.detection_group_accuracy,
            tops, resized=FEWER,
        )
        for options, more, tops in (("", "", 2), ("field_whr: 8 field_xyr: 1 bg_threshold: 0.1", NORMALIZED, 1))
    ),
    Case(
        "DetectionGroupAccuracy",
        GROUP_ACCURACY.replace("cls_num: 3", "cls_num: 2 objectness: true") % "" + "loss_param { ignore_label: -1 }",
        [Bottom((6, 2, 3, 4), lambda rng, s: rng.integers(0, 2, s).astype(float)), *GROUP_OF_2[1:]],
        mscnn_training.detection_group_accuracy,
        2,
        resized=FEWER_OF_2,
    ),
]  # fmt: skip


def empty(kind: str, text: str, *shapes: Shape) -> tuple[str, str, list[Shape], Shape]:
    return kind, text % "", list(shapes), (1, 1, 1, 2)


EMPTY = [
    *(
        empty(kind, text, (items, 7, height, 4), (items, 6, height, 4))
        for kind, text in (("DetectionLoss", LOSS), ("DetectionAccuracy", ACCURACY))
        for items, height in ((0, 5), (2, 0))
    ),
    *(
        empty(kind, text, (items, 3, height, 4), (items, 4, height, 4), (items, 6, height, 4))
        for kind, text in (("DetectionGroupLoss", GROUP_LOSS), ("DetectionGroupAccuracy", GROUP_ACCURACY))
        for items, height in ((0, 5), (6, 0))
    ),
]

ONE_MAP: list[Shape] = [(1, 7, 2, 3), (1, 6, 2, 3)]
THREE_MAPS: list[Shape] = [(3, 3, 2, 3), (3, 4, 2, 3), (3, 6, 2, 3)]
BAD: list[tuple[str, str, list[Shape], str]] = [
    *(
        (kind, changed(text % "", *change), ONE_MAP, message)
        for kind, text in (("DetectionLoss", LOSS), ("DetectionAccuracy", ACCURACY))
        for change, message in (
            (("cls_num", "1"), "cls_num of at least 2 .the background counts., not 1"),
            (("cls_num", "2"), "'b0' is 1×7×2×3; with cls_num: 2 it must be N×6×H×W"),
            (("cls_num", "3 coord_num: 5"), "coord_num must be 4, not 5"),
            (("cls_num", "3 objectness: true"), "objectness needs cls_num: 2, not 3"),
            (("cls_num", "3 field_whr: 0"), "field_whr and field_xyr must be positive, not 0 and"),
            (("field_w", "0"), "found downsample_rate 8, field_w .0., field_h .30."),
        )
    ),
    *(
        (kind, changed(text % "", *change), THREE_MAPS, message)
        for kind, text in (("DetectionGroupLoss", GROUP_LOSS), ("DetectionGroupAccuracy", GROUP_ACCURACY))
        for change, message in (
            (("cls_num", "2"), "'b0' is 3×3×2×3; with cls_num: 2 it must be N·3×2×H×W"),
            (("stride", "0"), "a positive stride"),
            (
                ("stride", "8 field_w: 3"),
                "as many field_w as field_h, at least one; found stride 8, field_w .24, 30, 16, 3.",
            ),
        )
    ),
    ("DetectionLoss", LOSS % "", [(1, 7, 2, 3), (1, 6, 3, 2)], "'b1' is 1×6×3×2; it must be 1×6×2×3"),
    ("DetectionLoss", LOSS % "" + NORMALIZED.replace("0.1,", "0,"), ONE_MAP, "bbox_std must be positive, not 0"),
    ("DetectionAccuracy", ACCURACY % "top_k: 4", ONE_MAP, "top_k must be from 1 to cls_num: 3, not 4"),
    ("DetectionGroupLoss", GROUP_LOSS % "", [(2, 3, 2, 3), (2, 4, 2, 3), (2, 6, 2, 3)], "must be N·3×3×H×W"),
    ("DetectionGroupLoss", GROUP_LOSS % "", [(3, 3, 2, 3), (3, 5, 2, 3), (3, 6, 2, 3)], "'b1' .* must be 3×4×2×3"),
    ("DetectionGroupLoss", GROUP_LOSS % "", [(3, 3, 2, 3), (3, 4, 2, 3), (3, 5, 2, 3)], "'b2' .* must be 3×6×2×3"),
    ("DetectionGroupLoss", GROUP_LOSS % "batch_size: 0", THREE_MAPS, "batch_size must be positive, or -1 for all"),
    (
        "DetectionGroupLoss",
        GROUP_LOSS.replace("bootstrap", "hard") % "",
        THREE_MAPS,
        "neg_mining_type is 'hard'; it must",
    ),
    (
        "DetectionGroupLoss",
        GROUP_LOSS % "neg_ranking_type: ''",
        THREE_MAPS,
        "neg_ranking_type is ''; it must be one of",
    ),
    ("DetectionGroupLoss", GROUP_LOSS % "bbox_loss_type: 'IOU'", THREE_MAPS, "bbox_loss_type is 'IOU'; it must be one"),
]
