"""Random kills: see kill_soak. It takes eight seconds of processor time for forty trainings in pieces."""

from __future__ import annotations

from pathlib import Path

from tests.processes import ROOT, python


def test_thirty_random_kills(tmp_path: Path) -> None:
    done = python(
        "-m", "tests.solver.kill_soak", "--kills", "30", "--folder", tmp_path,
        cwd=ROOT, env={"OMP_NUM_THREADS": "1"}, seconds=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "each ended bit for bit as a whole one" in done.stdout
