"""Sheets of images: what is drawn where, for images and boxes of all forms."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe.detection import cases, sheets, voc
from caffe.detection.box_drawing import Image, class_color
from caffe.detection.image_folder import Images
from caffe.errors import DataError
from tests.detection.made import detections_of, square, truth_of


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """Gray images: a wide one, a tall one, and one of a few pixels."""
    for name, height, width in (("a.jpg", 60, 120), ("b.png", 200, 50), ("c.jpg", 4, 3)):
        cv2.imwrite(str(tmp_path / name), np.full((height, width, 3), 128, np.uint8))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    return Images(tmp_path)


def has(image: Image, color: tuple[int, int, int]) -> bool:
    return bool((image == color).all(axis=2).any())


def where(image: Image, color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """The corners of what has a color: xmin, ymin, xmax, ymax."""
    rows, columns = np.nonzero((image == color).all(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def test_images(images: Images, tmp_path: Path) -> None:
    assert images.find("a") == tmp_path / "a.jpg"
    assert images.read("b.png").shape == (200, 50, 3)
    with pytest.raises(DataError, match="image 'z' is not in"):
        images.read("z")
    with pytest.raises(DataError, match=r"broken\.jpg: cannot decode"):
        images.read("broken")
    with pytest.raises(DataError, match="is not a directory"):
        Images(tmp_path / "none")


def test_side_by_side(images: Images) -> None:
    truth = truth_of(("a", "cat", (1, 1, 60, 60), False), ("b", "cat", square(1), False))
    models = {
        "SSD": {"cat": detections_of(("a", 0.5, (1, 1, 60, 60)))},
        "MDSSD": {"cat": detections_of(("a", 0.9, (1, 1, 60, 60)))},
    }
    sheet = sheets.side_by_side(images, ["a", "b"], truth, models)
    assert sheet.shape[1] == sheets.WIDTH
    assert sheet.dtype == np.uint8
    color = class_color(0)
    thirds = np.array_split(sheet[: sheet.shape[0] // 3], 3, axis=1)
    # the object, nothing of the first model (0.5 is below 0.6), the second model's detection
    assert [has(third, color) for third in thirds] == [True, False, True]


def test_a_box_is_drawn_at_its_place(images: Images) -> None:
    case = cases.ImageScore("a", 0.5, 1, 0, 0)
    truth = truth_of(("a", "cat", (30, 15, 90, 45), True))
    sheet = sheets.image_sheet(images, [case], truth, {})
    # the tile is 512 pixels wide behind a gap of 16, so its scale is 512 / 120; lines are 3 pixels wide
    scale = 512 / 120
    expected = [16 + 30 * scale, 16 + 15 * scale, 16 + 90 * scale, 16 + 45 * scale]
    assert where(sheet, sheets.GREEN) == pytest.approx(expected, abs=2.5)


def test_false_and_missed(images: Images) -> None:
    near = cases.Near("dog", (200.0, -5.0, 300.0, 20.0), 0.0, difficult=True)
    false = [
        cases.FalseDetection("a", "cat", 0.9, (1, 1, 20, 20), "bg", False, near),
        cases.FalseDetection("b", "猫 $x$", 0.8, (-50, -50, 500, 500), "loc", True, None),
        cases.FalseDetection("c", "cat", 0.7, (3, 3, 1, 1), "oth", False, near),
        cases.FalseDetection("a", "x" * 300, 0.7, (90, 50, 119, 59), "sim", False, near),
    ]
    sheet = sheets.false_sheet(images, false)
    assert sheet.shape[1] == sheets.WIDTH
    assert has(sheet, sheets.RED)
    missed = [
        cases.MissedObject("b", "cat", square(30, 190), 0.93, None),
        cases.MissedObject("a", "cat", square(1), 0.5, near),
    ]
    sheet = sheets.missed_sheet(images, missed)
    left, right = sheet[:, :532], sheet[:, 532:]
    assert has(left, sheets.ORANGE)
    assert has(right, sheets.ORANGE)


def test_best_and_worst(images: Images) -> None:
    truth = truth_of(("a", "cat", square(1), False), ("b", "cat", square(1), False))
    found = {"cat": detections_of(("a", 0.9, square(1)), ("b", 0.9, square(30, 100)))}
    best, worst = cases.best_and_worst(cases.image_scores(truth, found), 1)
    first = sheets.image_sheet(images, best, truth, found)
    last = sheets.image_sheet(images, worst, truth, found)
    assert (has(first, sheets.BLUE), has(first, sheets.RED)) == (True, False)
    assert (has(last, sheets.BLUE), has(last, sheets.RED)) == (False, True)


def test_texts_do_not_cover_each_other(images: Images) -> None:
    """Ten objects at one place: their names are stacked."""
    truth = truth_of(*(("a", f"class {i}", (40, 20, 60, 40), False) for i in range(4)))
    sheet = sheets.side_by_side(images, ["a"], truth, {"SSD": {}})
    colors = [class_color(i) for i in range(4)]
    patches = [int((sheet == color).all(axis=2).sum()) for color in colors]
    assert min(patches) > 500


def test_no_detections_at_all(images: Images) -> None:
    truth = truth_of(("a", "cat", square(1), False))
    nothing = voc.Detections((), np.zeros(0), np.zeros((0, 4)))
    assert has(
        sheets.image_sheet(images, cases.image_scores(truth, {"cat": nothing}), truth, {"cat": nothing}), sheets.GREEN
    )
