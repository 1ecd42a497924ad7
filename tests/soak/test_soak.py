"""The soak program's parts; `make soak` runs the whole for an hour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.soak import draws, report
from tests.soak.run import Life, Sample, Soak, clear, prepare


def test_no_sampler_draws_an_invalid_crop() -> None:
    drawn, taken, bad = draws.check(200_000)
    assert drawn >= 200_000
    assert taken > 1000
    assert bad == 0


def test_invalid_crops_are_seen() -> None:
    found = [[0, 0, 1, 1], [0, 0, 1, 1.1], [0.5, 0, 0.5, 1], [0.9, 0, 0.1, 1], [np.nan, 0, 1, 1], [-0.1, 0, 1, 1]]
    assert draws.invalid(np.array(found, np.float32)) == 5


def test_the_report_has_every_kind_of_life_in_every_quarter(tmp_path: Path) -> None:
    soak = Soak(tmp_path, 1, print)
    soak.lives = [Life(0, 1, 0, "kill", last=50), Life(1, 2, 1, "interrupt", first=50, last=70, orphans=1)]
    soak.samples = [Sample(float(t), t // 50, 1 + t // 50, 100.0 + t, 10, 0.5, t) for t in range(100)]
    rows = [line for line in report.table(soak).splitlines() if line.startswith("| ") and "ranks" not in line]
    assert [row.split("|")[1:4] for row in rows[1:]] == [
        [" 1, 0 ", " 1 ", " 14 "],
        [" 1, 0 ", " 2 ", " 25 "],
        [" 2, 1 ", " 3 ", " 14 "],
        [" 2, 1 ", " 4 ", " 25 "],
    ]  # fmt: skip
    assert "70 iterations computed" in report.summary(soak)
    report.plot(soak, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_short_soak(tmp_path: Path) -> None:
    clear(tmp_path / "run")
    prepare(tmp_path / "run")
    soak = Soak(tmp_path / "run", 3, print)
    soak.run(60, longest=15)
    assert soak.lives
    assert not soak.problems
