"""A loss that is not finite ends `caffe train` with the names of the records that it was computed from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffe.cli import caffe
from caffe.data.lmdb_source import LmdbWriter
from caffe.proto import caffe_pb2

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
    """What `caffe train` says in the end; the command that goes on, in the last line, is tested with the solver."""
    Path("solver.prototxt").write_text(SOLVER + solver)
    assert caffe.main(["train", "-solver", "solver.prototxt"]) == 1
    err = capfd.readouterr().err
    assert "Traceback" not in err
    message, command = err.strip().splitlines()[-2:]
    assert command.startswith("  caffe train -solver solver.prototxt ")
    return message


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
    assert not list(folder.glob("*.caffemodel"))


def test_the_last_batch_is_named_where_the_database_begins_again(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "net.prototxt").write_text(NET.replace("batch_size: 2", "batch_size: 8"))
    database(folder / "db", nan_at=8)
    assert ": photo_8, photo_9, photo_0, photo_1, photo_2," in message_of("base_lr: 0.01", capfd)
