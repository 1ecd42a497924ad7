"""The file for COCO's test server: its name and contents, and every fault that the server would refuse."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from caffe.cli.score_coco import main
from caffe.detection.coco_submission import file_name, write_submission
from caffe.errors import CaffeError, DataError


@pytest.fixture
def info(tmp_path: Path) -> Path:
    data = {"images": [{"id": 7, "width": 100, "height": 50}, {"id": 8, "width": 64, "height": 64}],
            "categories": [{"id": 3, "name": "cat"}]}  # fmt: skip
    path = tmp_path / "image_info.json"
    path.write_text(json.dumps(data))
    return path


def write(folder: Path, *found: Any) -> Path:
    path = folder / "results.json"
    path.write_text(json.dumps(found))
    return path


def entry(**changes: Any) -> dict[str, Any]:
    return {"image_id": 7, "category_id": 3, "bbox": [90.0, 0, 10.01, 50], "score": 0.5, **changes}


def test_file(info: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, *[entry(extra=1)] * 101)
    out = tmp_path / "upload"
    assert main([str(path), str(info), "--submit", str(out), "--algorithm", "mdssd300"]) == 0
    name = "detections_test-dev2017_mdssd300_results"
    assert sorted(p.name for p in out.iterdir()) == [f"{name}.json", f"{name}.zip"]
    values = json.loads((out / f"{name}.json").read_text())
    assert values == [entry()] * 101
    with zipfile.ZipFile(out / f"{name}.zip") as archive:
        assert archive.namelist() == [f"{name}.json"]
        assert json.loads(archive.read(f"{name}.json")) == values
    text = capsys.readouterr().out
    assert "2 images, 101 detections: all ids, boxes and scores are valid" in text
    assert "Images without a detection: 1." in text
    assert "Images with more than 100 detections, of which the server takes the best: 1" in text


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (entry(image_id=9), "image_id 9 is not in the set"),
        (entry(image_id="7"), "image_id '7' is not in the set"),
        (entry(category_id="cat"), "category_id 'cat' is not one of the set's"),
        (entry(category_id=True), "category_id True is not"),
        (entry(bbox=[0, 0, 1]), "is not .x, y, width, height. of finite numbers"),
        (entry(bbox=[0, 0, float("nan"), 1]), "of finite numbers"),
        (entry(bbox=[5, 5, 0, 1]), "has no area"),
        (entry(bbox=[90, 0, 10.5, 50]), "is not inside image 7, which is 100 x 50 pixels"),
        (entry(bbox=[-1, 0, 10, 50]), "is not inside image 7"),
        (entry(score=float("inf")), "score inf is not a number from 0 to 1"),
        (entry(score=85.0), "score 85.0 is not"),
        (entry(score=None), "score None is not"),
        ("x", "not a JSON object"),
    ],
)
def test_faults(info: Path, tmp_path: Path, bad: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"detection 1: .*{message}"):
        write_submission(write(tmp_path, entry(), bad, entry()), info, tmp_path / "upload", "x")
    assert not (tmp_path / "upload").exists()


def test_a_directory_that_was_there_stays(info: Path, tmp_path: Path) -> None:
    (tmp_path / "upload").mkdir()
    with pytest.raises(DataError):
        write_submission(write(tmp_path, entry(score=2)), info, tmp_path / "upload", "x")
    assert list((tmp_path / "upload").iterdir()) == []


def test_many_faults_are_one_message(info: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        write_submission(write(tmp_path, *[entry(score=2)] * 500), info, tmp_path, "x")
    assert len(str(error.value).splitlines()) < 60


def test_nothing_to_submit(info: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to submit"):
        write_submission(write(tmp_path), info, tmp_path, "x")


def test_an_older_file_stays(info: Path, tmp_path: Path) -> None:
    written = write_submission(write(tmp_path, entry()), info, tmp_path, "x")
    before = written.json.read_text()
    with pytest.raises(DataError):
        write_submission(write(tmp_path, entry(score=2)), info, tmp_path, "x")
    assert written.json.read_text() == before


def test_other_info_files(info: Path, tmp_path: Path) -> None:
    path = write(tmp_path, entry())
    info.write_text('{"images": []}')
    with pytest.raises(DataError, match="has no list 'categories'"):
        write_submission(path, info, tmp_path, "x")
    info.write_text('{"images": [{"id": 7}], "categories": []}')
    with pytest.raises(DataError, match="lacks id, width or height"):
        write_submission(path, info, tmp_path, "x")


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "a/b", "é"])
def test_names(name: str) -> None:
    assert file_name("test-dev2017", "MDSSD_300") == "detections_test-dev2017_MDSSD_300_results.json"
    with pytest.raises(CaffeError, match="must consist of letters"):
        file_name("test-dev2017", name)
