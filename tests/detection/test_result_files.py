"""The files DetectionOutput writes: formats, rounds, their state in between, and settings that do not fit."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffe.detection.result_files import FORMATS, ResultFiles, wanted
from caffe.errors import CaffeError, DataError, NetError, WriteError
from caffe.proto import caffe_pb2
from caffe.runtime import runtime


@pytest.fixture
def param(tmp_path: Path) -> Any:
    items = [("background", 0), ("1", 1), ("17", 2)]
    (tmp_path / "map.prototxt").write_text("".join(f'item {{ name: "{n}" label: {i} }}\n' for n, i in items))
    (tmp_path / "sizes.txt").write_text("000012 100 200\nsecond 50 50\nthird 10 10\n")
    return caffe_pb2.SaveOutputParameter(
        output_directory=str(tmp_path / "deep" / "results"), output_name_prefix="det_", output_format="VOC",
        label_map_file=str(tmp_path / "map.prototxt"), name_size_file=str(tmp_path / "sizes.txt"),
    )  # fmt: skip


ROWS = np.array(
    [[0, 1, 0.1234567, 0.1, 0.2, 0.4999, 0.6], [0, 2, 1e-5, -1, 0, 2, 1], [1, 1, 0.5, 0.5, 0.5, 0.7, 0.8]], np.float32
)


def text(param: Any, name: str) -> str:
    return (Path(param.output_directory) / name).read_text()


def test_voc(param: Any) -> None:
    """Left and top are truncated to whole pixels, and so are width and height, which are added: as in the original."""
    ResultFiles(param, 3, 0).add(ROWS, 3)
    assert text(param, "det_1.txt") == "000012 0.123457 20 20 99 60\nsecond 0.5 25 25 35 40\n"
    assert text(param, "det_17.txt") == "000012 1e-05 0 0 200 100\n"


def test_ilsvrc(param: Any) -> None:
    param.output_format = "ILSVRC"
    ResultFiles(param, 3, 0).add(ROWS, 3)
    assert text(param, "det_.txt").splitlines()[1] == "000012 2 1e-05 0 0 200 100"


def test_coco(param: Any) -> None:
    """Ids are numbers even if names have leading zeros; so are very small scores."""
    param.output_format = "COCO"
    ResultFiles(param, 3, 0).add(ROWS, 3)
    found = json.loads(text(param, "det_.json"))
    assert found[0] == {"image_id": 12, "category_id": 1, "bbox": [20.0, 20.0, 79.98, 40.0], "score": 0.1234567}
    assert found[1]["score"] == 1e-05
    assert found[2]["image_id"] == "second"


def test_files_are_replaced_when_the_last_image_has_passed(param: Any) -> None:
    """Those of an earlier run, and those of an earlier round."""
    files = ResultFiles(param, 3, 0)
    stale = files.paths()[0]
    stale.write_text("old\n")
    files.add(ROWS, 2)
    assert stale.read_text() == "old\n"
    files.add(ROWS[:0], 1)
    first = stale.read_text()
    assert first.count("\n") == 2
    files.add(ROWS[2:], 2)
    assert stale.read_text() == first
    files.add(ROWS[:0], 1)
    assert stale.read_text() == "second 0.5 25 25 35 40\n"
    assert sorted(p.name for p in files.folder.iterdir()) == ["det_1.txt", "det_17.txt"]


@pytest.mark.parametrize("form", FORMATS)
def test_a_folder_that_takes_nothing(
    param: Any, form: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Earlier results stay; while training it is a warning, once, until it works again."""
    param.output_format = form
    files = ResultFiles(param, 3, 0)
    files.add(ROWS, 3)
    before = {path: path.read_text() for path in files.paths()}
    hidden = files.folder.with_name("hidden")
    files.folder.rename(hidden)
    with pytest.raises(WriteError, match="does not exist"):
        files.add(ROWS[:0], 3)
    monkeypatch.setattr(runtime, "results_are_secondary", True)
    capfd.readouterr()
    files.add(ROWS[:0], 3)
    files.add(ROWS[:0], 3)
    hidden.rename(files.folder)
    assert {path: path.read_text() for path in files.paths()} == before
    files.add(ROWS[:0], 3)
    assert {path: path.read_text() for path in files.paths()} != before
    del files
    gc.collect()
    err = capfd.readouterr().err
    assert err.count("Training goes on without these results") == 1
    assert str(next(iter(before))) in err or str(list(before)[-1]) in err
    assert "images passed" not in err


def test_one_file_of_several_cannot_be_written(param: Any) -> None:
    files = ResultFiles(param, 3, 0)
    files.add(ROWS, 3)
    before = [path.read_text() for path in files.paths()]
    first, second = files.paths()
    second.unlink()
    second.mkdir()
    with pytest.raises(WriteError, match="it is a directory"):
        files.add(ROWS[:0], 3)
    assert first.read_text() == before[0]
    assert sorted(path.name for path in files.folder.iterdir()) == sorted([first.name, second.name])


def test_a_batch_may_straddle_the_end(param: Any) -> None:
    files = ResultFiles(param, 3, 0)
    files.add(ROWS, 3)
    files.add(np.array([[4, 1, 0.9, 0, 0, 1, 1]], np.float32), 5)  # images 1, 2, 3, then 1 and 2 again
    assert text(param, "det_1.txt") == ""
    files.add(ROWS[:0], 1)
    assert text(param, "det_1.txt") == "second 0.9 0 0 50 50\n"


def test_rows_of_no_detection_leave_empty_files(param: Any) -> None:
    ResultFiles(param, 3, 0).add(np.array([[i] + [-1] * 6 for i in range(3)], np.float32), 3)
    assert text(param, "det_1.txt") == ""


def test_a_run_that_ends_early_says_so(param: Any, capfd: pytest.CaptureFixture[str]) -> None:
    files = ResultFiles(param, 3, 0)
    files.add(ROWS, 2)
    del files
    gc.collect()
    assert "only 2 of num_test_image = 3 images passed" in capfd.readouterr().err


def test_more_images_than_the_list_has(param: Any) -> None:
    param.num_test_image = 4
    with pytest.raises(NetError, match=r"num_test_image is 4, but name_size_file '.*sizes.txt' lists 3 images"):
        ResultFiles(param, 3, 0)


@pytest.mark.parametrize("classes", [2, 4])
def test_label_map_of_other_classes(param: Any, classes: int) -> None:
    with pytest.raises(
        NetError, match=rf"num_classes is {classes}, but label map .* has labels 0 to 2: give num_classes: 3"
    ):
        ResultFiles(param, classes, 0)


def test_records_in_another_order(param: Any) -> None:
    files = ResultFiles(param, 3, 0)
    files.check_records(["00000000_a/000012.jpg", "00000001_second.png", "00000002_x/third"], "data layer 'd'")
    with pytest.raises(
        NetError,
        match=r"image 2 of name_size_file '.*' is 'second', but record 2 of data layer 'd' is '00000001_third'",
    ):
        files.check_records(["00000000_000012", "00000001_third", "00000002_second"], "data layer 'd'")


def test_records_of_another_number(param: Any) -> None:
    keys = ["00000000_000012", "00000001_second", "00000002_third", "00000003_000012"]
    with pytest.raises(NetError, match=r"lists 3 images, data layer 'd' has 4 records"):
        ResultFiles(param, 3, 0).check_records(keys, "data layer 'd'")
    param.num_test_image = 2  # deliberately a part of the set
    ResultFiles(param, 3, 0).check_records(keys, "data layer 'd'")


def test_names_from_elsewhere_are_only_counted(param: Any) -> None:
    ResultFiles(param, 3, 0).check_records([f"0000000{i}_val_{i}.jpg" for i in range(3)], "data layer 'd'")


def test_settings_that_name_no_files(param: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert wanted(param)
    param.ClearField("name_size_file")
    assert not wanted(param)
    assert "Provide name_size_file" in capfd.readouterr().err
    assert not wanted(caffe_pb2.SaveOutputParameter())


def test_bad_files(param: Any, tmp_path: Path) -> None:
    sizes = Path(param.name_size_file)
    sizes.write_text("a 10\n")
    with pytest.raises(DataError, match=r"line 1: 'a 10' is not `name height width`"):
        ResultFiles(param, 3, 0)
    sizes.write_text("a 10 0\n")
    with pytest.raises(DataError, match="a is 10 x 0 pixels"):
        ResultFiles(param, 3, 0)
    param.output_format = "YOLO"
    with pytest.raises(NetError, match="output_format 'YOLO' is unknown; known: VOC, COCO, ILSVRC"):
        ResultFiles(param, 3, 0)
    param.output_format = "VOC"
    sizes.write_text("a 10 10\n")
    (tmp_path / "file").write_text("")
    param.output_directory = str(tmp_path / "file" / "results")
    with pytest.raises(CaffeError, match="cannot create output_directory"):
        ResultFiles(param, 3, 0)
