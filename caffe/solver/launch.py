"""Starts the ranks of a training on this machine, one process each, and ends them all when one fails.

The processes find each other through a store that this one hosts, with the environment variables that torchrun uses
too. Signals are passed on to rank 0, which decides for all.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore  # what torch.distributed exports, with its types

from caffe.errors import CaffeError
from caffe.solver.ranks import LAUNCHED, describe_places
from caffe.solver.requests import TERMINATED, Action, stays_ignored

_POLL_SECONDS = 0.05
#: exit status of a command that Ctrl-C has ended
_INTERRUPTED = 128 + signal.SIGINT
#: after the first rank has ended, how long others may take to end for the same cause, or for the actual one
_GRACE_SECONDS = 2.0
#: beyond `stop_seconds`, how long rank 0 may take for its snapshot when it is told to end
_TERMINATION_SECONDS = 10.0


def caffe_command(argv: Sequence[str]) -> list[str]:
    """The command line that runs `caffe` with `argv` in another process, whatever the current directory holds."""
    return [sys.executable, "-P", "-m", "caffe.cli.caffe", *argv]


def launch(
    command: Sequence[str],
    world: int,
    *,
    sigint: Action | None = None,
    sighup: Action | None = None,
    stop_seconds: float = 25.0,
) -> int:
    """Runs `command` as `world` ranks and waits for them. Returns 0, or TERMINATED if SIGTERM stopped them.

    `sigint` and `sighup` as in SignalRequests; `stop_seconds` is the time that rank 0 has after SIGTERM. Raises
    CaffeError naming the rank that failed, KeyboardInterrupt after Ctrl-C if there was nothing to keep.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    ranks = [_start(command, rank, world, store.port) for rank in range(world)]
    relays = [
        threading.Thread(target=_relay, args=(rank, process.stderr), daemon=True)
        for rank, process in enumerate(ranks)
        if process.stderr is not None
    ]
    for relay in relays:
        relay.start()
    try:
        try:
            with _passing_signals_on(ranks, sigint, sighup, stop_seconds) as signals:
                _wait(ranks, signals)
        except KeyboardInterrupt:
            _end(ranks, 0)
            raise
        if any(process.poll() for process in ranks) and not signals.overdue():
            _wait(ranks, seconds=_GRACE_SECONDS)
        statuses = [process.poll() for process in ranks]
        if signals.overdue():
            _end(ranks, 0)
            return TERMINATED
        if _all_terminated(statuses, signals.terminated):
            return TERMINATED
        if signals.interrupts and statuses[0] in (-signal.SIGINT, _INTERRUPTED):
            raise KeyboardInterrupt
        if any(statuses):
            raise CaffeError(_explain(PrefixStore("caffe", store), ranks))
    finally:
        _end(ranks, stop_seconds + _TERMINATION_SECONDS)
        for relay in relays:
            relay.join(timeout=1)
    return 0


def _start(command: Sequence[str], rank: int, world: int, port: int) -> subprocess.Popen[str]:
    environment = dict(os.environ)
    package = str(Path(__file__).resolve().parents[2])  # the folder with the package caffe in it
    environment.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
        TORCHELASTIC_USE_AGENT_STORE="True",  # the store is this process's; rank 0 must not open one of its own
        PYTHONPATH=os.pathsep.join(filter(None, [package, environment.get("PYTHONPATH")])),
    )  # fmt: skip
    environment[LAUNCHED] = "1"
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // world)))
    # In a process group of its own a rank does not get the terminal's Ctrl-C, which is for rank 0 alone.
    return subprocess.Popen(
        list(command), env=environment, stderr=None if rank == 0 else subprocess.PIPE, text=True, process_group=0
    )


def _relay(rank: int, stream: IO[str]) -> None:
    for line in stream:
        # A rank whose lines are no longer read would stop; they are read even if nobody can see them.
        with suppress(OSError, ValueError):
            sys.stderr.write(f"[rank {rank}] {line}")
            sys.stderr.flush()


class _Signals:
    """The signals that this process has received."""

    def __init__(self, stop_seconds: float) -> None:
        self.interrupts, self.terminated = 0, False
        self._stop_seconds, self._until = stop_seconds, math.inf

    def terminate(self) -> None:
        """Sets the time by which the ranks must have ended."""
        if not self.terminated:
            self._until = time.monotonic() + self._stop_seconds + _TERMINATION_SECONDS
        self.terminated = True

    def overdue(self) -> bool:
        """Whether the ranks should have ended by now."""
        return time.monotonic() >= self._until


def _wait(
    ranks: Sequence[subprocess.Popen[str]], signals: _Signals | None = None, *, seconds: float = math.inf
) -> None:
    """Waits until all ranks have ended or the time is up; with `signals`, only until one has failed."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        states = [process.poll() for process in ranks]
        if all(state is not None for state in states) or (signals is not None and (any(states) or signals.overdue())):
            return
        time.sleep(_POLL_SECONDS)


def _all_terminated(statuses: Sequence[int | None], told: bool) -> bool:
    """Whether the ranks stopped early because of SIGTERM: each says so, or (if `told`) died of it while it loaded."""
    ends = {0, TERMINATED, *([-signal.SIGTERM] if told else [])}
    if told and statuses[0] in (TERMINATED, -signal.SIGTERM):
        return True  # the others are waiting for it, or have lost it
    return any(statuses) and all(status in ends for status in statuses)


def _explain(store: Store, ranks: Sequence[subprocess.Popen[str]]) -> str:
    """Whose failure ended the run: first a rank's own error, then a killed rank, then one that never answered."""
    own: list[tuple[float, str]] = []
    lost: list[tuple[float, str]] = []
    ended: list[str] = []
    for rank, process in enumerate(ranks):
        status = process.poll()
        if not status:
            continue
        if store.check([f"error_{rank}"]):
            error = json.loads(store.get(f"error_{rank}"))
            (lost if error["lost"] else own).append((error["time"], f"rank {rank}: {error['message']}"))
        elif status == -signal.SIGABRT:  # NCCL's way of giving up on the others
            lost.append((0.0, f"rank {rank} was aborted; {describe_places(store, len(ranks))}"))
        elif status < 0:
            hint = " (out of memory?)" if -status == signal.SIGKILL else ""
            ended.append(f"rank {rank} was killed by {signal.Signals(-status).name}{hint}")
        else:
            ended.append(f"rank {rank} ended with status {status} and no message")
    # The first error is the cause; later ones may be its consequences.
    reasons = [message for _, message in sorted(own)] or ended or [message for _, message in sorted(lost)]
    return f"{reasons[0]}. The other ranks were stopped"


@contextmanager
def _passing_signals_on(
    ranks: Sequence[subprocess.Popen[str]], sigint: Action | None, sighup: Action | None, stop_seconds: float
) -> Iterator[_Signals]:
    """Rank 0 gets the signals; a second SIGINT ends this process and so all of them."""
    signals = _Signals(stop_seconds)

    def handle(number: int, frame: FrameType | None) -> None:
        signals.interrupts += number == signal.SIGINT
        if signals.interrupts > 1:
            raise KeyboardInterrupt
        if number == signal.SIGTERM:
            signals.terminate()
        ranks[0].send_signal(number)

    handled = [signal.SIGTERM, signal.SIGUSR1]
    handled += [n for n, effect in ((signal.SIGINT, sigint), (signal.SIGHUP, sighup)) if not stays_ignored(n, effect)]
    previous = {number: signal.signal(number, handle) for number in handled}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _end(ranks: Sequence[subprocess.Popen[str]], seconds: float) -> None:
    """Ends the ranks that are left; rank 0, which may be writing a snapshot, within `seconds`."""
    for process in ranks[1:]:
        if process.poll() is None:
            process.kill()
    if ranks[0].poll() is None and seconds:
        ranks[0].terminate()
        _wait(ranks[:1], seconds=seconds)
    for process in ranks:
        if process.poll() is None:
            process.kill()
        process.wait()
