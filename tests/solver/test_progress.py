"""What a terminal shows during a run: a bar, with complete log lines above it; and the log's copy in a file."""

from __future__ import annotations

import fcntl
import io
import os
import struct
import sys
import termios
from pathlib import Path

import pytest

from caffe import log
from caffe.solver.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bar_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.delenv("GLOG_minloglevel", raising=False)
        with Progress(10, 4) as progress:
            progress.advance(loss=4.25)
            log.info("solver.cpp:1", "Iteration 5, loss = 4.25")
            progress.advance(loss=4)
        text = stream.getvalue()
        assert ("loss=4" in text) is shown
        assert ("/10 [" in text) is shown
        # A log line starts at the left edge and is complete, whatever the bar does.
        (line,) = [part for part in text.replace("\r", "\n").split("\n") if "Iteration" in part]
        assert line.strip().startswith("I20")
        assert line.endswith("solver.cpp:1] Iteration 5, loss = 4.25")


def test_no_bar_on_a_terminal_that_cannot_overwrite(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.delenv("GLOG_minloglevel", raising=False)
    monkeypatch.setenv("TERM", "dumb")
    with Progress(10) as progress:
        progress.advance(loss=4)
        log.info("solver.cpp:1", "Iteration 0, loss = 4")
    assert terminal.getvalue().count("\n") == 1
    assert "\r" not in terminal.getvalue()


@pytest.mark.parametrize(
    ("columns", "shown", "hidden"),
    [
        (130, ["|", "loss=4.25", "lr=0.0007", " images/s", "mAP 0.7835 (best 0.7948 at 60000)"], []),
        (100, ["loss=4.25", "lr=0.0007", " images/s", "mAP 0.783 (best 0.795)"], ["|", "60000"]),
        (80, ["loss=4.25", " images/s", "mAP 0.783 (best 0.795)"], ["|", "lr="]),
        (40, ["loss=4.25"], ["images/s", "mAP"]),
        (28, [], ["loss"]),
        (9, [], ["left"]),
    ],
)
def test_line_fits_the_terminal(
    columns: int, shown: list[str], hidden: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after the terminal has become that narrow, and beside log lines, which wrap."""
    terminal, stream = os.openpty()
    monkeypatch.delenv("GLOG_minloglevel", raising=False)
    monkeypatch.setenv("TERM", "xterm")

    def resize(width: int) -> None:
        fcntl.ioctl(stream, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))

    with os.fdopen(stream, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        resize(200)
        with Progress(120_000, 55_000, images=32) as progress:
            progress.advance(loss=4.25, lr=0.0007)
            resize(columns)
            progress.note("mAP 0.7835 (best 0.7948 at 60000)", "mAP 0.783 (best 0.795)")
            progress.advance(loss=4.25, lr=0.0007)
            log.info("solver.cpp:1", "Iteration 55001, loss = 4.25")
        print("end", file=stderr, flush=True)
        output = ""
        while "end" not in output:
            output += os.read(terminal, 100_000).decode()
    os.close(terminal)
    # Below the log line the bar appears again; how often it did before depends on the time.
    before, _, after = output.partition("solver.cpp:1] Iteration 55001, loss = 4.25\r\n")
    assert before.replace("\r", "\n").splitlines()[-1].startswith("I20")
    line = next(part for part in after.split("\r") if part.strip())
    assert "55002/"[: columns - 1] in line
    assert len(line) < columns
    assert all(text in line for text in shown)
    assert not any(text in line for text in hidden)


def test_time_of_a_test_is_not_that_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pace is that of training alone; the time left includes tests as often as so far."""
    clock = iter([0.0, 1.0, 2.0, 3.0, 103.0, 104.0])
    monkeypatch.setattr("caffe.solver.progress.perf_counter", lambda: next(clock))
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(8, images=4, enabled=True) as progress:
        for _ in range(3):
            progress.advance()
        progress.note("accuracy 0.5")
        progress.advance()
        log.info("solver.cpp:1", "the line appears again below this one")
    # 4 of 8 steps took a second each, and a test 100 seconds
    assert "4/8 [01:44 left, 4 images/s, accuracy 0.5]" in terminal.getvalue()


def test_copy_in_a_file_has_what_the_terminal_is_spared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log, "_copy", None)
    monkeypatch.setattr(log, "hidden_files", {"net.cpp"})
    path = log.keep_copy(tmp_path / "logs")
    log.info("net.cpp:100", "Creating Layer conv1")
    log.info("solver.cpp:243", "Iteration 0, loss = 1")
    assert "Creating" not in capsys.readouterr().err
    assert path.read_text().count("\n") == 2
    assert (tmp_path / "logs" / "caffe.INFO").read_text() == path.read_text()
