"""COCO scoring: pycocotools' numbers on a set so small that they are known, with ids and names as in results files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from caffe.cli.score_coco import main
from caffe.detection import coco
from caffe.errors import DataError


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """A small and a large object in two images, two classes."""
    boxes = [(1, 7, 3, [10, 10, 20, 20]), (2, 8, 9, [0, 0, 200, 200])]
    data = {
        "images": [{"id": 7, "file_name": "x_000000000007.jpg"}, {"id": 8, "file_name": "x_000000000008.jpg"}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": image, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for i, image, c, b in boxes
        ],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(data))
    return path


def results(folder: Path, *entries: Any) -> Path:
    path = folder / "results.json"
    path.write_text(json.dumps(entries))
    return path


def entry(image: Any, category: Any, box: list[float]) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, "score": 0.9}


@pytest.mark.parametrize("image", [7, "7", "000007", "x_000000000007", "x_000000000007.jpg"])
@pytest.mark.parametrize("category", [3, "3", "cat"])
def test_small_object_found(annotations: Path, tmp_path: Path, image: Any, category: Any) -> None:
    score = coco.evaluate(results(tmp_path, entry(image, category, [10, 10, 20, 20])), annotations)
    assert score.measures["AP"] == pytest.approx(0.5)
    assert score.measures["AP small"] == pytest.approx(1)
    assert score.measures["AP large"] == 0
    assert score.measures["AP medium"] == -1
    assert score.classes["cat"] == pytest.approx((1, 1))
    assert score.classes["dog"] == (0, 0)


def test_command(annotations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = results(tmp_path, entry(7, 3, [10, 10, 20, 20]))
    (tmp_path / "ids").write_text("7\n")
    assert main([str(path), str(annotations), "--list", str(tmp_path / "ids"), "--out", str(tmp_path / "o.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 images, 1 detections"
    assert "AP small   100.0" in lines
    assert json.loads((tmp_path / "o.json").read_text())["measures"]["AP"] == pytest.approx(1)


def test_no_detections(annotations: Path, tmp_path: Path) -> None:
    assert coco.evaluate(results(tmp_path), annotations).measures["AP"] == 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (entry(99, 3, [0, 0, 1, 1]), "detection 0: image_id 99 is not in the annotations"),
        (entry(7, "cow", [0, 0, 1, 1]), "category_id 'cow' is not in the annotations"),
        (entry(7, 3, [0, 0, 1]), "bbox is not"),
        ({"image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1]}, "has no score"),
        (5, "is not a JSON object"),
    ],
)
def test_bad_results(annotations: Path, tmp_path: Path, bad: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        coco.evaluate(results(tmp_path, bad), annotations)


def test_files_that_are_none(annotations: Path, tmp_path: Path) -> None:
    path = results(tmp_path)
    with pytest.raises(DataError, match="cannot read annotation file"):
        coco.evaluate(path, tmp_path / "none.json")
    with pytest.raises(DataError, match="not a COCO instances file: it has no 'images'"):
        coco.evaluate(path, path)
    path.write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        coco.evaluate(path, annotations)
