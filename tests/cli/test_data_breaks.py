"""Data that breaks, or whose readers die, in the middle of a training: the error names the record, the weights are kept.

The signals that a scheduler sends to every process of a job do not end the data workers.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import lmdb
import numpy as np
import pytest

from caffe.cli import caffe
from caffe.data.lmdb_source import LmdbWriter
from caffe.proto import caffe_pb2
from caffe.proto.solver_state import read_solver_state
from tests.processes import ROOT, running

NET = """
name: "means"
layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "db" batch_size: 2 backend: LMDB } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 1 weight_filler { type: "constant" value: 0.1 } } }
layer { name: "flat" type: "Reshape" bottom: "label" top: "target" reshape_param { shape { dim: -1 dim: 1 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "target" top: "loss" }
"""
SOLVER = (
    'net: "net.prototxt" lr_policy: "fixed" base_lr: 1e-9 max_iter: 10000000 display: 10 snapshot_prefix: "means" '
    "solver_mode: CPU random_seed: 1\n"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def database(records: int, side: int, broken: int | None = None, instead: Mapping[int, int] | None = None) -> None:
    """Records of 1 × side × side bytes, photo_000 to photo_N; `broken` has half of its pixels.

    `instead`: records that hold what others do.
    """
    shutil.rmtree("db", ignore_errors=True)
    with LmdbWriter("db") as writer:
        for place in range(records):
            number = (instead or {}).get(place, place)
            pixels = np.random.default_rng(number).bytes(side * side if number != broken else side * side // 2)
            datum = caffe_pb2.Datum(channels=1, height=side, width=side, label=number % 3, data=pixels)
            writer.put(f"photo_{place:03d}".encode(), datum.SerializeToString())


@contextmanager
def training(workers: int = 2) -> Iterator[subprocess.Popen[str]]:
    """`caffe train` as a process, from its 20th iteration on."""
    with running(
        [sys.executable, "-m", "caffe.cli.caffe", "train", "-solver", "solver.prototxt"],
        env=dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", CAFFE_DATA_WORKERS=str(workers)), stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert any("Iteration 20, loss" in line for line in process.stderr)
        yield process


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def check_kept(err: str) -> str:
    """There is a snapshot, and a line that says so; returns the last line."""
    assert "Traceback" not in err
    (state,) = Path().glob("*.solverstate")
    done = read_solver_state(state).iter
    assert f"Training ends with an error after {done} iterations." in err
    assert f"give -snapshot {state}" in err
    return err.strip().splitlines()[-1]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_broken_record(workers: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CAFFE_DATA_WORKERS", workers)
    database(10, 2, broken=7)
    assert caffe.main(["train", "-solver", "solver.prototxt"]) == 1
    message = check_kept(capfd.readouterr().err)
    assert "record 'photo_007'" in message
    assert list(Path().glob("*_iter_3.solverstate"))


@pytest.mark.parametrize("workers", ["0", "3"])
def test_bad_records_are_left_out_and_listed(
    workers: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A run in two pieces ends as a whole one, and both as one whose database has the next record in its place."""
    monkeypatch.setenv("CAFFE_DATA_WORKERS", workers)
    database(10, 2, broken=7)
    command = ["train", "-solver", "solver.prototxt", "-skip_bad_records", "1"]
    ends = []
    for pieces in ([12], [4, 12]):
        for length in pieces:
            Path("solver.prototxt").write_text(SOLVER.replace("10000000", str(length)).replace("1e-9", "1e-5"))
            assert caffe.main([*command, *(["-snapshot", "auto"] if length > pieces[0] else ["-overwrite"])]) == 0
            err = capfd.readouterr().err
            assert err.count("Left out, 1 of at most 1: ") == 1
            listed = err.partition("Records left out because they cannot be read: 1\n")[2].splitlines()[0]
            assert "record 'photo_007'" in listed
        ends.append(Path("means_iter_12.caffemodel").read_bytes())
    database(10, 2, instead={7: 8})
    assert caffe.main(["train", "-solver", "solver.prototxt", "-overwrite"]) == 0
    assert ends == [Path("means_iter_12.caffemodel").read_bytes()] * 2


def test_more_bad_records_than_allowed(capfd: pytest.CaptureFixture[str]) -> None:
    database(10, 2, broken=7)
    command = ["train", "-solver", "solver.prototxt", "-skip_bad_records", "1"]
    with lmdb.open("db") as environment, environment.begin(write=True) as transaction:
        transaction.put(b"photo_003", b"no datum")
    assert caffe.main(command) == 1
    err = capfd.readouterr().err
    assert "record 'photo_003'" in err.partition("Records left out because they cannot be read: 1\n")[2]
    message = check_kept(err)
    assert "record 'photo_007'" in message
    assert "Records left out before it: 1 (-skip_bad_records 1)" in message


def test_a_worker_that_is_killed() -> None:
    database(10, 2)
    with training() as process:
        os.kill(workers_of(process)[0], signal.SIGKILL)
        _, err = process.communicate()
    assert process.returncode == 1
    message = check_kept(err)
    assert re.search(r"record 'photo_\d+': the data worker was killed by SIGKILL", message)


def test_a_database_that_is_cut_off() -> None:
    """A page that can no longer be read is a SIGBUS for the worker that maps it."""
    database(200, 100)
    with training() as process:
        os.truncate("db/data.mdb", 3 * 4096)
        _, err = process.communicate()
    assert process.returncode == 1
    assert re.search(r"record 'photo_\d+'", check_kept(err))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_all_processes(number: signal.Signals) -> None:
    database(10, 2)
    with training() as process:
        os.killpg(process.pid, number)
        if number == signal.SIGUSR1:
            assert process.stderr is not None
            assert any("Snapshotting solver state" in line for line in process.stderr)
            process.send_signal(signal.SIGTERM)
        _, err = process.communicate()
    assert process.returncode == 143, err
    assert "Optimization stopped early." in err
    assert len(list(Path().glob("*.solverstate"))) == (1 if number == signal.SIGTERM else 2)


def test_an_exit_without_closing_ends_the_workers() -> None:
    """They ignore SIGTERM, which is how multiprocessing would end them."""
    database(10, 2)
    code = (
        "from caffe.engine.net import Net; from caffe.proto.text import read_net; import weakref\n"
        "net = Net(read_net('net.prototxt'), 0); net(); print('running', flush=True)"
    )
    with running(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT), "CAFFE_DATA_WORKERS": "2"}, seconds=30
    ) as process:
        assert process.wait() == 0
