"""Hoiem's analysis as `score_voc` writes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from caffe.cli.score_voc import main
from tests.detection.made import square


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images with one cat each, of increasing size, all found, and a dog class with too few objects to analyze."""
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "results").mkdir()
    rows = []
    for i in range(10):
        box = "".join(
            f"<{s}>{v}</{s}>" for s, v in zip(("xmin", "ymin", "xmax", "ymax"), square(1, side=9 + i), strict=True)
        )
        things = "".join(
            f"<object><name>{name}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"
            for name in (("cat", "dog") if i == 0 else ("cat",))
        )
        (tmp_path / "Annotations" / f"{i}.xml").write_text(f"<annotation>{things}</annotation>")
        rows.append(f"{i} 0.{9 - i} 1 1 {9 + i} {9 + i}\n")
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_text("".join(f"{i}\n" for i in range(10)))
    (tmp_path / "results" / "comp4_det_test_cat.txt").write_text("".join(rows))
    (tmp_path / "results" / "comp4_det_test_dog.txt").write_text("0 1.0000e-01 1 1 9 9\n")
    return tmp_path


def test_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(folder / "results"), "--voc", str(folder), "--sizes", "--diagnose", "--out", str(folder / "out")]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert ["cat", *["100.0", "±", "0.0"] * 5] in [line.split() for line in out.splitlines()]
    assert ["cat", "10", "0", "10", "0", "0", "0", "0"] in [line.split() for line in out.splitlines()]
    assert "Not analyzed by size (fewer than 10 objects): dog." in out
    assert "diagnosis.json" in out
    values = json.loads((folder / "out" / "diagnosis.json").read_text())
    assert values.keys() == {"cat"}
    assert values["cat"]["AP_N"] == 1
    assert (folder / "out" / "score.txt").read_text() in out


def test_command_without_diagnosis_writes_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder / "results"), "--voc", str(folder), "-sizes", "-out", str(folder / "out")]) == 0
    assert not (folder / "out" / "diagnosis.json").exists()
    assert json.loads((folder / "out" / "score.json").read_text())["AP_N by size"]["cat"]["XL"] == 1
    assert "AP_N % by object size" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-diagnose", "-similar", "missing.txt"], "cannot read list 'missing.txt'"),
        (["-similar", "missing.txt"], "--similar needs --diagnose"),
        (["-sizes", "-objects_per_image", "0"], "--objects_per_image must be a positive number, not 0.0"),
        (["-sizes", "-objects_per_image", "nan"], "must be a positive number, not nan"),
    ],
)
def test_command_errors(folder: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main([str(folder / "results"), "--voc", str(folder), *flags])
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    assert status == 1
    assert message in capsys.readouterr().err
