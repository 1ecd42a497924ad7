"""Requests to a running training from outside: signals, each mapped to an action."""

from __future__ import annotations

import enum
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from caffe.errors import CaffeError

#: exit status after a stop that SIGTERM asked for, as a shell reports it
TERMINATED = 128 + signal.SIGTERM

#: shown on a terminal, below the "^C" and the progress bar
_STOPPING = b"\nStopping after this iteration, with a snapshot; press Ctrl-C again to end at once.\n"
_TERMINATING = b"\nSIGTERM: stopping after this iteration, with a snapshot.\n"
#: a handler as `signal.signal` gives it back
_Handler = Callable[[int, FrameType | None], Any] | int | None


class Action(enum.Enum):
    """What the solver is asked for between two iterations."""

    NONE = "none"
    SNAPSHOT = "snapshot"
    STOP = "stop"
    #: a stop because the system ends the process
    TERMINATE = "terminate"

    @property
    def stops(self) -> bool:
        """Whether training ends."""
        return self in (Action.STOP, Action.TERMINATE)

    @classmethod
    def named(cls, name: str, flag: str) -> Action | None:
        """The action that a flag's value names; None for an empty value. Raises CaffeError for any other."""
        if not name:
            return None
        if name not in ("snapshot", "stop", "none"):
            raise CaffeError(f"-{flag} is '{name}'; it must be snapshot, stop or none")
        return cls(name)


def stays_ignored(number: signal.Signals, effect: Action | None) -> bool:
    """Whether a signal was ignored when the program started, and no effect was asked for.

    `nohup` has SIGHUP ignored, a shell without job control has SIGINT ignored in its background jobs.
    """
    return effect is None and signal.getsignal(number) is signal.SIG_IGN


class SignalRequests:
    """A context manager that turns signals into actions.

    Calling it returns the request that has come in since the last call. While a stop is pending, a second Ctrl-C ends
    the process at once, without a snapshot. `sigint` and `sighup` None: stop and snapshot, unless the signal is ignored
    already. SIGTERM stops, SIGUSR1 asks for a snapshot.
    """

    def __init__(
        self,
        sigint: Action | None = None,
        sighup: Action | None = None,
        sigterm: Action = Action.TERMINATE,
        sigusr1: Action = Action.SNAPSHOT,
    ) -> None:
        self._effects = {signal.SIGTERM: sigterm, signal.SIGUSR1: sigusr1}
        for number, effect, default in (
            (signal.SIGINT, sigint, Action.STOP),
            (signal.SIGHUP, sighup, Action.SNAPSHOT),
        ):
            if not stays_ignored(number, effect):
                self._effects[number] = default if effect is None else effect
        self._pending: list[Action] = []
        self._stopping = False
        self._previous: dict[signal.Signals, _Handler] = {}

    def __enter__(self) -> SignalRequests:
        for number in self._effects:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def __call__(self) -> Action:
        return self._pending.pop(0) if self._pending else Action.NONE

    def _handle(self, number: int, frame: FrameType | None) -> None:
        action = self._effects[signal.Signals(number)]
        if number == signal.SIGINT and self._stopping:
            raise KeyboardInterrupt
        if action.stops and not self._stopping:
            self._stopping = True
            message = _TERMINATING if action is Action.TERMINATE else _STOPPING
            # Bypasses sys.stderr and the log: the signal may have come while they were writing, and they are not
            # reentrant.
            with suppress(OSError):
                os.write(2, message if os.isatty(2) else message.lstrip())
        if action is not Action.NONE and action not in self._pending:
            self._pending.append(action)
