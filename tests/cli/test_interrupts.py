"""Ctrl-C before a command has begun its work: one line and exit status 130, whatever it is importing by then."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import ROOT, python, running

COMMANDS = sorted(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"])
#: a module that a command imports, replaced by one that takes its time and, as native code may, loses exceptions
SLOW = """
import time
print("loading", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("lost", flush=True)
    time.sleep(60)
"""


@contextmanager
def importing(folder: Path, *words: str, seconds: str = "60") -> Iterator[subprocess.Popen[str]]:
    """Python with `words`, when it has begun to import a module that takes its time."""
    (folder / "argparse.py").write_text(SLOW.replace("60", seconds))
    with running(
        [sys.executable, *words], env={"PYTHONPATH": f"{folder}:{ROOT}"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        yield process


@pytest.mark.parametrize("command", COMMANDS)
def test_interrupted_while_it_imports(command: str, tmp_path: Path) -> None:
    words = ["version"] if command == "caffe" else []
    with importing(tmp_path, "-m", f"caffe.cli.{command}", *words) as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "", f"{command}: interrupted\n")


@pytest.mark.parametrize("command", [["caffe.cli.caffe", "train"], ["caffe.cli.train"]])
def test_sigterm_before_training(command: list[str], tmp_path: Path) -> None:
    with importing(tmp_path, "-m", *command) as process:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    name = command[0].rpartition(".")[2]
    message = f"{name}: SIGTERM: no training is running, so no snapshot is written\n"
    assert (process.returncode, out, err) == (143, "", message)


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_interrupted_while_a_net_is_built(tiny_run: Path, ranks: str) -> None:
    """Also with several ranks, whose launcher says so."""
    (tiny_run / "tiny_data.py").write_text("import sys\nsys.stdout = sys.stderr\n" + SLOW)
    with running(
        [sys.executable, "-m", "caffe.cli.caffe", "train", "-solver", "solver.prototxt", "-cpu_ranks", ranks],
        env={"PYTHONPATH": f"{ROOT}:{tiny_run}"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert any("loading" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130, err
    assert err.splitlines()[-1].endswith(": interrupted")
    assert "Traceback" not in err
    assert "lost" not in err


def test_another_program_keeps_its_own_interrupts() -> None:
    code = "import signal; before = signal.getsignal(2); import caffe.cli.caffe; print(signal.getsignal(2) is before)"
    assert python("-c", code).stdout == "True\n"


def test_an_ignored_interrupt_stays_ignored(tmp_path: Path) -> None:
    code = """import signal, os, sys
signal.signal(2, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-m", "caffe.cli.parse_log"])
"""
    with importing(tmp_path, "-c", code, seconds="0.5") as process:
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        process.communicate()
    assert process.returncode != 130
