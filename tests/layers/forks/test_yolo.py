"""YOLO's layers where the general tests do not reach: the losses' gradients, order, equal scores, bad labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from caffe.errors import NetError
from tests.layer_harness import Case, gradients, make_layer, run
from tests.layers.comparison import drawn
from tests.layers.forks.cases_yolo import CASES, REGION, V2, V3, YOLOV3
from tests.reference import yolo


@pytest.mark.parametrize("case", [c for c in CASES if c.type == "RegionLoss"], ids=str)
def test_region_loss_gradient_is_the_forks(case: Case) -> None:
    x, boxes = drawn(case)
    layer = case.layer()
    found, none = gradients(layer, [x, boxes], np.array(2.5))
    np.testing.assert_allclose(
        found, 2.5 * yolo.region_differences(layer.param, x, boxes) / len(x), rtol=1e-6, atol=1e-9
    )
    assert not none.any()


@pytest.mark.parametrize("case", [c for c in CASES if c.type == "Yolov3"], ids=str)
def test_yolov3_gradient_is_the_forks(case: Case) -> None:
    x, boxes = drawn(case)
    layer = case.layer()
    found, none = gradients(layer, [x, boxes], np.array(2.5))
    expected = 2.5 * yolo.yolov3_differences(layer.param, x, boxes)[1] / len(x)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    assert not none.any()


@pytest.mark.parametrize("options", ["", "use_focal_loss: true", "label_smooth_eps: 0 iou_thresh: 0.1"])
def test_boxes_of_one_anchor_add_their_classes(options: str) -> None:
    """Three boxes at each of the taught anchors, two of one class: both classes are."""
    x = np.random.default_rng(0).normal(size=(1, 16, 4, 4))
    rows = boxes([0, 0.3, 0.3, 0.3, 0.4], [2, 0.31, 0.35, 0.32, 0.4], [2, 0.32, 0.3, 0.31, 0.4])
    layer = make_layer("Yolov3", YOLOV3 % options, [(1, 16, 4, 4), (1, 20)])
    found, _ = gradients(layer, [x, rows])
    np.testing.assert_allclose(found, yolo.yolov3_differences(layer.param, x, rows.numpy())[1], rtol=1e-6)
    lessons = found.numpy().reshape(2, 8, 16).transpose(0, 2, 1).reshape(-1, 8)[:, 5:]
    taught = lessons[lessons.any(axis=1)]
    assert len(taught)
    assert (taught[:, [0, 2]] < 0).all()
    assert (taught[:, 1] > 0).all()


def region_layer(options: str = "") -> Any:
    return make_layer("RegionLoss", REGION % options, [(1, 16, 4, 4), (1, 20)])


def boxes(*rows: list[float]) -> torch.Tensor:
    table = torch.zeros(1, 4, 5, dtype=torch.float64)
    for i, row in enumerate(rows):
        table[0, i] = torch.tensor(row)
    return table.reshape(1, 20)


def test_of_two_boxes_with_one_anchor_the_later_counts() -> None:
    x = torch.randn(1, 16, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first, second = [0.0, 0.3, 0.3, 0.26, 0.38], [2.0, 0.31, 0.35, 0.25, 0.4]
    layer = region_layer("thresh: 1")
    both, later = (gradients(layer, [x, boxes(*rows)])[0] for rows in ((first, second), (second,)))
    torch.testing.assert_close(both, later)
    assert not torch.equal(both, gradients(layer, [x, boxes(second, first)])[0])


def test_boxes_end_at_the_first_of_no_width() -> None:
    x = torch.randn(1, 16, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layer = region_layer()
    box = [1.0, 0.6, 0.6, 0.3, 0.3]
    one = run(layer, x, boxes(box))[0]
    assert run(layer, x, boxes(box, [0] * 5, [1.0, 0.1, 0.1, 0.3, 0.3]))[0] == one


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([3, 0.5, 0.5, 0.1, 0.1], "class 3 in 'b1' is not one of num_class: 3 .0 to 2."),
        ([0, 1.0, 0.5, 0.1, 0.1], "a box in 'b1' has its center outside the image"),
        ([0, 0.5, -0.3, 0.1, 0.1], "a box in 'b1' has its center outside the image"),
    ],
)
def test_boxes_that_cannot_be(row: list[float], message: str) -> None:
    for layer in (region_layer(), make_layer("Yolov3", YOLOV3 % "", [(1, 16, 4, 4), (1, 20)])):
        with pytest.raises(NetError, match=message):
            run(layer, torch.zeros(1, 16, 4, 4, dtype=torch.float64), boxes(row))


def test_equal_scores_keep_the_order_of_cells_and_a_box_suppresses_other_classes() -> None:
    """All predictions equal: every cell's box of the same score, in reading order, and of its classes the first alone."""
    layer = make_layer("Yolov3DetectionOutput", V3 % "", [(1, 16, 3, 4)])
    rows = run(layer, torch.zeros(1, 16, 3, 4))[0].reshape(-1, 7)
    expected = yolo.yolov3_detection_output(layer.param, [np.zeros((1, 16, 3, 4))], [], 1)[0].reshape(-1, 7)
    np.testing.assert_allclose(rows, expected, rtol=1e-6)
    assert set(rows[:, 1].tolist()) == {1.0}


def test_an_overlap_of_exactly_the_threshold_is_too_much() -> None:
    """Two anchors of one center: 2 × 1 and 1 × 1 cells, whose overlap is 1 / 2."""
    text = "yolo_detection_output_param {{ num_classes: 1 num_box: 2 biases: [2, 1, 1, 1] nms_threshold: {} }}"
    for threshold, left in ((0.5, 1), (0.51, 2)):
        layer = make_layer("YoloDetectionOutput", text.format(threshold), [(1, 12, 1, 1)])
        assert run(layer, torch.zeros(1, 12, 1, 1))[0].shape == (1, 1, left, 7)


def test_each_image_of_a_batch_is_by_itself() -> None:
    x = torch.randn(2, 16, 3, 4, generator=torch.Generator().manual_seed(1))
    layer = make_layer("YoloDetectionOutput", V2 % "confidence_threshold: 0.3", [(2, 16, 3, 4)])
    both = run(layer, x)[0].reshape(-1, 7)
    for image in range(2):
        alone = run(layer, x[image : image + 1])[0].reshape(-1, 7)
        torch.testing.assert_close(both[both[:, 0] == image][:, 1:], alone[:, 1:])
    assert not layer.takes_gradient(0)
    assert layer.graph_obstacle()
