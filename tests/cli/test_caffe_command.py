"""The `caffe` command: dispatch, flags, and the messages for wrong arguments."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch

from caffe.cli import caffe


def test_train_then_test_then_resume_then_finetune(tiny_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert caffe.main(["train", "-solver", "solver.prototxt"]) == 0
    err = capfd.readouterr().err
    for line in (
        r"caffe\.cpp:210\] Use CPU\.",
        r"caffe\.cpp:251\] Starting Optimization",
        r"solver\.cpp:243\] Iteration 2, loss = [\d.]+",
        r"solver\.cpp:337\] Optimization Done\.",
        r"caffe\.cpp:254\] Optimization Done\.",
    ):
        assert re.search(rf"^I\d{{8}} \d\d:\d\d:\d\d\.\d{{6}} +\d+ {line}$", err, re.M), line
    assert caffe.main(["test", "--model=net.prototxt", "--weights=two_iter_4.caffemodel", "--iterations", "3"]) == 0
    err = capfd.readouterr().err
    assert re.search(r"caffe\.cpp:308\] Batch 2, loss = [\d.]+$", err, re.M)
    value = re.search(r"caffe\.cpp:325\] loss = ([\d.]+) \(\* 2 = ([\d.]+) loss\)$", err, re.M)
    assert value is not None
    assert float(value[2]) == pytest.approx(2 * float(value[1]), rel=1e-4)
    assert caffe.main(["train", "--solver=solver.prototxt", "-snapshot=two_iter_2.solverstate"]) == 0
    err = capfd.readouterr().err
    assert "Resuming from two_iter_2.solverstate" in err
    assert "Iteration 2, loss" in err
    assert "Iteration 0, loss" not in err
    (tiny_run / "solver.prototxt").write_text((tiny_run / "solver.prototxt").read_text().replace('"two"', '"tuned"'))
    weights = "two_iter_2.caffemodel,two_iter_4.caffemodel"
    assert caffe.main(["train", "-solver", "solver.prototxt", "-weights", weights]) == 0
    assert "Finetuning from two_iter_4.caffemodel" in capfd.readouterr().err


def test_time_gives_every_layer_and_the_averages(tiny_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert caffe.main(["time", "-model", "net.prototxt", "-iterations", "2"]) == 0
    err = capfd.readouterr().err
    for layer in ("x", "y", "loss"):
        assert re.search(rf"\] {layer:>10}\tforward: [-+.e\d]+ ms\.$", err, re.M)
        assert re.search(rf"\] {layer:>10}\tbackward: [-+.e\d]+ ms\.$", err, re.M)
    for line in ("Average Forward pass", "Average Backward pass", "Average Forward-Backward", "Total Time"):
        assert re.search(rf"\] {line}: [-+.e\d]+ ms\.$", err, re.M)
    assert err.count("forward-backward time:") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "need a solver definition to train"),
        (["train", "-solver", "s", "-snapshot", "a", "-weights", "b"], "not both"),
        (["train", "-solver", "solver.prototxt", "-snapshot", "two.caffemodel"], "use -weights two.caffemodel"),
        (["train", "-solver", "solver.prototxt", "-snapshot", "none.solverstate"], "none.solverstate: no such file"),
        (["train", "-solver", "solver.prototxt", "-weights", "none.caffemodel"], "none.caffemodel: no such file"),
        (["train", "-solver", "none.prototxt"], "none.prototxt"),
        (["train", "-solver", "solver.prototxt", "-gpu", "x"], "give device ids separated by ','"),
        (["train", "-solver", "solver.prototxt", "-sigint_effect", "explode"], "must be snapshot, stop or none"),
        (["train", "-solver", "solver.prototxt", "-cpu_ranks", "0"], "must be at least 1"),
        (["test", "-model", "net.prototxt"], "need model weights to score"),
        (["test"], "need a model definition to score"),
        (["test", "-model", "net.prototxt", "-weights", "x", "-iterations", "0"], "must be at least 1"),
        (["time"], "need a model definition to time"),
        (["time", "-model", "net.prototxt", "-phase", "VALIDATE"], "must be TRAIN or TEST"),
    ],
)
def test_one_message_for_a_wrong_call(
    tiny_run: Path, capfd: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert caffe.main(words) == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith(f"caffe {words[0]}: ")]
    assert message in line


def test_gpu_that_is_not_there(
    tiny_run: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert caffe.main(["train", "-solver", "solver.prototxt", "-gpu", "3"]) == 1
    assert "asked for GPU 3, but this machine has no GPU: " in capfd.readouterr().err
    assert caffe.main(["device_query", "-gpu", "all"]) == 1
    queried = capfd.readouterr().err
    assert "caffe device_query: no GPU: " in queried
    assert "-gpu," not in queried, "it has no run to do on the CPU"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert caffe.main(["test", "-model", "net.prototxt", "-weights", "x", "-gpu", "2"]) == 1
    assert "asked for GPU 2, but this machine has 2 (0 to 1)" in capfd.readouterr().err


def test_solver_mode_gpu_without_a_gpu_trains_on_the_cpu(
    tiny_run: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tiny_run / "solver.prototxt").write_text((tiny_run / "solver.prototxt").read_text().replace("CPU", "GPU"))
    assert caffe.main(["train", "-solver", "solver.prototxt"]) == 0
    err = capfd.readouterr().err
    assert "there is none: training on the CPU instead" in err
    assert "Use CPU." in err


def test_usage(capfd: pytest.CaptureFixture[str]) -> None:
    assert caffe.main(["--help"]) == 0
    assert "commands:\n  train " in capfd.readouterr().out
    assert caffe.main([]) == 1
    assert caffe.main(["dance"]) == 1
    assert "unknown action: dance" in capfd.readouterr().err
    for command in caffe.COMMANDS:
        with pytest.raises(SystemExit) as ended:
            importlib.import_module(f"caffe.cli.{command}").main(["--help"])
        assert ended.value.code == 0
        assert f"usage: caffe {command}" in capfd.readouterr().out


def test_flags_may_come_first_and_other_commands_flags_are_taken(
    tiny_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert caffe.main(["-solver", "solver.prototxt", "train", "-iterations", "7", "-logtostderr", "1"]) == 0
    with pytest.raises(SystemExit, match="1"):
        caffe.main(["train", "-solvr", "solver.prototxt"])
    assert "-solvr" in capfd.readouterr().err


def test_minloglevel_silences_the_log(
    tiny_run: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")
    assert caffe.main(["train", "-solver", "solver.prototxt", "-minloglevel", "2"]) == 0
    assert capfd.readouterr().err == ""
