"""Snapshots on disk: damaged ones are refused, whole ones are found, old ones go, others' are not overwritten."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from torch import Tensor

from caffe.cli import train
from caffe.engine.weights import copy_trained_from, save
from caffe.errors import CaffeError
from caffe.pycaffe import Net as PyNet
from caffe.solver import checksums, snapshot_files
from caffe.solver.best import BestWeights
from caffe.solver.requests import Action
from caffe.solver.solver import Solver

Make = Callable[..., Any]
TESTS = " test_iter: 1 test_interval: 1"


@pytest.fixture
def trained(solver_param: Make) -> Solver:
    """A run of four iterations with a snapshot after every second one."""
    solver = Solver(solver_param("snapshot: 2"))
    solver.step(4)
    return solver


def flip(path: str) -> None:
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 1
    Path(path).write_bytes(data)


def lose_a_page(path: str) -> None:
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


def take_another_iteration(path: str) -> None:
    shutil.copy(path.replace("_4.", "_2."), path)


@pytest.mark.parametrize("damage", [flip, lose_a_page, take_another_iteration])
@pytest.mark.parametrize("extension", ["caffemodel", "solverstate"])
def test_a_damaged_snapshot_is_refused(trained: Solver, damage: Callable[[str], None], extension: str) -> None:
    damage(f"line_iter_4.{extension}")
    with pytest.raises(CaffeError, match=r"The newest whole snapshot is line_iter_2\.solverstate"):
        trained.restore("line_iter_4.solverstate")
    assert snapshot_files.newest_whole("line") == "line_iter_2.solverstate"


def test_checksums_are_those_of_sha256sum(trained: Solver) -> None:
    assert checksums.read("line_iter_4.sha256") == {
        name: checksums.digest(name) for name in ("line_iter_4.caffemodel", "line_iter_4.solverstate")
    }


def test_a_snapshot_without_checksums_loads_with_a_word(trained: Solver, capfd: pytest.CaptureFixture[str]) -> None:
    Path("line_iter_4.sha256").unlink()
    trained.restore("line_iter_4.solverstate")
    assert "line_iter_4.solverstate has no checksums" in capfd.readouterr().err
    assert trained.iter == 4


def test_no_whole_snapshot(trained: Solver) -> None:
    for path in Path().glob("*.caffemodel"):
        path.write_bytes(b"")
    assert snapshot_files.newest_whole("line") is None
    assert snapshot_files.newest_whole("nowhere/line") is None


def test_keep(solver_param: Make) -> None:
    Path("line_iter_1.caffemodel").write_bytes(b"weights that a training started from")
    Solver(solver_param("snapshot: 2"), keep=2).step(6)
    kept = {f"line_iter_{n}.{kind}" for n in (4, 6) for kind in ("caffemodel", "solverstate", "sha256")}
    assert {path.name for path in Path().glob("line_*")} == kept | {"line_iter_1.caffemodel"}


def test_one_that_cannot_be_removed_does_not_keep_the_others(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net_iter_2.solverstate").mkdir()  # which is not a file to remove
    for name in ("net_iter_2.caffemodel", "net_iter_4.solverstate", "net_iter_4.caffemodel"):
        (tmp_path / name).touch()
    snapshot_files.remove(str(tmp_path / "net"), [2, 4])
    assert {path.name for path in tmp_path.iterdir()} == {"net_iter_2.solverstate", "net_iter_2.caffemodel"}
    assert "net_iter_2.solverstate: an old snapshot that cannot be removed" in capfd.readouterr().err


def test_the_best_weights_and_patience(solver_param: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's loss is scripted: it is lowest after two iterations."""
    param = solver_param("max_iter: 50 snapshot: 100" + TESTS)
    best = BestWeights(param, patience=3)
    solver = Solver(param, best=best)
    losses = iter([5.0, 4.0, 1.0, 2.0, float("nan"), 1.0])
    monkeypatch.setattr(solver._testing, "run", lambda *_: {"loss": next(losses)})
    held: dict[int, list[Tensor]] = {}
    solver.add_callback(lambda: held.setdefault(solver.iter, [p.clone() for p in solver.net.learnable_params]), int)
    solver.step(50)
    assert solver.iter == 5
    assert solver._stop is Action.STOP
    copy_trained_from(solver.net, "line_best.caffemodel")
    for ours, theirs in zip(solver.net.learnable_params, held[2], strict=True):
        np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy())
    resumed = BestWeights(param, patience=3)
    resumed.resume()
    assert resumed.best == best.best
    assert resumed.tested(solver.net, solver.test_nets[0], {"loss": 1.0}, 5)


def test_weights_with_nan_are_refused_by_layer_and_blob(trained: Solver, capfd: pytest.CaptureFixture[str]) -> None:
    trained.net.learnable_params[1].data[2] = float("nan")
    save(trained.net, "bad.caffemodel")
    with pytest.raises(CaffeError, match=r"bad\.caffemodel: layer 'hidden', blob 1: 1 of 5 values are nan or infinite"):
        copy_trained_from(trained.net, "bad.caffemodel")
    PyNet(trained.net).copy_from("bad.caffemodel")  # as Caffe does, with a warning
    assert "layer 'hidden', blob 1" in capfd.readouterr().err
    shutil.copy("bad.caffemodel", "line_iter_4.caffemodel")
    Path("line_iter_4.sha256").unlink()
    with pytest.raises(CaffeError, match=r"layer 'hidden', blob 1.*newest whole snapshot is line_iter_2"):
        trained.restore("line_iter_4.solverstate")


def test_large_weights_are_finite(trained: Solver) -> None:
    trained.net.learnable_params[0].data.fill_(3e38)  # their sum is not
    save(trained.net, "large.caffemodel")
    copy_trained_from(trained.net, "large.caffemodel")


def test_another_runs_snapshots_are_not_overwritten(
    trained: Solver, solver_param: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("solver.prototxt").write_text(text_format.MessageToString(solver_param("snapshot: 2")))
    before = {path: path.read_bytes() for path in Path().glob("line_*")}
    assert train.main(["-solver", "solver.prototxt"]) == 1
    assert "line_iter_4.solverstate. Give -snapshot auto" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in Path().glob("line_*")} == before
    assert train.main(["-solver", "solver.prototxt", "-snapshot", "auto"]) == 0
    assert "Resuming from line_iter_4.solverstate" in capfd.readouterr().err
    assert train.main(["-solver", "solver.prototxt", "-overwrite", "-weights", "line_iter_2.caffemodel"]) == 1
    assert "-weights line_iter_2.caffemodel is one of the snapshots that -overwrite removes" in capfd.readouterr().err
    assert train.main(["-solver", "solver.prototxt", "-overwrite", "-keep", "1"]) == 0
    assert [path.name for path in Path().glob("*.solverstate")] == ["line_iter_6.solverstate"]


def test_a_run_that_starts_again_is_not_mixed_with_the_one_before(trained: Solver, solver_param: Make) -> None:
    """The other's snapshots stay until there is a new one, and go then, although they are of later iterations."""
    solver = Solver(solver_param("snapshot: 1"), overwrite=True)
    assert snapshot_files.newest_whole("line") == "line_iter_4.solverstate"
    solver.step(1)
    assert {path.name for path in Path().glob("line_*")} == {
        f"line_iter_1.{kind}" for kind in ("caffemodel", "solverstate", "sha256")
    }
    solver.step(1)
    assert len(list(Path().glob("*.solverstate"))) == 2


def test_resuming_with_auto(trained: Solver, solver_param: Make, capfd: pytest.CaptureFixture[str]) -> None:
    """From the newest whole snapshot; -weights only where there is none."""
    flip("line_iter_4.solverstate")
    shutil.copy("line_iter_2.caffemodel", "start.caffemodel")
    Path("solver.prototxt").write_text(text_format.MessageToString(solver_param()))
    command = ["-solver", "solver.prototxt", "-snapshot", "auto", "-weights", "start.caffemodel"]
    assert train.main(command) == 0
    err = capfd.readouterr().err
    assert "Snapshot line_iter_4.solverstate is not used: line_iter_4.solverstate: damaged" in err
    assert "Resuming from line_iter_2.solverstate" in err
    assert "Finetuning" not in err
    for path in Path().glob("line_*"):
        path.unlink()
    assert train.main(command) == 0
    err = capfd.readouterr().err
    assert "No whole snapshot under 'line': starting from the beginning" in err
    assert "Finetuning from start.caffemodel" in err
    assert "Resuming" not in err


def commands(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capfd.readouterr().err.splitlines() if line.startswith("  caffe train ")]


def test_the_command_that_goes_on_after_a_loss_that_is_not_finite(
    solver_param: Make, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("solver.prototxt").write_text(text_format.MessageToString(solver_param("snapshot: 2 snapshot_after_train: 0")))
    monkeypatch.setenv("CAFFE_TEST_FAULT", "nan 0 3")
    assert train.main(["-base_lr=0.05", "-solver", "solver.prototxt", "-keep", "4", "-overwrite"]) == 1
    command = commands(capfd)[0]
    assert command == (
        "  caffe train -solver solver.prototxt -keep 4 -snapshot line_iter_2.solverstate -base_lr 0.005 -skip_iterations 2"
    )
    assert train.main(command.split()[2:]) == 0


def test_the_same_before_the_first_snapshot(
    trained: Solver, solver_param: Make, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It starts again from the same weights, or from the snapshot that it was resumed from, which has later ones."""
    Path("solver.prototxt").write_text(text_format.MessageToString(solver_param("snapshot_after_train: 0")))
    shutil.copy("line_iter_2.caffemodel", "start.caffemodel")
    monkeypatch.setenv("CAFFE_TEST_FAULT", "nan 0 3")
    assert train.main(["-solver", "solver.prototxt", "-weights", "start.caffemodel", "-overwrite", "true"]) == 1
    assert commands(capfd) == [
        "  caffe train -solver solver.prototxt -weights start.caffemodel -overwrite -base_lr 0.005 -skip_iterations 4",
        "  caffe train -solver solver.prototxt -snapshot line_stopped_iter_3.solverstate -skip_iterations 1",
    ]
    assert train.main(["-solver", "solver.prototxt", "-snapshot", "line_iter_2.solverstate"]) == 1
    err = capfd.readouterr().err
    assert "line_iter_4.solverstate is of a later iteration than 2, and stays until this run gets there" in err
    lower_rate = (
        "  caffe train -solver solver.prototxt -snapshot line_iter_2.solverstate -base_lr 0.005 -skip_iterations 2"
    )
    assert lower_rate in err.splitlines()
