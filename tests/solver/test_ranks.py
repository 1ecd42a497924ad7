"""Several ranks on gloo: the same training as one, and an exit with a message whatever happens to one of them.

Each test starts processes that import PyTorch, so each run checks several things.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf import text_format

from caffe.proto.solver_state import read_solver_state
from caffe.proto.weights import read_weights
from caffe.solver.solver import Solver
from tests.processes import ROOT, running

HERE = Path(__file__).parent


def start(
    workdir: Path, param: Any, *flags: str, ranks: int = 2, fault: str = ""
) -> AbstractContextManager[subprocess.Popen[str]]:
    """`caffe train` of a solver as a process, its output piped."""
    (workdir / "solver.prototxt").write_text(text_format.MessageToString(param))
    environment = dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", CAFFE_TEST_FAULT=fault)
    command: list[str | Path] = [sys.executable, HERE / "rank_driver.py", "train", "-solver", "solver.prototxt"]
    return running(
        [*command, "-cpu_ranks", str(ranks), *flags], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate()
    return process.returncode, output


def train(workdir: Path, param: Any, *flags: str, ranks: int = 2, fault: str = "") -> tuple[int, str]:
    """The whole run: status and output."""
    with start(workdir, param, *flags, ranks=ranks, fault=fault) as process:
        return finish(process)


def stored(path: str) -> list[np.ndarray]:
    return [np.array(blob) for layer in read_weights(path) for blob in layer.blobs]


def test_one_then_two_then_one_rank(workdir: Path, solver_param: Callable[..., Any]) -> None:
    """Two ranks are one with twice the iter_size: the run in three pieces ends as the whole one, within rounding."""
    adam = 'type: "Adam" base_lr: 0.01 '
    whole, first, last = (Solver(solver_param(adam + "iter_size: 2 snapshot: 2")) for _ in range(3))
    first.step(2)
    param = solver_param(adam + "test_iter: 2 test_interval: 2 snapshot: 3 average_loss: 2 max_iter: 5")
    code, output = train(workdir, param, "-snapshot", "auto")
    assert code == 0, output
    assert "Resuming from line_iter_2.solverstate" in output
    assert "Effective batch size: 8 (batch_size 4 x iter_size 1 x 2 devices)" in output
    assert read_solver_state("line_iter_3.solverstate").iter == 3
    last.restore("line_iter_5.solverstate")
    assert last.iter == 5
    assert last.net.source_layers[0].batch == 10  # its own records from there
    last.step(2)
    whole.step(7)
    for ours, theirs in zip(last.net.learnable_params, whole.net.learnable_params, strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=2e-6, atol=1e-7)


def test_batch_normalization_is_per_rank(workdir: Path, solver_param: Callable[..., Any]) -> None:
    """Each rank normalizes with the statistics of its own images, and the snapshot has those of rank 0, as in Caffe."""
    net = Path("net.prototxt")
    net.write_text(
        net.read_text().replace(
            'layer { name: "act"',
            """layer { name: "norm" type: "BatchNorm" bottom: "hidden" top: "hidden" param { lr_mult: 0 } param { lr_mult: 0 }
            param { lr_mult: 0 } }
            layer { name: "scale" type: "Scale" bottom: "hidden" top: "hidden" scale_param { bias_term: true } }
            layer { name: "act\"""",
        )
    )
    code, output = train(workdir, solver_param("max_iter: 3 snapshot: 1"))
    assert code == 0, output
    one = Solver(solver_param("iter_size: 2"))
    hidden = next(step.layer for step in one.net.steps if step.layer.name == "hidden")
    with torch.no_grad():  # the first iteration's statistics of rank 0, whose images are the first of each pair
        weight, bias = hidden.blobs
        x = torch.sin(torch.arange(4.0)[:, None] * torch.tensor([0.3, 0.7, 1.1])) @ weight.T + bias
    one.step(3)
    first = {layer.name: layer.blobs for layer in read_weights("line_iter_1.caffemodel")}
    np.testing.assert_allclose(first["norm"][0], x.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first["norm"][1], x.var(0), rtol=1e-5, atol=1e-6)
    last = {layer.name: layer.blobs for layer in read_weights("line_iter_3.caffemodel")}
    assert first["norm"][2] == 1
    assert last["norm"][2] == pytest.approx(1 + 0.999 + 0.999**2)
    for step in one.net.steps:
        for ours, theirs in zip(last.get(step.layer.name, []), step.layer.blobs, strict=True):
            if step.layer.name != "norm":
                np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=2e-5, atol=1e-6)


def test_torchrun_trains_over_several_machines(workdir: Path, solver_param: Callable[..., Any]) -> None:
    """Two of its agents, as on two machines: the weights are those of one process with twice the iter_size."""
    param = solver_param('type: "Adam" base_lr: 0.01')
    (workdir / "solver.prototxt").write_text(text_format.MessageToString(param))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ExitStack() as stack:
        machines = [
            stack.enter_context(running(
                [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node_rank", str(number),
                 "--nproc_per_node", "1", "--master_addr", "127.0.0.1", "--master_port", str(port),
                 HERE / "rank_driver.py", "train", "-solver", "solver.prototxt"],
                env=dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            ))
            for number in range(2)
        ]  # fmt: skip
        for code, output in map(finish, machines):
            assert code == 0, output
    one = Solver(solver_param('type: "Adam" base_lr: 0.01 iter_size: 2'))
    one.step(6)
    together = stored("line_iter_6.caffemodel")
    for ours, theirs in zip(together, [p.detach().numpy() for p in one.net.learnable_params], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("fault", "message", "kept"),
    [
        ("die 1 3", "rank 1 ended with status 7 and no message. The other ranks were stopped", "line_iter_3"),
        ("raise 1 3", "rank 1: record 00000042 is no JPEG image. The other ranks were stopped", "line_iter_3"),
        (
            "hang 1 3",
            "gave up waiting for another rank in iteration 3: rank 1 is still computing in iteration 3",
            "line_iter_3",
        ),
        # told by rank 0, which knows the snapshots; the gradients must not reach its weights
        (
            "nan 1 3",
            "loss is nan at iteration 3, learning rate 0.05; records of the batch: 00000028",
            "line_stopped_iter_3",
        ),
    ],
)
def test_one_rank_ends_all(
    workdir: Path, solver_param: Callable[..., Any], fault: str, message: str, kept: str
) -> None:
    code, output = train(workdir, solver_param(), "-rank_timeout", "8", fault=fault)
    assert code == 1
    (line,) = [line for line in output.splitlines() if line.startswith("caffe train: ")]
    assert message in line
    assert "Traceback" not in output
    assert [path.name for path in workdir.glob("*.solverstate")] == [f"{kept}.solverstate"]


def test_ctrl_c_leaves_a_snapshot_that_more_ranks_go_on_from(workdir: Path, solver_param: Callable[..., Any]) -> None:
    lines = []
    with start(workdir, solver_param("max_iter: 1000000 display: 100")) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "Iteration 100, loss" in line:
                process.send_signal(signal.SIGINT)
                break
        code, rest = finish(process)
    assert code == 0, "".join(lines) + rest
    assert "Optimization stopped early." in rest
    (state,) = workdir.glob("*.solverstate")
    done = read_solver_state(state).iter
    code, output = train(workdir, solver_param(f"max_iter: {done + 2}"), "-snapshot", state.name, ranks=3)
    assert code == 0, output
    assert re.search(rf"Iteration {done + 1}, loss = ", output)
    assert "Effective batch size: 12" in output


@pytest.mark.slow
def test_waiting_for_a_long_test_is_no_hang(workdir: Path, solver_param: Callable[..., Any]) -> None:
    # The test takes longer than the timeout; rank 0 shows that it is alive meanwhile.
    param = solver_param("test_iter: 60 test_interval: 3 test_initialization: false max_iter: 4")
    began = time.monotonic()
    code, output = train(workdir, param, "-rank_timeout", "8", fault="slow_test 0.2")
    assert code == 0, output
    assert time.monotonic() - began > 12
