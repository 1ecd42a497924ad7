"""Runs the project's commands within a time budget, each with its output in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from caffe.errors import CaffeError

ROOT = Path(__file__).resolve().parent.parent.parent
#: time for a training to write its snapshot and exit
_GRACE_SECONDS = 120


class OutOfTime(Exception):
    """Not enough time is left for the next step."""


class Terminated(Exception):
    """The program received SIGTERM."""


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Within, SIGTERM raises Terminated and SIGINT KeyboardInterrupt, so that a training is stopped with a snapshot."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise Terminated

    handlers = {signal.SIGTERM: handle, signal.SIGINT: signal.default_int_handler}
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


class Commands:
    """Runs commands. seconds: the time budget from now on. lock: a file descriptor that all commands inherit."""

    def __init__(self, seconds: float = float("inf"), lock: int | None = None) -> None:
        self._deadline = time.monotonic() + seconds
        self._lock = [] if lock is None else [lock]

    @property
    def left(self) -> float:
        """The remaining time in seconds."""
        return self._deadline - time.monotonic()

    def need(self, seconds: float) -> None:
        """Raises OutOfTime if less time than this is left."""
        if self.left < seconds:
            raise OutOfTime

    def run(self, log: Path, *words: object) -> float:
        """Runs a Python program or `-m module` until it exits, even past the budget. Returns its time in seconds.

        Raises CaffeError with the end of its output if it fails.
        """
        return self._wait(log, self._start(log, words), float("inf"))

    def run_until_stopped(self, log: Path, *words: object) -> float:
        """Runs a command that SIGTERM stops with a snapshot, and stops it when the budget is used up. Returns its time."""
        return self._wait(log, self._start(log, words), self.left)

    def _start(self, log: Path, words: tuple[object, ...]) -> subprocess.Popen[bytes]:
        log.parent.mkdir(parents=True, exist_ok=True)
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        with open(log, "ab") as output:
            return subprocess.Popen(
                [sys.executable, *map(str, words)], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, pass_fds=self._lock,
            )  # fmt: skip

    def _wait(self, log: Path, process: subprocess.Popen[bytes], seconds: float) -> float:
        begun = time.monotonic()
        try:
            process.wait(None if seconds == float("inf") else max(seconds, 0))
        except subprocess.TimeoutExpired:
            self._stop(process)
            return time.monotonic() - begun  # its status is ignored: it may have been stopped while starting
        except KeyboardInterrupt:  # a terminal also sends Ctrl-C to the process
            self._stop(process, interrupt=False)
            raise
        except BaseException:
            self._stop(process)
            raise
        if process.returncode:
            tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
            raise CaffeError("\n  ".join([f"{log.name} failed (status {process.returncode}); its last lines:", *tail]))
        return time.monotonic() - begun

    def _stop(self, process: subprocess.Popen[bytes], interrupt: bool = True) -> None:
        if interrupt:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
