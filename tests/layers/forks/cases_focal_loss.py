"""FocalLoss: cases for the tests of every type, bottoms of no items, and settings that are refused."""

from __future__ import annotations

from tests.layer_harness import Bottom, Case, Shape, labels
from tests.reference.focal_loss import focal_loss_layer

SCORES = Bottom((2, 4, 3, 2))


def focal(text: str, scores: Bottom = SCORES, label: Bottom | None = None, tops: int = 1) -> Case:
    return Case("FocalLoss", text, [scores, label or labels(2, 1, 3, 2, classes=4)], focal_loss_layer, tops)


CASES = [
    focal(""),
    focal("focal_loss_param { alpha: 0.75 gamma: 0.5 } loss_param { ignore_label: 2 }", tops=2),
    focal("focal_loss_param { alpha: 3 gamma: 0 } loss_param { normalization: NONE }"),
    focal(
        "focal_loss_param { gamma: 5 axis: -1 } loss_param { normalize: true }", Bottom((4, 3)), labels(4, classes=3)
    ),
    focal("softmax_param { axis: 2 } loss_param { normalization: BATCH_SIZE }", label=labels(2, 4, 2, classes=3)),
]

EMPTY: list[tuple[str, str, list[Shape], Shape]] = [("FocalLoss", "", [(0, 3), (0,)], ())]

BAD: list[tuple[str, str, list[Shape], str]] = [
    ("FocalLoss", "focal_loss_param { alpha: 0 }", [(2, 3), (2,)], "alpha must be positive, not 0"),
    ("FocalLoss", "focal_loss_param { alpha: nan }", [(2, 3), (2,)], "alpha must be positive, not nan"),
    ("FocalLoss", "focal_loss_param { gamma: -1 }", [(2, 3), (2,)], "gamma must be at least 0, not -1"),
    ("FocalLoss", "focal_loss_param { gamma: inf }", [(2, 3), (2,)], "gamma must be at least 0, not inf"),
    ("FocalLoss", "focal_loss_param { axis: 2 }", [(2, 3), (2,)], "axis 2 is out of range"),
    (
        "FocalLoss",
        "focal_loss_param { axis: 2 } softmax_param { axis: 1 }",
        [(2, 3, 4), (2, 3)],
        r"the axes of focal_loss_param \(2\) and softmax_param \(1\) must agree",
    ),
    ("FocalLoss", "", [(2, 3), (3,)], "the batch"),
    ("FocalLoss", "", [(2, 3), (2, 2)], "needs 2 labels; 'b1' 2×2 has 4"),
    ("FocalLoss", "", [(2, 3), (2, 3)], "'b1' 2×3 has a label for each score"),
]
