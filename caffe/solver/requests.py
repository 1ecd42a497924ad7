"""Requests to a running training from outside: Ctrl-C and SIGHUP, each mapped to an action."""

from __future__ import annotations

import enum
import os
import signal
from contextlib import suppress
from types import FrameType

from caffe.errors import CaffeError

#: shown on a terminal, below the "^C" and the progress bar
_STOPPING = b"\nStopping after this iteration, with a snapshot; press Ctrl-C again to end at once.\n"


class Action(enum.Enum):
    """What the solver is asked for between two iterations."""

    NONE = "none"
    SNAPSHOT = "snapshot"
    STOP = "stop"

    @classmethod
    def named(cls, name: str, flag: str) -> Action:
        """The action that a flag's value names."""
        try:
            return cls(name)
        except ValueError:
            raise CaffeError(f"-{flag} is '{name}'; it must be snapshot, stop or none") from None


class SignalRequests:
    """A context manager that turns SIGINT and SIGHUP into actions.

    Calling it returns the request that has come in since the last call. While a stop is pending, a second Ctrl-C ends
    the process at once, without a snapshot.
    """

    def __init__(self, sigint: Action, sighup: Action) -> None:
        self._effects = {signal.SIGINT: sigint, signal.SIGHUP: sighup}
        self._pending: list[Action] = []
        self._stopping = False
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> SignalRequests:
        for number in self._effects:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def __call__(self) -> Action:
        return self._pending.pop(0) if self._pending else Action.NONE

    def _handle(self, number: int, frame: FrameType | None) -> None:
        action = self._effects[signal.Signals(number)]
        if number == signal.SIGINT and self._stopping:
            raise KeyboardInterrupt
        if action is Action.STOP:
            self._stopping = True
            # Bypasses sys.stderr and the log: the signal may have come while they were writing, and they are not
            # reentrant.
            with suppress(OSError):
                os.write(2, _STOPPING if os.isatty(2) else _STOPPING.lstrip())
        if action is not Action.NONE and action not in self._pending:
            self._pending.append(action)
