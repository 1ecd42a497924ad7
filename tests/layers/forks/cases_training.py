"""Of NVIDIA's Caffe and SegNet's: cases for the tests of every type, bottoms of no items, settings that are refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.layer_harness import Array, Bottom, Case, Shape, labels
from tests.reference import losses

WEIGHTED = "loss_param { weight_by_label_freqs: true class_weighting: [0.5, 2, 0, 1.25] %s }"
SCORES = Bottom((2, 4, 3, 2))


def weighted_softmax_loss(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    """Each label's own loss, by the unweighted reference, times its class's weight."""
    p = param.loss_param
    scores = np.moveaxis(bottoms[0], 1, -1).reshape(-1, 4)
    single = type(param)()
    single.CopyFrom(param)
    single.loss_param.normalization = losses.NONE
    total, valid = 0.0, 0
    for row, label in zip(scores, bottoms[1].ravel(), strict=True):
        ((loss, *_),) = (losses.softmax_loss(single, [row[None], np.array([label])], blobs, phase),)
        total += float(loss) * p.class_weighting[int(label)]
        valid += not (p.HasField("ignore_label") and label == p.ignore_label)
    return [np.array(total / (valid if p.normalization == losses.VALID else len(bottoms[0])))]


def l1_loss(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    return [np.array(sum(abs(a - b) for a, b in zip(*(x.ravel() for x in bottoms), strict=True)) / len(bottoms[0]))]


CENTER = "center_loss_param { num_output: 3 center_filler { type: 'gaussian' } }"


def center_loss(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    x = bottoms[0].reshape(len(bottoms[0]), -1)
    rows = [x[m] - blobs[0][int(label)] for m, label in enumerate(bottoms[1].ravel())]
    return [np.array(sum((row**2).sum() for row in rows) / len(x) / 2)]


CASES = [
    Case("CenterLoss", CENTER, [Bottom((5, 4)), labels(5, classes=3)], center_loss),
    Case("CenterLoss", CENTER, [Bottom((4, 2, 2, 1)), labels(4, 1, 1, 1, classes=2)], center_loss),
    Case("L1Loss", "", [Bottom((3, 2, 4)), Bottom((3, 8))], l1_loss),
    *(
        Case("SoftmaxWithLoss", WEIGHTED % options, [SCORES, labels(2, 1, 3, 2, classes=4)], weighted_softmax_loss)
        for options in ("", "ignore_label: 1", "normalize: false normalization: BATCH_SIZE")
    ),
]

EMPTY: list[tuple[str, str, list[Shape], Shape]] = [
    ("L1Loss", "", [(0, 3)] * 2, ()),
    ("CenterLoss", CENTER, [(0, 3), (0,)], ()),
]

BAD: list[tuple[str, str, list[Shape], str]] = [
    ("CenterLoss", "", [(2, 3), (2,)], "num_output must be given: the number of classes"),
    ("CenterLoss", CENTER, [(2, 3), (2, 2)], "needs one label for each of 2 items; 'b1' is 2×2"),
    ("CenterLoss", CENTER, [(2, 3), (3,)], "first axes .the batch. must agree"),
    ("CenterLoss", CENTER.replace("num", "axis: 2 num"), [(2, 3, 4), (2,)], "axis 2 would leave out values of 2×3×4"),
    ("CenterLoss", CENTER.replace("num", "axis: 2 num"), [(2, 3), (2,)], "axis 2 is out of range"),
    ("L1Loss", "", [(2, 3), (2, 4)], "its bottoms must have the same size; they are 2×3 and 2×4"),
    (
        "SoftmaxWithLoss",
        "loss_param { weight_by_label_freqs: true }",
        [(1, 4), (1,)],
        "needs class_weighting, one weight for each class",
    ),
    ("SoftmaxWithLoss", WEIGHTED % "", [(2, 3), (2,)], "has 4 class_weighting for the 3 classes of 2×3"),
    (
        "DenseImageData",
        "dense_image_data_param { batch_size: 1 crop_height: 2 }",
        [],
        "needs crop_height and crop_width together",
    ),
    ("DenseImageData", "dense_image_data_param { new_height: 2 batch_size: 1 }", [], "needs new_height and new_width"),
    ("DenseImageData", "", [], "needs a batch_size over 0"),
    (
        "DenseImageData",
        "dense_image_data_param { batch_size: 1 } transform_param { crop_size: 3 mirror: true }",
        [],
        "transform_param has .*crop_size.*, which would change the image and not its labels",
    ),
]
