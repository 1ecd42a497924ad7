"""However a training ends, the last iteration whose weights are good is on disk, and a run resumed from it ends bit for
bit as one that was never stopped."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from caffe.proto.solver_state import read_solver_state
from caffe.proto.weights import read_weights
from caffe.solver.solver import Solver
from tests.processes import ROOT, running
from tests.solver.conftest import NET

HERE = Path(__file__).parent
Make = Callable[..., Any]
#: a net with all that a resumed run must repeat: dropout's draws, and statistics that change in forward
DRAWING = NET.replace(
    'layer { name: "act"',
    """layer { name: "norm" type: "BatchNorm" bottom: "hidden" top: "hidden" }
layer { name: "drop" type: "Dropout" bottom: "hidden" top: "hidden" dropout_param { dropout_ratio: 0.3 } }
layer { name: "act\"""",
)
LONG = 'max_iter: 1000000 display: 1 snapshot: 0 type: "Adam" base_lr: 0.001 '


@pytest.fixture(autouse=True)
def drawing(workdir: Path) -> None:
    (workdir / "net.prototxt").write_text(DRAWING)


class Run:
    """`caffe train` in a process of its own, with all of its output."""

    def __init__(self, param: Any, *flags: str, fault: str = "", before: Any = None, torchrun: bool = False) -> None:
        Path("solver.prototxt").write_text(text_format.MessageToString(param))
        program = [sys.executable]
        if torchrun:
            program += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        self._running = running(
            [*program, HERE / "rank_driver.py", "train", "-solver", "solver.prototxt", *flags],
            env=dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", CAFFE_TEST_FAULT=fault),
            before=before, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.output = ""

    def __enter__(self) -> Run:
        self.process = self._running.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._running.__exit__(*exception)

    def until(self, text: str) -> None:
        """Reads the output up to a line with `text`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return
        raise AssertionError(f"ended without '{text}':\n{self.output}")

    def end(self) -> int:
        """The exit status; the output is complete then."""
        self.output += self.process.communicate()[0]
        assert "Traceback" not in self.output, self.output
        return self.process.returncode


def stored(path: str | Path) -> list[np.ndarray]:
    return [np.array(blob) for layer in read_weights(path) for blob in layer.blobs]


def the_snapshot() -> tuple[int, str]:
    """Iteration and name of the only solver state."""
    (state,) = Path().glob("*.solverstate")
    return read_solver_state(state).iter, state.name


def check_resumes_as_if_never_stopped(make: Make, text: str) -> int:
    """Compares the run resumed from the snapshot with a whole one, six iterations later. Returns where it stopped."""
    done, state = the_snapshot()
    whole, resumed = (Solver(make(text)) for _ in range(2))
    whole.step(done + 6)
    resumed.restore(state)
    resumed.step(6)
    for ours, theirs in zip(resumed.net.learnable_params, whole.net.learnable_params, strict=True):
        np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy())
    for resumed_blob, whole_blob in zip(resumed.history, whole.history, strict=True):
        np.testing.assert_array_equal(resumed_blob.numpy(), whole_blob.numpy())
    return done


def test_sigterm_in_training(solver_param: Make) -> None:
    with Run(solver_param(LONG + "iter_size: 2"), fault="slow_train 0.01") as run:
        run.until("Iteration 7, loss")
        run.process.send_signal(signal.SIGTERM)
        assert run.end() == 143, run.output
    assert "SIGTERM: stopping after this iteration" in run.output
    assert "Optimization stopped early." in run.output
    assert check_resumes_as_if_never_stopped(solver_param, LONG + "iter_size: 2") >= 8


def test_sigterm_in_a_test(solver_param: Make) -> None:
    tests = LONG + "test_iter: 1000 test_interval: 4 test_initialization: false"
    with Run(solver_param(tests), fault="slow_test 0.05") as run:
        run.until("Iteration 4, Testing net")
        run.process.send_signal(signal.SIGTERM)
        assert run.end() == 143, run.output
    assert "Test interrupted." in run.output
    assert check_resumes_as_if_never_stopped(solver_param, LONG) == 4


def test_an_iteration_that_does_not_end(solver_param: Make) -> None:
    with Run(solver_param(LONG), "-stop_seconds", "0.5", fault="hang 0 5") as run:
        run.until("Iteration 4, lr")
        time.sleep(0.5)  # it has begun the next one by then
        run.process.send_signal(signal.SIGTERM)
        assert run.end() == 143, run.output
    assert "Iteration 5 does not end in time: writing the weights before it." in run.output
    assert check_resumes_as_if_never_stopped(solver_param, LONG) == 5


def test_sigterm_before_there_is_anything_to_keep(solver_param: Make) -> None:
    """Unless training has begun by the time that the signal arrives: then its snapshot is there."""
    with Run(solver_param(LONG), "-cpu_ranks", "1") as run:
        run.until("Initializing solver")
        run.process.send_signal(signal.SIGTERM)
        status = run.end()
        begun = bool(list(Path().glob("*.caffemodel")))
        assert status == (143 if begun else -signal.SIGTERM), run.output
        assert "Traceback" not in run.output


def test_sigterm_while_ranks_start(solver_param: Make) -> None:
    with Run(solver_param(LONG), "-cpu_ranks", "2") as run:
        run.until("Initializing solver")
        run.process.send_signal(signal.SIGTERM)
        assert run.end() == 143, run.output
        assert "Traceback" not in run.output


def descendants(pid: int) -> list[int]:
    children = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(below for child in children for below in descendants(child))]


@pytest.mark.parametrize("to", ["the launcher", "all", "rank 1"])
def test_sigterm_with_several_ranks(solver_param: Make, to: str) -> None:
    """Kubernetes tells the first process, systemd and Slurm all of them, and one machine of several may be lost."""
    with Run(solver_param(LONG), "-cpu_ranks", "2", fault="slow_train 0.01") as run:
        run.until("Iteration 7, loss")
        first, ranks = run.process.pid, descendants(run.process.pid)
        for pid in {"the launcher": [first], "all": [first, *ranks], "rank 1": ranks[1:]}[to]:
            os.kill(pid, signal.SIGTERM)
        assert run.end() == 143, run.output
    assert "caffe train:" not in run.output
    assert the_snapshot()[0] >= 8


def test_sigterm_with_a_rank_that_hangs(solver_param: Make) -> None:
    with Run(solver_param(LONG), "-cpu_ranks", "2", "-stop_seconds", "0.5", fault="hang 1 5") as run:
        run.until("Iteration 4, lr")
        time.sleep(0.5)  # it has begun the next one by then
        run.process.send_signal(signal.SIGTERM)
        assert run.end() == 143, run.output
    assert the_snapshot()[0] == 5


def test_sigterm_under_torchrun(solver_param: Make) -> None:
    with Run(solver_param(LONG), torchrun=True, fault="slow_train 0.01") as run:
        run.until("Iteration 7, loss")
        run.process.send_signal(signal.SIGTERM)
        run.process.communicate()  # its status, and a stack trace, are torchrun's own
    assert the_snapshot()[0] >= 8


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_sigusr1_asks_for_a_snapshot(solver_param: Make, ranks: str) -> None:
    with Run(solver_param("max_iter: 100"), "-cpu_ranks", ranks, fault="slow_train 0.01") as run:
        run.until("Iteration 7, loss")
        run.process.send_signal(signal.SIGUSR1)
        assert run.end() == 0, run.output
    first, last = sorted(read_solver_state(path).iter for path in Path().glob("*.solverstate"))
    assert 8 <= first < last == 100


@pytest.mark.parametrize(
    ("number", "flag", "ranks"), [(signal.SIGINT, "-sigint_effect", "1"), (signal.SIGHUP, "-sighup_effect", "2")]
)
def test_an_ignored_signal_stays_ignored(solver_param: Make, number: signal.Signals, flag: str, ranks: str) -> None:
    def ignore() -> None:
        signal.signal(number, signal.SIG_IGN)

    for flags, done in (([], {60}), ([flag, "stop"], set(range(8, 60)))):
        for path in Path().glob("line_*"):
            path.unlink()
        with Run(
            solver_param("max_iter: 60"), "-cpu_ranks", ranks, *flags, fault="slow_train 0.01", before=ignore
        ) as run:
            run.until("Iteration 7, loss")
            run.process.send_signal(number)
            assert run.end() == 0, run.output
        assert the_snapshot()[0] in done


@pytest.mark.parametrize("ranks", ["1", "2"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raise 0 11", "record 00000042 is no JPEG image"),
        ("oom 0 11", "out of memory: can't allocate memory: you tried to allocate"),
    ],
)
def test_an_error_leaves_a_snapshot(solver_param: Make, fault: str, message: str, ranks: str) -> None:
    """In the second batch of the sixth iteration, when statistics have changed."""
    with Run(solver_param(LONG + "iter_size: 2"), "-cpu_ranks", ranks, fault=fault) as run:
        assert run.end() == 1
    assert message in run.output.splitlines()[-1]
    assert "Training ends with an error after 5 iterations. Their weights are good: to resume, give -snapshot "\
        "line_iter_5.solverstate" in run.output  # fmt: skip
    if ranks == "1":
        assert check_resumes_as_if_never_stopped(solver_param, LONG + "iter_size: 2") == 5


def test_an_error_in_a_test(solver_param: Make) -> None:
    """Between two iterations the statistics are those of the last one."""
    tests = "test_iter: 5 test_interval: 2 test_initialization: false"
    with Run(solver_param(LONG + tests), fault="raise 0 4") as run:
        assert run.end() == 1
    assert check_resumes_as_if_never_stopped(solver_param, LONG) == 2


def test_another_rank_that_fails(solver_param: Make) -> None:
    for fault in ("raise 1 5", "die 1 5"):
        for path in Path().glob("line_*"):
            path.unlink()
        with Run(solver_param(LONG), "-cpu_ranks", "2", fault=fault) as run:
            assert run.end() == 1
        assert the_snapshot()[0] == 5


def test_no_snapshot_of_weights_that_have_not_changed(solver_param: Make) -> None:
    with Run(solver_param(LONG), fault="raise 0 0") as run:
        assert run.end() == 1
    assert not list(Path().glob("*.caffemodel"))


def test_a_full_disk_does_not_end_training(solver_param: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snapshot's folder is gone for a while: the system's answer, as for a full disk, is an error of the write."""
    Path("out").mkdir()
    param = solver_param('max_iter: 9 snapshot: 2 snapshot_prefix: "out/line" test_iter: 1 test_interval: 3')
    with Run(param, fault="slow_train 0.4") as run:
        run.until("Iteration 2, loss")
        Path("out").rename("away")
        run.until("Iteration 6, Testing net")
        Path("away").rename("out")
        assert run.end() == 0, run.output
    assert re.search(r"No snapshot of iteration 4: .*The next attempt is after iteration 6", run.output)
    assert re.search(r"The newest snapshot, out/line_iter_2\.caffemodel, is 4 iterations behind: ", run.output)
    states = sorted(path.name for path in Path("out").glob("*.solverstate"))
    assert states == ["line_iter_2.solverstate", "line_iter_8.solverstate", "line_iter_9.solverstate"]


@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
def test_snapshots_larger_than_the_system_allows(solver_param: Make, form: str) -> None:
    """A limit on the size of files: each write fails in the middle, and so does the last, which ends the run."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))

    with Run(solver_param(f"snapshot: 2 snapshot_format: {form} test_iter: 1 test_interval: 3"), before=limit) as run:
        assert run.end() == 1
    assert "No snapshot of iteration 2: line_iter_2" in run.output
    assert "There is no snapshot of the 3 iterations of this run" in run.output
    assert re.match(r"caffe train: line_iter_6\.\S+: not written: File too large", run.output.splitlines()[-1])
    assert not [path for path in Path().iterdir() if ".tmp" in path.name]
