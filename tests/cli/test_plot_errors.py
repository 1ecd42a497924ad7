"""`score_voc` and `plot_errors` for one model and for several: files, plots, sheets, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe.cli import plot_errors, score_voc
from caffe.cli.voc_flags import file_stem, model_names
from caffe.detection import voc
from tests.detection.made import made
from tests.pictures import read_picture


def write_results(folder: Path, found: dict[str, voc.Detections], minus: float = 0.0) -> None:
    folder.mkdir(parents=True)
    for name, d in found.items():
        rows = zip(d.images, (d.scores - minus).tolist(), d.boxes.astype(int).tolist(), strict=True)
        lines = [" ".join(map(str, (image, f"{score:.4f}", *box))) + "\n" for image, score, box in rows if score > 0]
        (folder / f"comp4_det_test_{name}.txt").write_text("".join(lines))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set in VOC's layout with images, and results of two models."""
    truth, found = made(7, 25)
    for sub in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / "voc" / sub).mkdir(parents=True)
    (tmp_path / "voc/ImageSets/Main/test.txt").write_text("".join(f"{image}\n" for image in truth.images))
    for image in truth.images:
        things = ""
        for name, by_image in truth.objects.items():
            if image in by_image:
                for box, hard in zip(by_image[image].boxes, by_image[image].difficult, strict=True):
                    sides = zip(("xmin", "ymin", "xmax", "ymax"), box.astype(int), strict=True)
                    corners = "".join(f"<{s}>{v}</{s}>" for s, v in sides)
                    things += f"<object><name>{name}</name><difficult>{int(hard)}</difficult><bndbox>{corners}</bndbox></object>"
        (tmp_path / "voc/Annotations" / f"{image}.xml").write_text(f"<annotation>{things}</annotation>")
        cv2.imwrite(str(tmp_path / "voc/JPEGImages" / f"{image}.jpg"), np.full((100, 120, 3), 90, np.uint8))
    write_results(tmp_path / "SSD/Main", found)
    write_results(tmp_path / "MDSSD/Main", found, 0.3)
    return tmp_path


def test_models_are_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "out"
    models = [str(folder / "SSD/Main"), str(folder / "MDSSD/Main")]
    assert score_voc.main([*models, "--voc", str(folder / "voc"), "--diagnose", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines()]
    assert ["AP", "%", "SSD", "MDSSD"] in rows
    assert any(row[:1] == ["MDSSD"] and len(row) == 10 for row in rows)
    plots = ("sizes", "aspects", "false_positives", "sensitivity", "tide")
    assert {f"{plot}.{kind}" for plot in plots for kind in ("svg", "png")} < {p.name for p in out.iterdir()}
    for model in ("SSD", "MDSSD"):
        values = json.loads((out / model / "tide.json").read_text())
        assert set(values["errors"]) == {"Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"}
        diagnosis = json.loads((out / model / "diagnosis.json").read_text())
        assert diagnosis.keys() == {"cat", "dog", "tree"}
        assert json.loads((out / model / "confusion.json").read_text())["rows"][-1] == "no object"
        assert (out / model / "confusion.svg").exists()
    assert "AP %" in (out / "comparison.txt").read_text()


def test_refused_before_the_analysis(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And no directory is left behind."""
    arguments = [str(folder / "SSD/Main"), "--voc", str(folder / "voc"), "--out"]
    (folder / "file").touch()
    for main in (score_voc.main, plot_errors.main):
        assert main([*arguments, str(folder / "file")]) == 1
        found = capsys.readouterr()
        assert "is not a directory" in found.err
        assert found.out == ""
    for name in ("3", "4"):
        (folder / "voc/JPEGImages" / f"{name}.jpg").unlink()
    assert plot_errors.main([*arguments, str(folder / "sheets")]) == 1
    assert "image '3' is not in" in (message := capsys.readouterr().err)
    assert "(2 missing in all); give the directory with all images of the list" in message
    assert not (folder / "sheets").exists()


def test_sheets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "sheets"
    models = [str(folder / "SSD/Main"), str(folder / "MDSSD/Main")]
    arguments = [*models, "--voc", str(folder / "voc"), "--score", "0.3", "--count", "3", "--out", str(out)]
    assert plot_errors.main(arguments) == 0
    expected = {f"{kind}_{model}.jpg" for kind in ("false", "missed", "best", "worst") for model in ("SSD", "MDSSD")}
    assert {p.name for p in out.iterdir()} == {*expected, "side_by_side.jpg"}
    for path in out.iterdir():
        assert read_picture(path).shape[1] == 1600
    (folder / "show.txt").write_text("3\n4\n")
    assert plot_errors.main([*arguments, "--show", str(folder / "show.txt"), "--names", "a,b"]) == 0
    assert read_picture(out / "side_by_side.jpg").shape[0] < 1100
    (folder / "show.txt").write_text("x\n")
    assert plot_errors.main([*arguments, "--show", str(folder / "show.txt")]) == 1
    assert "image 'x' is not in the image list" in capsys.readouterr().err


def test_different_classes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "MDSSD/Main/comp4_det_test_cat.txt").rename(folder / "MDSSD/Main/comp4_det_test_cow.txt")
    models = [str(folder / "SSD/Main"), str(folder / "MDSSD/Main")]
    arguments = [*models, "--voc", str(folder / "voc"), "--out", str(folder / "out")]
    for command in (score_voc.main, plot_errors.main):
        assert command(arguments) == 1
        error = capsys.readouterr().err
        assert "different classes: 'SSD' has none for cow; 'MDSSD' has none for cat" in error
        assert error.count("\n") == 1
    assert not (folder / "out").exists()
    (folder / "map").write_text('item { name: "dog" label: 1 } item { name: "tree" label: 2 }')
    assert score_voc.main([*arguments, "--label_map_file", str(folder / "map")]) == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("elsewhere 0.5 1 1 5 5", "not in the image list, e.g. 'elsewhere'"),
        ("3 nan 1 1 5 5", "line 1: '3 nan 1 1 5 5' has a number that is not finite"),
        ("3 0.5 1 1 5", "is not `image score xmin ymin xmax ymax`"),
    ],
)
def test_bad_results(folder: Path, capsys: pytest.CaptureFixture[str], line: str, message: str) -> None:
    (folder / "MDSSD/Main/comp4_det_test_cat.txt").write_text(line + "\n")
    models = [str(folder / "SSD/Main"), str(folder / "MDSSD/Main")]
    for command in (score_voc.main, plot_errors.main):
        assert command([*models, "--voc", str(folder / "voc"), "--out", str(folder / "out")]) == 1
        assert message in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_results_without_detections(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (folder / "SSD/Main").iterdir():
        path.write_text("")
    arguments = [str(folder / "SSD/Main"), "--voc", str(folder / "voc")]
    assert score_voc.main([*arguments, "--diagnose"]) == 0
    assert "'SSD' has result files, but no detection in them" in capsys.readouterr().out
    assert plot_errors.main([*arguments, "--out", str(folder / "sheets")]) == 0
    assert {p.name for p in (folder / "sheets").iterdir()} == {"missed.jpg", "best.jpg", "worst.jpg"}


def test_a_missing_image_leaves_no_half_sheet(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (folder / "voc/JPEGImages").iterdir():
        path.unlink()
    assert plot_errors.main([str(folder / "SSD/Main"), "--voc", str(folder / "voc"), "--out", str(folder / "s")]) == 1
    assert "is not in" in capsys.readouterr().err
    assert not (folder / "s").exists()


def test_one_model_with_a_strange_class_name(folder: Path) -> None:
    """A label map may have any names; result files and annotations follow."""
    name = "<b>$x_1$ & _y"
    (folder / "SSD/Main/comp4_det_test_cat.txt").rename(folder / f"SSD/Main/comp4_det_test_{name}.txt")
    for path in (folder / "voc/Annotations").iterdir():
        escaped = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        path.write_text(path.read_text().replace("<name>cat<", f"<name>{escaped}<"))
    arguments = [str(folder / "SSD/Main"), "--voc", str(folder / "voc"), "--out", str(folder / "out")]
    assert score_voc.main([*arguments, "--diagnose"]) == 0
    assert name in json.loads((folder / "out/diagnosis.json").read_text())
    names = {p.name for p in (folder / "out").iterdir()}
    assert {"score.txt", "score.json", "diagnosis.json", "tide.json", "confusion.json", "sizes.svg"} < names
    assert not any(p.is_dir() for p in (folder / "out").iterdir())
    assert (folder / f"out/precision_recall_{name}.png").exists()
    assert plot_errors.main([*arguments, "--count", "2"]) == 0


def test_names_of_models() -> None:
    assert model_names(["/r/SSD300/Main", "/r/MDSSD300/Main"]) == ["SSD300", "MDSSD300"]
    assert model_names(["/r/a/x/Main", "/s/a/y/Main"]) == ["r/a/x", "s/a/y"]
    assert model_names(["/r/VOC2007/SSD300/Main"]) == ["SSD300"]
    assert model_names(["/r/a", "/r/a/b"]) == ["a", "a/b"]
    assert file_stem("r/a b") == "r_a_b"
    assert file_stem("..") == "_.."


def test_names_given(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [str(folder / "SSD/Main"), str(folder / "MDSSD/Main"), "--voc", str(folder / "voc")]
    with pytest.raises(SystemExit):
        score_voc.main([*models, "--names", "a"])
    assert "--names has 1 names for 2 directories" in capsys.readouterr().err
    assert score_voc.main([*models, "--names", "a,a"]) == 1
    assert "models need different names" in capsys.readouterr().err
