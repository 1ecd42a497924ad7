"""What a terminal shows during a run: a bar, with complete log lines above it; and the log's copy in a file."""

from __future__ import annotations

import io
import sys
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
