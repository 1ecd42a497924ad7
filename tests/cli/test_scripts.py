"""scripts/train.sh and speed.sh: which `caffe` command they come to."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder, and a `caffe` that prints its arguments."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "caffe").write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    (tmp_path / "bin" / "caffe").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "solver.prototxt").write_text('base_lr: 1\nsnapshot_prefix: "m/net x"\n')
    (folder / "deploy.prototxt").write_text("")
    return folder


def run(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPTS / script, *words], capture_output=True, text=True, check=False)


def test_first_start_takes_the_weights(model: Path) -> None:
    done = run("train.sh", "m", "-weights", "v w.caffemodel", "-gpu", "0,1")
    assert done.stdout == "train|-solver|m/solver.prototxt|-log_dir|m/log|-weights|v w.caffemodel|-gpu|0,1|"


@pytest.mark.parametrize("weights", [["-weights", "v w"], ["--weights=v w"], []])
def test_later_starts_go_on_from_the_newest_snapshot(model: Path, weights: list[str]) -> None:
    for n in (900, 1000, 80):
        (model / f"net x_iter_{n}.solverstate").write_text("")
    done = run("train.sh", "m", *weights, "-gpu", "0")
    assert done.stdout == (
        "Going on from m/net x_iter_1000.solverstate\n"
        "train|-solver|m/solver.prototxt|-log_dir|m/log|-snapshot|m/net x_iter_1000.solverstate|-gpu|0|"
    )


def test_speed(model: Path) -> None:
    done = run("speed.sh", "m", "-gpu", "0")
    assert done.stdout == "time|-model|m/deploy.prototxt|-phase|TEST|-iterations|10|-gpu|0|"


@pytest.mark.parametrize("script", ["train.sh", "speed.sh"])
def test_help_and_missing_model(model: Path, script: str) -> None:
    assert run(script, "--help").stdout.startswith(f"usage: scripts/{script} MODEL_FOLDER")
    assert run(script).returncode == 1
    done = run(script, "nowhere")
    assert done.returncode == 1
    assert "nowhere/" in done.stderr
