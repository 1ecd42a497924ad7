"""Small inputs made after public reports, with the outcome that their users would have wanted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffe.cli import convert_annoset, create_list, train
from caffe.data.images import decode_datum
from caffe.data.lmdb_source import LmdbSource
from tests.pictures import read_picture

Case = Callable[[str], Path]


@pytest.fixture
def case(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Copies a case's folder and goes there."""

    def enter(name: str) -> Path:
        if not (shared / "cases" / name).is_dir():
            pytest.skip("needs the cases in ../shared")
        folder = tmp_path / name
        shutil.copytree(shared / "cases" / name, folder)
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)
        for made in ("snap", "res"):
            (folder / made).mkdir()
        monkeypatch.chdir(folder)
        return folder

    return enter


def convert(label_map: str = "labelmap.prototxt") -> int:
    return convert_annoset.main(
        ["-anno_type=detection", "-label_type=xml", f"-label_map_file={label_map}", "-check_label", "-encode_type=jpg",
         "-encoded", "-redo", ".", "list.txt", "db"]
    )  # fmt: skip


def box(record: Any) -> tuple[float, ...]:
    found = record.annotation_group[0].annotation[0].bbox
    return found.xmin, found.ymin, found.xmax, found.ymax


def test_turned_photograph(case: Case, capfd: pytest.CaptureFixture[str]) -> None:
    case("02_exif_turned")
    assert convert() == 0
    assert "1 of 1 images turned" in capfd.readouterr().err
    record = LmdbSource("db").annotated_datum(0)
    assert (record.datum.height, record.datum.width) == (80, 60)
    assert box(record) == pytest.approx((31 / 60, 41 / 80, 1, 1))
    difference = decode_datum(record.datum, "record").astype(int) - read_picture("a.jpg")  # which OpenCV turns
    assert np.abs(difference).mean() < 3


def test_file_without_its_last_bytes(case: Case, capfd: pytest.CaptureFixture[str]) -> None:
    case("03_truncated_jpeg")
    assert convert() == 0
    assert "1 of 1 images end early (truncated JPEG); the missing part is gray: a.jpg" in capfd.readouterr().err
    assert decode_datum(LmdbSource("db").annotated_datum(0).datum, "record").shape == (60, 80, 3)


def test_bytes_that_nobody_reads(case: Case) -> None:
    folder = case("05_xml_bytes")
    names = ("gb2312", "gbk", "ampersand", "latin1")
    (folder / "list.txt").write_text("".join(f"a.jpg {name}.xml\n" for name in names))
    assert convert() == 0
    source = LmdbSource("db")
    assert [box(source.annotated_datum(i)) for i in range(4)] == [
        pytest.approx((10 / 80, 12 / 60, 40 / 80, 50 / 60))
    ] * 4


def test_class_with_label_0(case: Case, capfd: pytest.CaptureFixture[str]) -> None:
    case("12_label_0")
    assert convert("nobg.prototxt") == 0
    assert "1 box with label 0 ('red'), which nets take for the background" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("data_set", "line"),
    [
        ("folders", "folders/JPEGImages/set00/1.jpg folders/Annotations/set00/1.xml\n"),
        ("ending", "ending/JPEGImages/1.jpg ending/Annotations/1.xml\n"),
        ("Jpg", "Jpg/JPEGImages/1.Jpg Jpg/Annotations/1.xml\n"),
    ],
)
def test_names_in_lists(case: Case, data_set: str, line: str) -> None:
    folder = case("14_create_list_no_image")
    assert create_list.main([f"-datasets={data_set}", ".", "lists"]) == 0
    assert (folder / "lists/trainval.txt").read_text() == line


def test_names_with_spaces(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case("14_create_list_no_image")
    assert create_list.main(["-datasets=blank", ".", "lists"]) == 1
    assert "'my 1' in a list of blank: names with spaces cannot be listed" in capsys.readouterr().err


def test_average_precision_that_does_not_exist(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case("15_late_test_errors")
    assert train.main(["-solver", "solver.prototxt"]) == 1
    said = capsys.readouterr().err
    assert "unknown ap_version '11points'; known: 11point" in said
    assert "Iteration" not in said


def test_no_box_to_learn_from(case: Case, capfd: pytest.CaptureFixture[str]) -> None:
    case("16_loss_zero")
    assert train.main(["-solver", "solver.prototxt"]) == 0
    said = capfd.readouterr().err
    assert said.count("there is no box with an area in its records ('train_lmdb'), so the loss will be 0") == 1
    assert said.index("there is no box") < said.index("Iteration 0")
