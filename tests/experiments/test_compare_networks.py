"""compare.py: all networks on one data set in one command; its mistakes, and a complete run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from caffe.errors import CaffeError
from experiments.small_objects import compare
from experiments.small_objects import run as training_program
from experiments.small_objects.plan import ARMS, GROUPS, Plan
from tests import processes

PLAN = Plan(
    data="made", folder="/data/made", width="1/8", weights="", iterations=4, points=1, batch=1, base_lr=0.1,
    augmentation="mirror", gpu="none", precision="fp32",
)  # fmt: skip


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([str(tmp_path), "--networks", "ssd300", "ssd400"]) == 1
    error = capsys.readouterr().err
    assert "--networks ssd400: is not a network" in error
    assert "dsod300" in error
    assert "families-512" in error
    assert compare.main([str(tmp_path / "gone"), "--out", str(tmp_path / "out")]) == 1
    assert "gone is not a data set in VOC's layout: it has no Annotations" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--quick"], ["--networks", "families-300", "--iterations", "7", "--budget", "10m"]])
def test_the_training_gets_its_flags(flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What run.py does not finish is not compared."""
    given: list[str] = []

    def train(argv: list[str]) -> int:
        given.extend(argv)
        return 75

    monkeypatch.setattr(training_program, "main", train)
    assert compare.main([str(tmp_path / "my"), *flags, "--seeds", "3", "--boxes", "released"]) == 75
    parsed = training_program.parser().parse_args(given)
    networks = GROUPS["families-300" if "--networks" in flags else "families"]
    assert parsed.arms == [f"{network}-released-scratch" for network in networks]
    assert (parsed.data, parsed.folder, parsed.seeds) == ("my", tmp_path / "my", [3])
    assert (parsed.iterations, parsed.width) == ((4, "1/16") if "--quick" in flags else (7, "1/8"))
    assert parsed.budget == (600 if "--budget" in flags else float("inf"))


def test_speed_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PLAN.save(tmp_path / "plan.json")
    arms = [ARMS["ssd300-designed-scratch"], ARMS["mdssd300-designed-scratch"]]
    with pytest.raises(CaffeError, match=r"net_iter_4\.caffemodel is missing; remove .*seed1 to train"):
        compare._measure_speed(tmp_path, arms, 1, tmp_path, [])
    for arm in arms:
        weights = tmp_path / "runs" / arm.name / "seed1" / "snapshots" / "net_iter_4.caffemodel"
        weights.parent.mkdir(parents=True)
        weights.touch()
    calls: list[list[str]] = []

    def measure(words: list[str], **others: Any) -> subprocess.CompletedProcess[str]:
        calls.append(words)
        name = "%s_VOC" if "-weights" not in words else "%sx0.125_made"
        rows = [{"name": name % network} for network in ("SSD300", "MDSSD300")]
        Path(words[words.index("-json") + 1]).write_text(json.dumps({"models": rows}))
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", measure)
    (tmp_path / "speed.json").write_text(json.dumps({"models": [{"name": "SSD300x0.125_made"}]}))  # it was interrupted
    compare._measure_speed(tmp_path, arms, 1, tmp_path, ["-images", "2"])
    trained, released = calls
    assert trained[-2:] == [str(tmp_path / "runs" / arm.name / "seed1") for arm in arms]
    assert trained[trained.index("-weights") + 1].count("net_iter_4.caffemodel") == 2
    assert released[-2:] == [str(processes.ROOT / "models" / name / "VOC") for name in ("SSD300", "MDSSD300")]
    assert "-weights" not in released
    compare._measure_speed(tmp_path, arms, 1, tmp_path, [])
    assert len(calls) == 2
    compare._measure_speed(tmp_path, arms[:1], 1, tmp_path, [])
    assert len(calls) == 4, "other networks than those that were measured"


def test_a_command_that_fails(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CaffeError, match=r"speed failed \(status 1\); its message is above"):
        compare._run("caffe.cli.caffe", "speed", "nowhere")
    assert "nowhere" in capfd.readouterr().err


@pytest.mark.slow
def test_two_networks(tmp_path: Path) -> None:
    scenes = processes.ROOT / "demo" / "scenes.py"
    processes.run(
        [sys.executable, scenes, "--output", tmp_path / "scenes", "--train", "16", "--test", "8"],
        check=True,
        seconds=900,
    )
    command: list[str | Path] = [
        processes.ROOT / "scripts/compare_networks.sh", tmp_path / "scenes", "--networks", "ssd300", "dssd321",
        "--out", tmp_path / "out", "--quick",
    ]  # fmt: skip
    assert "dssd321-designed-scratch, seed 1: 4 iterations" in processes.run(command, check=True, seconds=1800).stdout
    out = tmp_path / "out"
    table = (out / "tables.md").read_text()
    assert "| ssd300-designed-scratch | 1 |" in table
    assert "| dssd321-designed-scratch | 1 |" in table
    costs = json.loads((out / "tables.json").read_text())["scenes"]["costs"]
    assert costs["dssd321-designed-scratch"]["parameters"] > costs["ssd300-designed-scratch"]["parameters"]
    for name in ("speed.json", "speed_released.json"):
        assert [row["input"] for row in json.loads((out / name).read_text())["models"]] == ["300 x 300", "321 x 321"]
    assert "DSSD321" in (out / "report.html").read_text()
    assert (out / "sheets" / "side_by_side.jpg").is_file()
    assert "All is done" in processes.run(command, check=True, seconds=900).stdout
