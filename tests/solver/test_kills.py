"""Random kills: see kill_soak. It takes eight seconds of processor time for forty trainings in pieces."""

from __future__ import annotations

import re
from pathlib import Path

from tests.processes import ROOT, python
from tests.solver.kill_soak import VARIANTS


def test_thirty_random_kills(tmp_path: Path) -> None:
    done = python(
        "-m", "tests.solver.kill_soak", "--kills", "30", "--folder", tmp_path,
        cwd=ROOT, env={"OMP_NUM_THREADS": "1"}, seconds=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.match(r"(\d+) kills in (\d+) runs: each ended bit for bit as a whole one", done.stdout)
    assert found, done.stdout
    assert int(found[1]) >= 30
    assert int(found[2]) >= len(VARIANTS)
