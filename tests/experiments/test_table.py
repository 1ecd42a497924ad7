"""The tables of the experiment on small objects, and their statistics."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from experiments.small_objects import intervals, table
from tests.experiments.plans import PLAN

# ---- statistics


def test_students_t() -> None:
    """Compares the table with the integral of the density."""
    for degrees, t in enumerate(intervals._T, 1):
        x = np.linspace(0, t, 200_001)
        scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
        density = scale * (1 + x * x / degrees) ** (-(degrees + 1) / 2)
        area = float(((density[1:] + density[:-1]) / 2).sum() * (x[1] - x[0]))
        assert area == pytest.approx(0.475, abs=4e-6), degrees


def test_summary_by_hand() -> None:
    found = intervals.summarize([1.0, 2.0, 6.0])
    assert found.n == 3
    assert found.mean == 3
    assert found.deviation == pytest.approx(math.sqrt(7))
    assert found.half_width == pytest.approx(4.3027 * math.sqrt(7 / 3))
    assert not found.decided
    assert intervals.summarize([1.0, 1.1, 1.2]).decided


def test_summaries_of_few_values() -> None:
    assert intervals.summarize([2.0, math.nan])[:2] == (1, 2)
    assert math.isnan(intervals.summarize([2.0]).half_width)
    assert not intervals.summarize([2.0]).decided
    assert intervals.summarize([]).n == 0
    assert not intervals.summarize([]).decided


def test_differences_are_paired_by_seed() -> None:
    """Seeds differ a lot and arms only a little; only the seeds that both have count."""
    found = intervals.paired({1: 10.1, 2: 20.2, 3: 30.1, 7: 0.0}, {1: 10.0, 2: 20.0, 3: 30.0, 8: 99.0})
    assert found.n == 3
    assert found.mean == pytest.approx(0.4 / 3)
    assert found.deviation == pytest.approx(np.std([0.1, 0.2, 0.1], ddof=1))


# ---- tables


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Two arms with two seeds, one of them with an unfinished third seed."""
    PLAN.save(tmp_path / "plan.json")
    values = {
        "ssd300-released": {1: (0.10, 0.800), 2: (0.12, 0.802)},
        "mdssd300-released": {1: (0.30, 0.799), 2: (0.321, 0.805)},
    }
    for arm, seeds in values.items():
        for seed, (small, whole) in seeds.items():
            for iteration in (300, 600, 900, 1200):
                share = iteration / 1200
                measures = {"XS": small * share, "mAP": whole * share, "AP large": None}
                path = tmp_path / "runs" / arm / f"seed{seed}" / f"score_{iteration}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps({"measures": measures}))
    (tmp_path / "runs/ssd300-released/seed3").mkdir()
    (tmp_path / "runs/ssd300-released/seed3/score_300.json").write_text(json.dumps({"measures": {"mAP": 0.9}}))
    return tmp_path


def test_tables(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table.main([str(finished), "--json", str(finished / "table.json")]) == 0
    out = capsys.readouterr().out
    lines = {tuple(cell.strip() for cell in line.strip("| \n").split("|"))[:1]: line for line in out.splitlines()}
    assert lines[("ssd300-released",)]  # the last line of that name is of the curve
    assert "| ssd300-released | 2 | 11.0 ± 1.4 | – |" in out
    # the differences are 0.2 and 0.201, and −0.001 and 0.003
    assert "| MDSSD − SSD, released boxes, equal iterations | **+20.1 [+19.4, +20.7]** | – |" in out
    assert "| +0.1 [−2.4, +2.6] |" in out
    assert "| ssd300-released | 300 | 2.8 ± 0.4 | – | 45.0 ± 38.9 |" not in out
    data = json.loads((finished / "table.json").read_text())["made"]
    assert data["final"]["ssd300-released"]["XS"] == {"1": 0.1, "2": 0.12}
    assert data["final"]["ssd300-released"]["AP large"] == {"1": None, "2": None}
    assert data["differences"]["MDSSD − SSD, released boxes, equal iterations"]["mAP"]["n"] == 2
    assert data["curve"]["ssd300-released"]["300"]["mAP"]["3"] == 0.9
    assert data["plan"] == {name: value for name, value in vars(PLAN).items() if name not in ("folder", "weights")}


def test_tables_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table.main([str(tmp_path)]) == 1
    assert "is not a directory of run.py" in capsys.readouterr().err
    PLAN.save(tmp_path / "plan.json")
    assert table.main([str(tmp_path)]) == 0
    assert "Nothing is finished yet." in capsys.readouterr().out


def test_an_interval_of_one_seed_is_none() -> None:
    assert table.interval(intervals.summarize([0.012])) == "+1.2"
    assert table.interval(intervals.summarize([-0.00001])) == "+0.0"
    assert table.spread(intervals.summarize([0.5])) == "50.0"
