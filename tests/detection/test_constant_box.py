"""What the same box in every picture scores."""

from __future__ import annotations

import numpy as np
import pytest

from caffe.detection.constant_box import best_box, constant_box_score
from caffe.detection.voc import GroundTruth, Objects

MIDDLE = np.array([[0.25, 0.25, 0.75, 0.75]])


def test_the_box_that_finds_most() -> None:
    """Two kinds of places: the mean of all boxes finds neither, a box of the larger kind finds that kind."""
    left, right = np.array([[0.0, 0.0, 0.2, 0.2]]), np.array([[0.8, 0.8, 1.0, 1.0]])
    assert best_box([left, right, right]).tolist() == right[0].tolist()
    assert best_box([np.empty((0, 4)), left]).tolist() == left[0].tolist()
    jittered = [MIDDLE + shift for shift in np.linspace(-0.1, 0.1, 9)]
    assert best_box(jittered) == pytest.approx(MIDDLE[0])
    with pytest.raises(ValueError, match="no boxes"):
        best_box([np.empty((0, 4))])


def truth(*images: list[list[float]]) -> GroundTruth:
    names = tuple(f"i{index}" for index in range(len(images)))
    objects = {
        name: Objects(np.array(boxes, np.float64).reshape(-1, 4), np.zeros(len(boxes), bool))
        for name, boxes in zip(names, images, strict=True) if boxes
    }  # fmt: skip
    return GroundTruth(names, {"cat": objects})


def test_scores() -> None:
    """Images of different sizes; half of them have the object in the middle, first or last in the list."""
    sizes = {f"i{index}": (100, 200) if index % 2 else (50, 50) for index in range(4)}
    middle = {name: [width / 4, height / 4, width * 3 / 4, height * 3 / 4] for name, (height, width) in sizes.items()}
    corner = [0.0, 0.0, 5.0, 5.0]

    def score(*found: bool) -> float:
        images = [[middle[f"i{index}"] if each else corner] for index, each in enumerate(found)]
        return constant_box_score({"cat": [MIDDLE]}, truth(*images), sizes, eleven_points=False)["cat"]

    assert score(True, True, True, True) == pytest.approx(1.0)
    assert score(False, False, False, False) == 0.0
    assert score(True, True, False, False) == pytest.approx(0.5)
    assert score(False, False, True, True) == pytest.approx(0.25 * 0.5 + 0.25 * 0.5)


def test_a_class_without_training_boxes() -> None:
    assert constant_box_score({"cat": [np.empty((0, 4))]}, truth([]), {"i0": (9, 9)}, eleven_points=True) == {
        "cat": 0.0
    }
