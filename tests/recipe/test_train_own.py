"""The command: what it prints without running anything, its errors, and a whole run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from caffe.cli import train_own
from caffe.data.label_map import LabelMap
from tests.data.conftest import voc_object, voc_xml
from tests.data.formats import made
from tests.processes import ROOT, run


def folder(root: Path, count: int = 10) -> Path:
    """Photographs with an object near the middle, as VOC XML."""
    rng = np.random.default_rng(0)
    for index in range(count):
        made.picture(root / "images" / f"{index}.jpg", index)
        corners = np.array([20, 15, 60, 45]) + rng.integers(-5, 5, 4)
        made.text(root / "xml" / f"{index}.xml", voc_xml(voc_object("cat", *map(float, corners))))
    return root


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photographs, out = folder(tmp_path / "my cats"), tmp_path / "out"
    assert train_own.main([str(photographs), f"-out={out}", "-dry_run", "-gpu=none", "-seed=3", "-noown_split"]) == 0
    assert not out.exists()
    printed = capsys.readouterr().out
    assert "VOC XML in" in printed
    assert "8 images for training, 2 for testing: 20% drawn with seed 3" in printed
    assert "- network ssd300: 0% of the training objects are small" in printed
    programs = [shlex.split(line)[0] for line in printed.splitlines() if re.match(r"[a-z_]+ [-/'tr]", line)]
    assert programs == [
        "import_annotations", "convert_annoset", "convert_annoset", "design_boxes", "python", "check_dataset",
        "caffe", "cp", "caffe", "score_voc", "ssd_detect", "caffe",
    ]  # fmt: skip
    words = shlex.split(next(line for line in printed.splitlines() if line.startswith("import_annotations ")))
    assert words == ["import_annotations", str(photographs), str(out / "data"), "-own_split=false", "-seed=3"]


def test_an_output_inside_the_photographs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it is called in their directory: pictures of an earlier run are not read as photographs."""
    photographs = folder(tmp_path / "in")
    made.picture(photographs / "jobs/in/pictures/1.png")
    monkeypatch.chdir(photographs)
    assert train_own.main([".", "-dry_run", "-gpu=none"]) == 0
    printed = capsys.readouterr().out
    assert "8 images for training, 2 for testing" in printed
    assert f"-without={photographs}/jobs/in" in printed


def test_small_objects_choose_mdssd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photographs = folder(tmp_path / "in")
    for path in (photographs / "xml").iterdir():
        path.write_text(voc_xml(voc_object("cat", 2, 2, 6, 5)))
    assert train_own.main([str(photographs), f"-out={tmp_path / 'out'}", "-dry_run", "-gpu=none"]) == 0
    printed = capsys.readouterr().out
    assert "prototxt_gen/mdssd300.py" in printed
    assert "-sources module1 -max_boxes" in printed
    assert f"--boxes {tmp_path}/out/boxes/boxes.json" in printed


def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photographs = folder(tmp_path / "in")
    for words, wanted in (
        ([str(tmp_path / "none")], "no directory"),
        ([str(photographs), f"-out={photographs}"], "contains the photographs"),
        ([str(photographs), f"-out={tmp_path}"], "contains the photographs"),
        ([str(photographs), "-weights=no.caffemodel"], "no.caffemodel"),
        ([str(photographs), "-network=ssd512"], "is for an input of 300"),
        ([str(photographs), "-gpu=x"], "give device ids"),
    ):
        assert train_own.main(words) == 1
        assert wanted in capsys.readouterr().err


def test_the_flag_that_is_replaced() -> None:
    words = ["a", "-max_iter", "4", "-seed=1", "--max_iter=4"]
    assert train_own._without(words, "max_iter") == ["a", "-seed=1"]


@pytest.mark.parametrize(("command", "script"), [("train_own", "train_own.sh"), ("ssd_detect", "detect.sh")])
def test_commands_that_are_not_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, script: str
) -> None:
    """They are printed as the scripts that find their interpreter themselves."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert train_own._typed(command, ROOT) == str(ROOT / "scripts" / script)
    assert (ROOT / "scripts" / script).is_file()
    (tmp_path / command).write_text("#!/bin/sh\n")
    (tmp_path / command).chmod(0o755)
    assert train_own._typed(command, ROOT) == command


@pytest.mark.slow
def test_a_whole_run_and_its_continuation(tmp_path: Path) -> None:
    """Half a minute on one core, for SSD300 with an eighth of the channels."""
    photographs, out = folder(tmp_path / "cats"), tmp_path / "out"
    command: list[str | Path] = [ROOT / "scripts/train_own.sh", photographs, "-out", out, "-gpu", "none", "-batch", "2"]
    done = run([*command, "-max_iter", "2"], check=True, seconds=600)
    assert "[10/10] A page" in done.stdout
    assert "the same box in every picture would get 100.0." in done.stdout
    assert LabelMap.read(out / "data/labelmap.prototxt").names == ["none_of_the_above", "cat"]
    assert 0 <= json.loads((out / "score/score.json").read_text())["mAP"] <= 1
    assert len([*(out / "pictures").iterdir()]) == 2
    assert "<html" in (out / "report.html").read_text(encoding="utf-8")
    assert (out / "check/check.html").is_file()
    (detect,) = (line for line in done.stdout.splitlines() if "PHOTOGRAPH" in line)
    image = str(photographs / "images" / "0.jpg")
    run([image if word == "PHOTOGRAPH" else word for word in shlex.split(detect)], cwd=tmp_path, check=True)
    assert (tmp_path / "drawn" / "0.png").is_file()
    done = run([*command, "-max_iter", "4"], check=True, seconds=600)
    assert done.stdout.count("done before") == 3
    assert re.search(r"Resuming from \S*ssd300_iter_2\.solverstate", (out / "log/caffe.INFO").read_text())
    assert (out / "model/ssd300_iter_4.caffemodel").is_file()
    done = run([*command, "-max_iter", "4"], check=True, seconds=600)
    assert done.stdout.count("done before") == 10
