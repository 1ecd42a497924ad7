"""A loss that is not finite ends `caffe train` with the names of the records that it was computed from."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from caffe.cli import caffe
from caffe.data.lmdb_source import LmdbWriter
from caffe.proto import caffe_pb2
from caffe.proto.weights import read_weights
from caffe.solver import snapshot_files

NET = """
name: "means"
layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "db" batch_size: 2 backend: LMDB } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 1 weight_filler { type: "constant" value: 0.1 } } }
layer { name: "flat" type: "Reshape" bottom: "label" top: "target" reshape_param { shape { dim: -1 dim: 1 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "target" top: "loss" }
"""
SOLVER = 'net: "net.prototxt" lr_policy: "fixed" max_iter: 50 snapshot_prefix: "means" solver_mode: CPU random_seed: 1 '


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.prototxt").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def database(path: Path, nan_at: int | None = None) -> None:
    """Ten records of 1×2×2 floats; all values of record `nan_at` are nan."""
    random = np.random.default_rng(0)
    with LmdbWriter(path) as writer:
        for number in range(10):
            values = np.full(4, np.nan) if number == nan_at else random.normal(size=4)
            datum = caffe_pb2.Datum(channels=1, height=2, width=2, label=number % 3, float_data=values.tolist())
            writer.put(f"photo_{number}".encode(), datum.SerializeToString())


def message_of(solver: str, capfd: pytest.CaptureFixture[str]) -> str:
    """What `caffe train` says in the end, before the commands that go on."""
    Path("solver.prototxt").write_text(SOLVER + solver)
    assert caffe.main(["train", "-solver", "solver.prototxt"]) == 1
    err = capfd.readouterr().err
    assert "Traceback" not in err
    lines = err.strip().splitlines()
    (at,) = (number for number, line in enumerate(lines) if "To go on with a tenth of the rate" in line)
    assert lines[at + 1].startswith("  caffe train -solver solver.prototxt ")
    return lines[at]


def commands(capfd: pytest.CaptureFixture[str]) -> list[list[str]]:
    """The commands that the last message shows."""
    err = capfd.readouterr().err
    return [shlex.split(line)[1:] for line in err.splitlines() if line.startswith("  caffe train ")]


def weights(path: str) -> list[np.ndarray]:
    return [blob for layer in read_weights(path) for blob in layer.blobs]


def test_weights_before_a_bad_record_are_set_aside(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    database(folder / "db", nan_at=9)
    Path("solver.prototxt").write_text(SOLVER + "base_lr: 0.01 snapshot: 3")
    assert caffe.main(["train", "-solver", "solver.prototxt"]) == 1
    lower, past = commands(capfd)
    assert lower[1:] == ["-solver", "solver.prototxt", "-snapshot", "means_iter_3.solverstate", "-base_lr", "0.001",
                         "-skip_iterations", "2"]  # fmt: skip
    assert past[1:] == ["-solver", "solver.prototxt", "-snapshot", "means_stopped_iter_4.solverstate",
                        "-skip_iterations", "1"]  # fmt: skip
    assert snapshot_files.problem("means_stopped_iter_4.solverstate") == ""
    assert snapshot_files.newest_whole("means") == "means_iter_3.solverstate"
    # as if the run had been asked to stop there
    Path("other.prototxt").write_text(
        SOLVER.replace("max_iter: 50", "max_iter: 4").replace("means", "four") + "base_lr: 0.01"
    )
    assert caffe.main(["train", "-solver", "other.prototxt"]) == 0
    for aside, wanted in zip(
        weights("means_stopped_iter_4.caffemodel"), weights("four_iter_4.caffemodel"), strict=True
    ):
        np.testing.assert_array_equal(aside, wanted)


@pytest.mark.parametrize("which", [0, 1])
def test_the_commands_go_on(folder: Path, capfd: pytest.CaptureFixture[str], which: int) -> None:
    database(folder / "db", nan_at=9)
    Path("solver.prototxt").write_text(SOLVER.replace("max_iter: 50", "max_iter: 6") + "base_lr: 0.01 snapshot: 3")
    assert caffe.main(["train", "-solver", "solver.prototxt"]) == 1
    command = commands(capfd)[which]
    assert caffe.main(command) == 0
    assert snapshot_files.problem("means_iter_6.solverstate") == ""


def test_nothing_is_set_aside_where_a_snapshot_is(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    database(folder / "db", nan_at=9)
    Path("solver.prototxt").write_text(SOLVER + "base_lr: 0.01 snapshot: 2")
    assert caffe.main(["train", "-solver", "solver.prototxt"]) == 1
    assert len(commands(capfd)) == 1
    assert not list(folder.glob("*stopped*"))


def test_weights_that_are_not_finite_are_not_set_aside(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    database(folder / "db")
    Path("solver.prototxt").write_text(SOLVER + "base_lr: 1e30 momentum: 0.9")
    assert caffe.main(["train", "-solver", "solver.prototxt"]) == 1
    assert not list(folder.glob("*stopped*"))


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_bad_record_is_among_the_two_named(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setenv("CAFFE_DATA_WORKERS", workers)
    database(folder / "db", nan_at=5)
    message = message_of("base_lr: 0.01", capfd)
    assert "the loss is nan at iteration 2" in message
    assert "records of the batch: photo_4, photo_5. The weights were not updated" in message


def test_of_several_batches_an_iteration_the_bad_one_is_named(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    database(folder / "db", nan_at=5)
    message = message_of("base_lr: 0.01 iter_size: 4", capfd)
    assert "the loss is nan at iteration 0" in message
    assert "records of the batch: photo_4, photo_5." in message


def test_a_rate_too_high(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    database(folder / "db")
    message = message_of("base_lr: 1e30", capfd)
    assert "learning rate 1e+30; records of the batch: photo_" in message
    assert "base_lr" in message
    assert not list(folder.glob("means_iter_*"))


def test_the_last_batch_is_named_where_the_database_begins_again(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "net.prototxt").write_text(NET.replace("batch_size: 2", "batch_size: 8"))
    database(folder / "db", nan_at=8)
    assert ": photo_8, photo_9, photo_0, photo_1, photo_2," in message_of("base_lr: 0.01", capfd)
