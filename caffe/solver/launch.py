"""Starts the ranks of a training on this machine, one process each, and ends them all when one fails.

The processes find each other through a store that this one hosts, with the environment variables that torchrun uses
too. SIGINT and SIGHUP are passed on to rank 0, which decides for all.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore  # what torch.distributed exports, with its types

from caffe.errors import CaffeError
from caffe.solver.ranks import LAUNCHED, describe_places

_POLL_SECONDS = 0.05
#: after the first rank has ended, how long others may take to end for the same cause, or for the actual one
_GRACE_SECONDS = 2.0
#: how long a rank may take to clean up when told to end
_TERMINATION_SECONDS = 10.0


def caffe_command(argv: Sequence[str]) -> list[str]:
    """The command line that runs `caffe` with `argv` in another process, whatever the current directory holds."""
    return [sys.executable, "-P", "-m", "caffe.cli.caffe", *argv]


def launch(command: Sequence[str], world: int) -> int:
    """Runs `command` as `world` ranks and waits for them. Returns 0; raises CaffeError naming the rank that failed."""
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
        with _passing_signals_on(ranks):
            _wait(ranks)
        failed = [rank for rank, process in enumerate(ranks) if process.poll()]
        if failed:
            _wait(ranks, _GRACE_SECONDS, for_all=True)
            raise CaffeError(_explain(PrefixStore("caffe", store), ranks))
    finally:
        _end(ranks)
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
        sys.stderr.write(f"[rank {rank}] {line}")
        sys.stderr.flush()


def _wait(ranks: Sequence[subprocess.Popen[str]], seconds: float | None = None, for_all: bool = False) -> None:
    """Waits until all ranks have ended, or (unless `for_all`) one has failed, or the time is up."""
    until = None if seconds is None else time.monotonic() + seconds
    while until is None or time.monotonic() < until:
        states = [process.poll() for process in ranks]
        if all(state is not None for state in states) or (not for_all and any(states)):
            return
        time.sleep(_POLL_SECONDS)


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
def _passing_signals_on(ranks: Sequence[subprocess.Popen[str]]) -> Iterator[None]:
    """Rank 0 gets SIGINT and SIGHUP; a second SIGINT, or SIGTERM, ends this process and so all of them."""
    interrupts = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        if interrupts > 1 or number == signal.SIGTERM:
            raise KeyboardInterrupt
        ranks[0].send_signal(number)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _end(ranks: Sequence[subprocess.Popen[str]]) -> None:
    for process in ranks:
        if process.poll() is None:
            process.terminate()
    _wait(ranks, _TERMINATION_SECONDS, for_all=True)
    for process in ranks:
        if process.poll() is None:
            process.kill()
        process.wait()
