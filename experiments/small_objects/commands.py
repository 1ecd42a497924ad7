"""Runs the project's commands, each with its output in a file, until the time that there is has passed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from caffe.errors import CaffeError

ROOT = Path(__file__).resolve().parent.parent.parent
#: how long a training may take to write its snapshot and end
_GRACE_SECONDS = 120


class OutOfTime(Exception):
    """There is not enough time left for the next step."""


class Terminated(Exception):
    """The program was asked to end."""


def end_on_signals() -> None:
    """Makes SIGTERM raise Terminated, so that a training is stopped with a snapshot, and SIGINT KeyboardInterrupt.

    The latter also where it was ignored, as in a script's background job: commands would inherit that, and not stop.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Commands:
    """Runs commands. seconds: how much time there is from now on; lock: a descriptor that they all hold open."""

    def __init__(self, seconds: float = float("inf"), lock: int | None = None) -> None:
        self._deadline = time.monotonic() + seconds
        self._lock = [] if lock is None else [lock]

    @property
    def left(self) -> float:
        """Seconds until the time has passed."""
        return self._deadline - time.monotonic()

    def need(self, seconds: float) -> None:
        """Raises OutOfTime unless so many seconds are left."""
        if self.left < seconds:
            raise OutOfTime

    def run(self, log: Path, *words: object) -> float:
        """Runs a Python program or `-m module` to its end, whatever the time; the seconds that it took.

        Raises CaffeError with the end of its output if it fails.
        """
        return self._wait(log, self._start(log, words), float("inf"))

    def run_until_stopped(self, log: Path, *words: object) -> float:
        """Runs a command that SIGINT stops with a snapshot; stops it when the time has passed."""
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
            return time.monotonic() - begun  # whatever its status: it may not have come to begin
        except KeyboardInterrupt:  # a terminal's Ctrl-C has reached the process, too
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
                process.send_signal(signal.SIGINT)
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
