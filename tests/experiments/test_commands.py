"""The commands that the experiment on small objects runs, and its own command line."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

import pytest

from caffe.errors import CaffeError
from experiments.small_objects import run
from experiments.small_objects.commands import Commands, OutOfTime, Terminated, ending_on_signals


def test_commands_tell_why_they_failed(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "x.log"
    with pytest.raises(CaffeError, match=r"x\.log failed \(status 3\); its last lines:\n  one\n  two"):
        Commands().run(log, "-c", "print('one'); print('two', flush=True); raise SystemExit(3)")
    assert Commands().run(log, "-c", "pass") > 0


def test_commands_are_stopped_by_sigterm(tmp_path: Path) -> None:
    """Like `caffe train`, this does something more when it is terminated."""
    program = (
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "signal.sigwait([signal.SIGTERM])\n"
        "print('snapshot')"
    )
    commands = Commands(seconds=2)
    commands.need(0)
    assert commands.run_until_stopped(tmp_path / "x.log", "-c", program) < 30
    assert (tmp_path / "x.log").read_text() == "snapshot\n"
    with pytest.raises(OutOfTime):
        commands.need(0)


def test_signals_are_handled_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(Terminated), ending_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400)])
def test_durations(text: str, seconds: float) -> None:
    assert run.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0m", "ten", "10d", "-5m", "nan"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a time such as"):
        run.duration(text)


def test_errors_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Annotations").mkdir()
    arguments = ["--folder", str(tmp_path), "--out", str(tmp_path / "out")]
    assert run.main(["--data", "a/b", *arguments]) == 1
    assert "may contain only letters" in capsys.readouterr().err
    assert run.main(["--data", "a", *arguments, "--weights", "none.caffemodel"]) == 1
    assert "none.caffemodel: no such file" in capsys.readouterr().err
    assert run.main(["--data", "a", "--folder", str(tmp_path / "out"), "--out", str(tmp_path / "out")]) == 1
    assert "it has no Annotations" in capsys.readouterr().err
    assert run.main(["--data", "a", *arguments]) == 1
    assert "it has no ImageSets/Main/trainval.txt" in capsys.readouterr().err
    assert run.main(["--data", "a", *arguments, "--arms", "ssd300-realeased"]) == 1
    assert "there is no such arm; similar ones: ssd300-released" in capsys.readouterr().err
    scratch = ["--weights", "none.caffemodel", "--arms", "families"]
    assert run.main(["--data", "b", *arguments[:2], "--out", str(tmp_path / "other"), *scratch]) == 1
    assert "it has no ImageSets" in capsys.readouterr().err, "no weights are needed"


def test_a_folder_is_worked_on_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fcntl

    (tmp_path / "Annotations").mkdir()
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run.main(["--data", "a", "--folder", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "is using this directory" in capsys.readouterr().err
