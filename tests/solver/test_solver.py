"""The training loop: what it logs, when it tests and snapshots, how it resumes, what it refuses."""

from __future__ import annotations

import io
import json
import math
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from caffe import log
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from caffe.solver.requests import Action, SignalRequests
from caffe.solver.smoothing import SmoothedLoss
from caffe.solver.solver import Solver
from tests.golden.cases import case_files

Make = Callable[..., Any]


def weights(net: Any) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in net.learnable_params]


def messages(err: str) -> list[str]:
    """Log lines without their prefix."""
    return re.findall(r"^[IWE]\d{8} [\d:.]+ +\d+ ([a-z_]+\.(?:cpp|py):\d+\] .*)$", err, re.M)


@pytest.mark.parametrize("layerwise", [False, True])
@pytest.mark.parametrize("file", case_files("solver"), ids=lambda file: file.stem)
def test_reference_solvers(tmp_path: Path, file: Path, layerwise: bool) -> None:
    case = np.load(file)
    (tmp_path / "net.prototxt").write_text(str(case["prototxt"]))
    param = text_format.Parse(json.loads(str(case["meta"]))["solver"], caffe_pb2.SolverParameter())
    param.net = str(tmp_path / "net.prototxt")
    solver = Solver(param, layerwise=layerwise)
    for blob in ("x", "t"):
        solver.net.blobs[blob].data[...] = case[blob]
    layers = {step.layer.name: step.layer for step in solver.net.steps}
    parameters = {n: layers[n[0]].blobs[int(n[2])] for n in ("c_0", "c_1", "f_0", "f_1")}
    for name, blob in parameters.items():
        blob.detach().numpy()[...] = case[f"{name}_init"]
    losses = []
    for _ in range(12):
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    np.testing.assert_allclose(losses, case["losses"], rtol=1e-5, atol=1e-6)
    for name, blob in parameters.items():
        want = case[f"{name}_final"]
        assert np.linalg.norm(blob.detach().numpy() - want) / np.linalg.norm(want) < 1e-5, name


def test_log_of_a_whole_run(solver_param: Make, capfd: pytest.CaptureFixture[str]) -> None:
    Solver(solver_param("test_iter: 2 test_interval: 3 snapshot: 4")).solve()
    lines = [line for line in messages(capfd.readouterr().err) if not line.startswith("net.cpp")]
    steps = [line for line in lines if re.search(r"Iteration|Snapshotting|output|Optim|Effective", line)]
    number = r"[-+.e\d]+"
    expected = [r"training_log.py:\d+\] Effective batch size: 4 \(batch_size 4 x iter_size 1 x 1 device\)"]
    for i in range(6):
        if i % 3 == 0:
            expected += [
                rf"solver.cpp:433\] Iteration {i}, Testing net \(#0\)",
                rf"solver.cpp:425\]     Test net output #0: loss = {number} \(\* 1 = {number} loss\)",
            ]
        expected += [
            rf"solver.cpp:243\] Iteration {i}, loss = {number}",
            rf"solver.cpp:259\]     Train net output #0: loss = {number} \(\* 1 = {number} loss\)",
            rf"sgd_solver.cpp:138\] Iteration {i}, lr = 0.05",
        ]
        if i == 3:
            expected += [
                r"solver.cpp:596\] Snapshotting to binary proto file line_iter_4.caffemodel",
                r"sgd_solver.cpp:307\] Snapshotting solver state to binary proto file line_iter_4.solverstate",
            ]
    expected += [
        r"solver.cpp:596\] Snapshotting to binary proto file line_iter_6.caffemodel",
        r"sgd_solver.cpp:307\] Snapshotting solver state to binary proto file line_iter_6.solverstate",
        rf"solver.cpp:332\] Iteration 6, loss = {number}",
        r"solver.cpp:433\] Iteration 6, Testing net \(#0\)",
        rf"solver.cpp:425\]     Test net output #0: loss = {number} \(\* 1 = {number} loss\)",
        r"solver.cpp:337\] Optimization Done.",
    ]
    assert len(steps) == len(expected), "\n".join(steps)
    for line, pattern in zip(steps, expected, strict=True):
        assert re.fullmatch(pattern, line), f"{line!r} should match {pattern!r}"


def test_both_ways_of_running_agree(solver_param: Make) -> None:
    solvers = [Solver(solver_param("iter_size: 2"), layerwise=layerwise) for layerwise in (False, True)]
    for solver in solvers:
        solver.step(4)
    for a, b in zip(*(weights(s.net) for s in solvers), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_layerwise_shows_every_diff(solver_param: Make) -> None:
    solver = Solver(solver_param(), layerwise=True)
    before = weights(solver.net)
    solver.step(1)
    assert np.abs(solver.net.blobs["hidden"].diff).max() > 0
    for old, new, p in zip(before, weights(solver.net), solver.net.learnable_params, strict=True):
        assert p.grad is not None
        # After the update a parameter's diff is what was subtracted from it.
        np.testing.assert_allclose(old - new, p.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
@pytest.mark.parametrize("rule", ['type: "SGD"', 'type: "Adam"', 'type: "AdaDelta"'])
def test_resumed_run_equals_the_uninterrupted(solver_param: Make, rule: str, form: str) -> None:
    text = f'{rule} snapshot: 3 snapshot_format: {form} lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 5'
    text += " test_iter: 2 test_interval: 2"
    whole = Solver(solver_param(text))
    whole.solve()
    resumed = Solver(solver_param(text + " random_seed: 3"))
    resumed.restore("line_iter_3.solverstate" + (".h5" if form == "HDF5" else ""))
    assert resumed.iter == 3
    resumed.solve()
    for a, b in zip(weights(whole.net), weights(resumed.net), strict=True):
        np.testing.assert_array_equal(a, b)
    for net, other in zip(whole.test_nets, resumed.test_nets, strict=True):
        assert [s.batch for s in net.source_layers] == [s.batch for s in other.source_layers]


def test_dropout_continues_too(solver_param: Make, workdir: Path) -> None:
    net = (workdir / "net.prototxt").read_text()
    dropout = 'layer { name: "drop" type: "Dropout" bottom: "hidden" top: "hidden" }\n'
    (workdir / "net.prototxt").write_text(net.replace('layer {\n  name: "y"', dropout + 'layer {\n  name: "y"'))
    whole, resumed = (Solver(solver_param("snapshot: 3")) for _ in range(2))
    whole.solve()
    resumed.restore("line_iter_3.solverstate")
    resumed.solve()
    np.testing.assert_array_equal(weights(whole.net)[0], weights(resumed.net)[0])


def test_weights_are_found_beside_the_state(solver_param: Make, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = Solver(solver_param("max_iter: 2"))
    trained.solve()
    (workdir / "elsewhere").mkdir()
    for name in ("line_iter_2.caffemodel", "line_iter_2.solverstate"):
        (workdir / name).rename(workdir / "elsewhere" / name)
    resumed = Solver(solver_param())
    resumed.restore("elsewhere/line_iter_2.solverstate")
    np.testing.assert_array_equal(weights(trained.net)[0], weights(resumed.net)[0])
    (workdir / "elsewhere" / "line_iter_2.caffemodel").unlink()
    with pytest.raises(CaffeError, match=r"line_iter_2\.caffemodel, are neither there nor beside it"):
        resumed.restore("elsewhere/line_iter_2.solverstate")


def test_first_loss_that_is_not_finite_ends_training(
    solver_param: Make, monkeypatch: pytest.MonkeyPatch, workdir: Path
) -> None:
    monkeypatch.setenv("CAFFE_TEST_FAULT", "nan 0 4")
    solver = Solver(solver_param("snapshot: 2"))
    with pytest.raises(CaffeError) as caught:
        solver.solve()
    text = str(caught.value)
    for part in ("loss is nan at iteration 4", "learning rate 0.05", "00000016, 00000017", "line_iter_4.caffemodel"):
        assert part in text
    assert all(np.isfinite(w).all() for w in weights(solver.net))
    assert not list(workdir.glob("line_iter_6*"))


def test_training_goes_on_after_nan_if_asked_but_writes_no_ruined_snapshot(
    solver_param: Make, monkeypatch: pytest.MonkeyPatch, workdir: Path
) -> None:
    monkeypatch.setenv("CAFFE_TEST_FAULT", "nan 0 4")
    solver = Solver(solver_param("snapshot: 2"), stop_on_nonfinite=False)
    with pytest.raises(CaffeError, match="no snapshot written: the weights are no longer finite"):
        solver.solve()
    assert solver.iter == 6
    assert sorted(p.name for p in workdir.glob("*.caffemodel")) == ["line_iter_2.caffemodel", "line_iter_4.caffemodel"]


@pytest.mark.parametrize(("number", "effect"), [(signal.SIGINT, Action.STOP), (signal.SIGHUP, Action.SNAPSHOT)])
def test_signals(solver_param: Make, workdir: Path, number: signal.Signals, effect: Action) -> None:
    with SignalRequests(Action.STOP, Action.SNAPSHOT) as requests:
        sent = False

        def ask() -> Action:
            nonlocal sent
            if solver.iter == 2 and not sent:
                sent = True
                os.kill(os.getpid(), number)
            return requests()

        solver = Solver(solver_param("snapshot_after_train: false"), requests=ask)
        solver.solve()
    assert (workdir / "line_iter_2.solverstate").exists()
    assert solver.iter == (2 if effect is Action.STOP else 6)


def test_second_interrupt_ends_at_once() -> None:
    with SignalRequests(Action.STOP, Action.NONE):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


class InterruptedFile(io.RawIOBase):
    """A file to which each write is interrupted by Ctrl-C."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        signal.raise_signal(signal.SIGINT)
        return len(data)


def test_an_interrupt_while_the_log_is_written(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with SignalRequests(Action.STOP, Action.NONE) as requests:
        monkeypatch.setattr("sys.stderr", io.TextIOWrapper(io.BufferedWriter(InterruptedFile())))
        log.info("solver.cpp:243", "Iteration 100, loss = 1")
        monkeypatch.undo()
        assert requests() is Action.STOP
    assert "Stopping after this iteration, with a snapshot" in capfd.readouterr().err


def test_stop_during_a_test(solver_param: Make, capfd: pytest.CaptureFixture[str]) -> None:
    asked = iter([Action.NONE, Action.STOP])
    solver = Solver(solver_param("test_iter: 3 test_interval: 1"), requests=lambda: next(asked, Action.NONE))
    solver.solve()
    assert solver.iter == 0
    assert "Test interrupted." in capfd.readouterr().err


def test_debug_info_logs_blobs_and_trains_alike(solver_param: Make, capfd: pytest.CaptureFixture[str]) -> None:
    plain, debug = Solver(solver_param()), Solver(solver_param("debug_info: true"))
    plain.step(2)
    capfd.readouterr()
    debug.step(2)
    err = capfd.readouterr().err
    assert re.search(r"\[Forward\] Layer hidden, top blob hidden data: 0\.\d+", err)
    assert re.search(r"\[Backward\] Layer y, bottom blob hidden diff: [\d.e-]+", err)
    np.testing.assert_allclose(weights(plain.net)[0], weights(debug.net)[0], rtol=1e-6)


def test_callbacks_come_around_the_gradients(solver_param: Make) -> None:
    solver = Solver(solver_param(), layerwise=True)
    seen: list[tuple[object, int]] = []

    def gradients_ready() -> None:
        gradient = solver.net.learnable_params[0].grad
        assert gradient is not None
        seen.append((bool(gradient.any()), solver.iter))

    solver.add_callback(lambda: seen.append(("start", solver.iter)), gradients_ready)
    solver.step(2)
    assert seen == [("start", 0), (True, 0), ("start", 1), (True, 1)]


def test_smoothed_loss_is_the_mean_of_the_window() -> None:
    losses = [5.0, 3.0, 4.0, 8.0, 1.0]
    smoothed = SmoothedLoss(3)
    for i, loss in enumerate(losses):
        smoothed.add(loss)
        assert smoothed.value == pytest.approx(np.mean(losses[max(0, i - 2) : i + 1]))


def test_test_net_has_the_training_weights_and_can_differ_by_stage(solver_param: Make, workdir: Path) -> None:
    text = (workdir / "net.prototxt").read_text()
    extra = 'layer { name: "sum" type: "Reduction" bottom: "y" top: "sum" include { stage: "long" } }'
    extra += '\nlayer { name: "drop_y" type: "Silence" bottom: "y" include { phase: TEST stage: "quiet" } }'
    (workdir / "net.prototxt").write_text(text + extra)
    param = solver_param('test_iter: 1 test_iter: 1 test_interval: 1 test_state { stage: "long" } test_state {}')
    solver = Solver(param)
    assert [net.outputs for net in solver.test_nets] == [["loss", "sum"], ["loss"]]
    solver.test_all()
    assert solver.test_nets[0].learnable_params[0].data_ptr() == solver.net.learnable_params[0].data_ptr()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('train_net: "net.prototxt"', "exactly one of net, net_param, train_net, train_net_param; it gives net and"),
        ("test_iter: 1", "test_interval is 0"),
        ("test_iter: 0 test_interval: 1", "test_iter is .0."),
        ('test_net: "net.prototxt"', "there are 0 test_iter and 1 test nets"),
        ("test_iter: 1 test_interval: 1 test_state {} test_state {}", "test_state must be left out or given once"),
        ("average_loss: 0", "average_loss is 0"),
        ("iter_size: 0", "iter_size is 0"),
        ('eval_type: "segmentation"', "unknown eval_type 'segmentation'"),
        ('snapshot: 1 snapshot_prefix: "no/where/x"', "no/where, which is not a directory; create it"),
        ('type: "SGDD"', "unknown type 'SGDD'"),
    ],
)
def test_refused_settings(solver_param: Make, text: str, message: str) -> None:
    with pytest.raises(CaffeError, match=message):
        Solver(solver_param(text))


def test_snapshot_without_prefix_is_refused(solver_param: Make) -> None:
    param = solver_param("snapshot: 1")
    param.ClearField("snapshot_prefix")
    with pytest.raises(CaffeError, match="snapshot is given but snapshot_prefix is not"):
        Solver(param)


def test_folder_of_the_last_snapshot_is_checked_before_training(solver_param: Make) -> None:
    solver = Solver(solver_param('snapshot_prefix: "no/where/x"'))
    with pytest.raises(CaffeError, match="no/where, which is not a directory; create it"):
        solver.solve()
    assert solver.iter == 0
    Solver(solver_param('snapshot_prefix: "no/where/x" snapshot_after_train: false')).solve()


def test_state_of_another_solver_or_net_is_refused(solver_param: Make) -> None:
    Solver(solver_param('max_iter: 1 type: "Adam"')).solve()
    with pytest.raises(CaffeError, match="holds 8 history blobs, this solver has 4"):
        Solver(solver_param()).restore("line_iter_1.solverstate")
    with pytest.raises(CaffeError, match="holds weights, not a solver state.*there is line_iter_1.solverstate"):
        Solver(solver_param()).restore("line_iter_1.caffemodel")


def test_unknown_policy_can_be_looked_at_but_not_trained(solver_param: Make) -> None:
    solver = Solver(solver_param('lr_policy: "cosine"'))
    with pytest.raises(CaffeError, match="unknown lr_policy 'cosine'"):
        solver.step(1)
    assert math.isfinite(solver.net.forward_layers())
