"""Runs cases in a child process with bounded memory, and says which of them failed and how.

A case passes if the reader answers, or raises CaffeError with a message that names the file, in under a second of the
processor's time and without more memory than MEMORY on top of what the idle child has. A child that crashes or hangs
is replaced, and the case that it was at has failed.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import multiprocessing
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from caffe.errors import CaffeError
from tests.fuzz.kinds import KINDS
from tests.fuzz.mutate import mutated

MEMORY = 256 << 20
SECONDS = 1.0
_HANG = 20.0
"""Wall seconds without an answer after which a child is ended: the machine may be busy with other things."""


@dataclass(frozen=True)
class Outcome:
    """One case: `kind`, `seed` and `number` make its input again; `problem` is None if it passed."""

    kind: str
    seed: int
    number: int
    answered: bool
    problem: str | None
    seconds: float


def case(kind: str, seed: int, number: int) -> bytes:
    """The input of a case. Number 0 is the first sample as it is, so that a reader that refuses all is found out."""
    samples = KINDS[kind].samples()
    if number < len(samples):
        return samples[number]
    return mutated(samples, random.Random(f"{kind} {seed} {number}"))


def _try(read: Callable[[Path], object], path: Path) -> tuple[bool, str | None]:
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            read(path)
    except CaffeError as error:
        message = str(error)
        if str(path) not in message:
            return False, f"the message doesn't name the file: {message[:200]}"
        if not 10 < len(message) - len(str(path)) < 3000:
            return False, f"a message of {len(message)} characters: {message[:200]}"
        return False, None
    except MemoryError:
        return False, f"MemoryError: over {MEMORY >> 20} MB"
    except BaseException as error:
        import traceback

        place = traceback.extract_tb(error.__traceback__)[-1]
        return False, f"{type(error).__name__}: {str(error)[:200]} ({Path(place.filename).name}:{place.lineno})"
    return True, None


def _child(kind: str, seed: int, first: int, last: int, connection: Connection) -> None:
    """Sends (number, None) before each case and (number, outcome) after it."""
    # A crash is reported by the parent; the dump says where it was.
    faulthandler.enable()
    reader = KINDS[kind]
    reader.samples()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bound = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"case{reader.suffix}"
        for number in range(first, last):
            data = case(kind, seed, number)
            connection.send((number, None))
            path.unlink(missing_ok=True)
            path.write_bytes(data)
            resource.setrlimit(resource.RLIMIT_AS, (bound, resource.RLIM_INFINITY))
            start = time.process_time()
            answered, problem = _try(reader.read, path)
            seconds = time.process_time() - start
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            if problem is None and number < len(reader.samples()) and not answered:
                problem = "a valid sample was refused"
            if problem is None and seconds > SECONDS:
                problem = f"took {seconds:.1f} s"
            connection.send((number, Outcome(kind, seed, number, answered, problem, seconds)))


def run(kind: str, seed: int, count: int) -> Iterator[Outcome]:
    """The outcomes of cases 0 to count - 1."""
    context = multiprocessing.get_context("fork")
    number = 0
    while number < count:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(kind, seed, number, count, theirs))
        child.start()
        theirs.close()
        try:
            while number < count:
                if not ours.poll(_HANG):
                    child.kill()
                    yield Outcome(kind, seed, number, False, f"no answer in {_HANG:.0f} s", _HANG)
                    number += 1
                    break
                number, outcome = ours.recv()
                if outcome is not None:
                    yield outcome
                    number += 1
        except EOFError:
            child.join()
            yield Outcome(kind, seed, number, False, f"the process died (exit status {child.exitcode})", 0)
            number += 1
        finally:
            ours.close()
            child.kill()
            child.join()
