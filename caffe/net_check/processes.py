"""A function in processes of their own, with limits: what a hostile file does in one reaches no other."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")
#: how much longer than its processor time a process may take by the clock: other work may share its core
_PATIENCE = 4.0


class _Running:
    """One process and the end of its pipe."""

    def __init__(self, function: Callable[[Any], Any], job: Any, seconds: float, memory: int) -> None:
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe(duplex=False)
        self.process: ForkProcess = context.Process(target=_work, args=(function, job, seconds, memory, theirs))
        self.process.start()
        theirs.close()
        self.deadline = time.monotonic() + seconds * _PATIENCE

    def answer(self) -> tuple[bool, Any]:
        """Whether it gave an answer, and that, or why there is none. Ends the process."""
        if not self.connection.poll():
            self.end()
            return False, "took too long"
        answer: tuple[bool, Any] | None = None
        with contextlib.suppress(EOFError, OSError):
            answer = self.connection.recv()
        self.process.join(1)
        self.end()
        if answer is None:
            return False, f"its process ended with status {self.process.exitcode}: it took too long or too much memory"
        return answer

    def end(self) -> None:
        """Ends the process, if it has not ended yet."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def answers(
    function: Callable[[T], R], jobs: Sequence[T], workers: int, seconds: float, memory: int
) -> Generator[tuple[T, R | None, str], None, None]:
    """(job, answer, "") for each job in order, or (job, None, why there is no answer).

    Each job has a process, `workers` of them at a time, that may take `seconds` of processor time and `memory` bytes
    of addresses more than this process has. What it prints is dropped.
    """
    running: dict[int, _Running] = {}
    done: dict[int, tuple[bool, Any]] = {}
    started = shown = 0
    try:
        while shown < len(jobs):
            while started < len(jobs) and len(running) < workers:
                running[started] = _Running(function, jobs[started], seconds, memory)
                started += 1
            deadline = min((child.deadline for child in running.values()), default=0.0)
            ready = wait([child.connection for child in running.values()], max(0.0, deadline - time.monotonic()))
            for number, child in list(running.items()):
                if child.connection in ready or time.monotonic() >= child.deadline:
                    done[number] = child.answer()
                    del running[number]
            while shown in done:
                answered, answer = done.pop(shown)
                yield (jobs[shown], answer, "") if answered else (jobs[shown], None, answer)
                shown += 1
    finally:
        for child in running.values():
            child.end()


def _work(
    function: Callable[[Any], Any], job: Any, seconds: float, memory: int, connection: Connection[Any, Any]
) -> None:
    whole = max(1, int(seconds))
    resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 1))
    resource.setrlimit(resource.RLIMIT_AS, (_addresses() + memory, resource.RLIM_INFINITY))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        connection.send((True, function(job)))
    except MemoryError:
        connection.send((False, "out of memory"))
    except Exception as error:
        connection.send((False, f"{type(error).__name__}: {error}"))


def _addresses() -> int:
    """The bytes of address space that this process has."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return 0
