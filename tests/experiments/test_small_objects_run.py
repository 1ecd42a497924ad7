"""A complete small experiment: one that was killed resumes and gives the same results as an uninterrupted one."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from experiments.small_objects import run as program
from experiments.small_objects import table
from tests import processes

PROGRAM = processes.ROOT / "experiments" / "small_objects" / "run.py"
SCENES = processes.ROOT / "demo" / "scenes.py"
#: time limit of each step, enough for a busy machine
SECONDS = 900.0
ARMS = ("ssd300-released", "ssd300-released-longer", "mdssd300-released")


def command(folder: Path, *flags: str, arms: tuple[str, ...] = ARMS) -> list[str | Path]:
    return [
        sys.executable, PROGRAM, "--data", "scenes", "--folder", folder / "scenes", "--out", folder / "out",
        "--iterations", "8", "--points", "2", "--batch", "1", "--seeds", "1", *flags, "--arms", *arms,
    ]  # fmt: skip


def wait_for_snapshot(folder: Path, arm: str, seconds: float = SECONDS) -> None:
    """Waits for the first snapshot of a run, while its training is still running."""
    snapshots = folder / "out" / "runs" / arm / "seed1" / "snapshots"
    deadline = time.monotonic() + seconds
    while not list(snapshots.glob("net_iter_*.solverstate")):
        assert time.monotonic() < deadline, f"no snapshot in {snapshots}"
        time.sleep(0.02)


def outcome(folder: Path, arm: str) -> tuple[bytes, object]:
    """Returns the last weights and measures of a run."""
    run = folder / "out" / "runs" / arm / "seed1"
    last = max(run.glob("score_*.json"), key=lambda p: int(p.stem.removeprefix("score_")))
    iteration = last.stem.removeprefix("score_")
    return (run / "snapshots" / f"net_iter_{iteration}.caffemodel").read_bytes(), json.loads(last.read_text())


@pytest.mark.slow
def test_killed_stopped_and_continued(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    processes.run(
        [sys.executable, SCENES, "--output", tmp_path / "scenes", "--train", "16", "--test", "8"],
        check=True,
        seconds=SECONDS,
    )

    # Uninterrupted.
    done = processes.run(command(tmp_path), check=True, seconds=SECONDS)
    assert "All is done." in done.stdout
    expected = {arm: outcome(tmp_path, arm) for arm in ARMS}
    (tmp_path / "out" / "runs").rename(tmp_path / "left_alone")

    # Killed with its training after a snapshot, before the last one.
    only = command(tmp_path, arms=ARMS[:1])
    run = tmp_path / "out" / "runs" / ARMS[0] / "seed1"
    with processes.running(only, seconds=SECONDS) as child:
        wait_for_snapshot(tmp_path, ARMS[0])
        child.kill()
        # The orphaned training holds the lock: a second one would overwrite its snapshots.
        second = processes.run(only, seconds=SECONDS)
        assert second.returncode in (0, 1)
        if second.returncode:
            assert "is using this directory" in second.stderr
    assert not (run / "score_8.json").exists() or second.returncode == 0

    # Stopped by SIGTERM, then by its budget, then completed.
    with processes.running(command(tmp_path), seconds=SECONDS) as child:
        wait_for_snapshot(tmp_path, ARMS[1])
        child.terminate()
        assert child.wait(400) == 143
    stopped = processes.run(command(tmp_path, "--budget", "1s"), seconds=SECONDS)
    assert stopped.returncode == program.UNFINISHED
    assert "mdssd300-released, seed 1: 8 iterations, 2 scores" in stopped.stdout
    processes.run(command(tmp_path), check=True, seconds=SECONDS)
    assert {arm: outcome(tmp_path, arm) for arm in ARMS} == expected

    # Nothing is left to do, and the tables can be made.
    assert "All is done." in processes.run(command(tmp_path, "--budget", "1s"), check=True, seconds=SECONDS).stdout
    assert table.main([str(tmp_path / "out")]) == 0
    assert "MDSSD − SSD, released boxes, equal time" in capsys.readouterr().out
    # Another plan does not mix with it.
    other = processes.run(command(tmp_path, "--batch", "2"), seconds=SECONDS)
    assert other.returncode == 1
    assert "this experiment was started with batch 1, not 2" in other.stderr
