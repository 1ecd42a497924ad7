"""The plan of the experiment on small objects: its arms, its checkpoints, and what a training has reached."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from caffe.errors import CaffeError
from experiments.small_objects import table
from experiments.small_objects.commands import Commands
from experiments.small_objects.plan import ARMS, DEFAULT_ARMS, GROUPS, Plan, runs, select
from experiments.small_objects.preparation import Folder
from experiments.small_objects.training import Training
from tests.conftest import ROOT
from tests.experiments.plans import PLAN


def test_arms_are_the_comparison() -> None:
    assert {(a.network, a.boxes) for a in ARMS.values() if a.start != "scratch"} == {
        *((network, boxes) for network in ("ssd300", "mdssd300") for boxes in ("released", "designed")),
        ("mdssd300-shallow", "designed"),
    }
    control = ARMS["mdssd300-shallow-designed-function"]
    assert (control.generator, control.flags) == ("mdssd300", ["--without_deep_side"])
    assert (ARMS["mdssd300-designed"].generator, ARMS["mdssd300-designed"].flags) == ("mdssd300", [])
    assert all(ARMS[name].start == "trunk" for name in DEFAULT_ARMS)
    assert {name for _, first, second in table.DIFFERENCES for name in (first, second)} == set(ARMS)


def test_groups_are_the_networks_of_all_families() -> None:
    generators = {path.stem for path in (ROOT / "prototxt_gen").glob("*.py") if path.stem[-3:].isdecimal()}
    assert set(GROUPS["families"]) == generators
    assert len(generators) == 9
    found = select(["families-300", "ssd300-designed-scratch", "ssd300-released"], ["designed", "released"])
    assert [arm.name for arm in found] == [
        *(f"{name}-{boxes}-scratch" for boxes in ("designed", "released") for name in GROUPS["families-300"]),
        "ssd300-released",
    ]
    assert set(ARMS) >= {arm.name for arm in select(["families"], ["designed", "released"])}
    assert ARMS["dssd321-released-scratch"].flags == ["--offset", "centered", "--from_scratch"]
    assert ARMS["ssd513-designed-scratch"].flags == ["--offset", "centered"]
    assert ARMS["dsod300-designed-scratch"].flags == []
    assert ARMS["ssd300-designed-scratch"].model != ARMS["ssd300-designed"].model, "batch normalization costs time"
    assert ARMS["ssd300-designed-function"].model == ARMS["ssd300-designed"].model


def test_unknown_arms() -> None:
    with pytest.raises(CaffeError, match=r"--arms family: there is no such arm; similar ones: families"):
        select(["family"], ["designed"])
    with pytest.raises(CaffeError, match=r"similar ones: .*ssd512-designed-scratch"):
        select(["ssd512-designed"], ["designed"])


def test_checkpoints_are_snapshots() -> None:
    for iterations in (1, 2, 7, 100, 1200, 1987):
        for points in (1, 2, 4, 5):
            plan = Plan(**{**vars(PLAN), "points": points})
            found, interval = plan.checkpoints(iterations), plan.snapshot_interval(iterations)
            assert found[-1] == iterations
            assert all(i % interval == 0 for i in found[:-1])
            assert len(found) == min(points, len(found)) <= points
    assert PLAN.checkpoints(1200) == [300, 600, 900, 1200]
    assert PLAN.snapshot_interval(1200) == 150


def test_a_plan_stays_as_it_began(tmp_path: Path) -> None:
    PLAN.save(tmp_path / "plan.json")
    PLAN.save(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == PLAN
    other = Plan(**{**vars(PLAN), "iterations": 600, "width": "1/4"})
    with pytest.raises(CaffeError, match=r"started with width '1/8', not '1/4', iterations 1200, not 600.*--out"):
        other.save(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text('{"data": 1}')
    with pytest.raises(CaffeError, match="is not a plan of this program"):
        PLAN.save(tmp_path / "plan.json")


def test_longer_arms_take_as_much_time(tmp_path: Path) -> None:
    costs = {
        name: {"seconds_per_iteration": seconds}
        for name, seconds in (
            ("ssd300-released", 0.5), ("mdssd300-released", 0.8),
            ("ssd300-designed-scratch", 0.6), ("mdssd300-designed-scratch", 0.9),
        )
    }  # fmt: skip
    folder = Folder(tmp_path, PLAN)
    folder.costs.write_text(json.dumps(costs))
    assert folder.iterations(ARMS["ssd300-released-longer"]) == 1920
    assert folder.iterations(ARMS["ssd300-released"]) == 1200
    assert folder.iterations(ARMS["ssd300-designed-scratch-longer"]) == 1800


def test_seeds_are_finished_one_by_one(tmp_path: Path) -> None:
    arms = [ARMS["ssd300-released"], ARMS["mdssd300-released"]]
    found = [(r.seed, r.arm.name) for r in runs(tmp_path, arms, [1, 2])]
    assert found == [(s, a.name) for s in (1, 2) for a in arms]


def test_the_last_whole_snapshot(tmp_path: Path) -> None:
    training = Training(Folder(tmp_path, PLAN), next(runs(tmp_path, [ARMS["ssd300-released"]], [1])))
    assert training.reached() == 0
    training.snapshots.mkdir(parents=True)
    for name in ("net_iter_150", "net_iter_300", "net_iter_450"):
        (training.snapshots / f"{name}.caffemodel").touch()
        if name != "net_iter_450":  # killed between the two files
            (training.snapshots / f"{name}.solverstate").touch()
    assert training.reached() == 300
    training._remove_old_snapshots()
    assert sorted(p.name for p in training.snapshots.iterdir()) == [
        "net_iter_300.caffemodel",
        "net_iter_300.solverstate",
    ]
    assert training.unscored() == [300, 600, 900, 1200]
    training.score_file(300).write_text("{}")
    assert training.unscored() == [600, 900, 1200]


def test_from_random_numbers_there_are_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def train(self: Commands, log: Path, *words: object) -> float:
        commands.append([*map(str, words)])
        return 0.0

    monkeypatch.setattr(Commands, "run_until_stopped", train)
    folder = Folder(tmp_path, PLAN)
    for name in ("ssd300-designed-scratch", "ssd300-designed", "ssd300-designed-function"):
        training = Training(folder, next(runs(tmp_path, [ARMS[name]], [1])))
        with pytest.raises(CaffeError, match="training ended after 0 of 1200 iterations"):
            training._train(Commands(), 1200)
    given = [words[words.index("-weights") + 1] if "-weights" in words else None for words in commands]
    assert given == [
        None, str(folder.trunk), str(tmp_path / "runs/ssd300-designed-function/seed1/start.caffemodel"),
    ]  # fmt: skip
