"""DetectionEvaluate by hand: the rows for given boxes; the reference cases are in tests/golden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import caffe
from caffe.errors import CaffeError

NONE = [0, -1, -1, -1, -1, -1, -1]


def evaluate(folder: Path, detections: list[Any], truth: list[Any], settings: str = "") -> list[list[float]]:
    """Rows of detections (image, label, score, box) against truth (image, label, box, difficult), 3 classes."""
    text = f"""
      layer {{ name: "data" type: "Input" top: "det" top: "gt" input_param {{
        shape {{ dim: 1 dim: 1 dim: {len(detections)} dim: 7 }} shape {{ dim: 1 dim: 1 dim: {len(truth)} dim: 8 }} }} }}
      layer {{ name: "eval" type: "DetectionEvaluate" bottom: "det" bottom: "gt" top: "e"
        detection_evaluate_param {{ num_classes: 3 {settings} }} }}"""
    path = folder / "net.prototxt"
    path.write_text(text)
    net = caffe.Net(str(path), caffe.TEST)
    net.blobs["det"].data[0, 0] = detections
    net.blobs["gt"].data[0, 0] = [[g[0], g[1], 0, *g[2:7]] for g in truth]
    return [[float(v) for v in row] for row in net.forward()["e"][0, 0]]


WHOLE, HALF, CORNER = [0, 0, 1, 1], [0, 0, 0.5, 1], [0.9, 0.9, 1, 1]


def test_best_first_second_of_one_object_is_false(tmp_path: Path) -> None:
    rows = evaluate(
        tmp_path,
        [[0, 1, 0.5, *WHOLE], [0, 1, 0.9, *HALF], [0, 1, 0.1, *CORNER], [0, 2, 0.3, *WHOLE]],
        [[0, 1, *WHOLE, 0], [2, 2, *WHOLE, 0]],
    )
    expected = [
        [-1, 1, 1, -1, -1], [-1, 2, 1, -1, -1],
        [0, 1, 0.9, 1, 0], [0, 1, 0.5, 0, 1], [0, 1, 0.1, 0, 1], [0, 2, 0.3, 0, 1],
    ]  # fmt: skip
    np.testing.assert_allclose(np.array(rows), np.array(expected))


def test_difficult_objects(tmp_path: Path) -> None:
    found, truth = [[0, 1, 0.9, *WHOLE], [0, 1, 0.8, *WHOLE]], [[0, 1, *WHOLE, 1]]
    ignored = evaluate(tmp_path, found, truth, "evaluate_difficult_gt: false")
    assert [row[2:] for row in ignored[:1]] == [[0, -1, -1]]
    assert [row[3:] for row in ignored[2:]] == [[0, 0], [0, 0]]
    counted = evaluate(tmp_path, found, truth, "evaluate_difficult_gt: true")
    assert counted[0][2] == 1
    assert [row[3:] for row in counted[2:]] == [[1, 0], [0, 1]]


def test_nothing_found_and_nothing_there(tmp_path: Path) -> None:
    rows = evaluate(tmp_path, [NONE], [[-1] * 7])
    assert rows == [[-1, 1, 0, -1, -1], [-1, 2, 0, -1, -1]]


def test_sizes_go_on_by_whole_batches(tmp_path: Path) -> None:
    """An image without detections also counts in the list of sizes. In pixels, the border makes a thin box larger."""
    (tmp_path / "sizes").write_text("a 100 100\nb 100 100\nc 2 2\n")
    settings = f'overlap_threshold: 0.6 name_size_file: "{tmp_path}/sizes"'
    # half of the image; with borders, 2 × 3 of 3 × 3 pixels
    batch = [[2, 1, 0.9, *HALF]], [[2, 1, *WHOLE, 0]]
    assert evaluate(tmp_path, *batch, settings)[2][3:] == [1, 0]
    assert evaluate(tmp_path, [[0, 1, 0.9, *HALF]], [[0, 1, *WHOLE, 0]], settings)[2][3:] == [0, 1]


@pytest.mark.parametrize(
    ("detections", "truth", "settings", "message"),
    [
        ([[0, 0, 0.5, *WHOLE]], [[0, 1, *WHOLE, 0]], "", "Found background label 0 in the detection results"),
        ([NONE], [[0, 0, *WHOLE, 0]], "", "Found background label 0 in the dataset"),
        ([NONE], [[0, 1, *WHOLE, 0]], "overlap_threshold: 0", "overlap_threshold must be over 0"),
        ([NONE], [[0, 1, *WHOLE, 0]], 'name_size_file: "none"', "cannot open name size file 'none'"),
    ],
)
def test_errors(tmp_path: Path, detections: list[Any], truth: list[Any], settings: str, message: str) -> None:
    with pytest.raises(CaffeError, match=rf"layer 'eval' \(DetectionEvaluate\): {message}"):
        evaluate(tmp_path, detections, truth, settings)
