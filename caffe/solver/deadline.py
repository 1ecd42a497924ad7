"""The time that SIGTERM leaves: schedulers send SIGKILL a while after it, whatever the process is doing by then."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable

from caffe.solver.requests import TERMINATED

_CLOSED = b"\0"
#: how long the last resort may take; schedulers allow less, but not every sender of SIGTERM sends SIGKILL too
_LAST_SECONDS = 60.0


class Deadline:
    """A context manager: `seconds` after SIGTERM, calls `last_resort` and ends the process with TERMINATED.

    A thread waits for it. Python's own handlers run only when the main thread comes back from native code, which may
    be never; the signal's number is written to a pipe as soon as it arrives. Nothing happens if the block ends before.
    """

    def __init__(self, seconds: float, last_resort: Callable[[], object]) -> None:
        self._seconds, self._last_resort = seconds, last_resort

    def __enter__(self) -> Deadline:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._previous = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="deadline", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        signal.set_wakeup_fd(self._previous)
        # Closing the pipe would not do: data workers hold it open too.
        os.set_blocking(self._write, True)
        os.write(self._write, _CLOSED)
        self._thread.join()
        os.close(self._write)
        os.close(self._read)

    def _watch(self) -> None:
        until: float | None = None
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([self._read], [], [], left)[0]:
                break
            arrived = os.read(self._read, 512)
            if _CLOSED[0] in arrived:
                return
            if signal.SIGTERM in arrived and until is None:
                until = time.monotonic() + self._seconds
        # In a thread of its own: on a GPU that hangs, copying the weights never ends.
        last = threading.Thread(target=self._last_resort, name="last resort", daemon=True)
        last.start()
        last.join(_LAST_SECONDS)
        os._exit(TERMINATED)
