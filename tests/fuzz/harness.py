"""Runs cases in a child process with bounded memory, and reports which of them failed and how.

A case passes if the reader answers, or raises CaffeError with a message that names the file, within its kind's seconds of
processor time and without requesting more memory than MEMORY on top of the idle child's, whether it is used or not.
A child that crashes or hangs is replaced, and its current case has failed.
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
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from caffe.errors import CaffeError
from tests.fuzz.kinds import KINDS, Kind

MEMORY = 256 << 20
_CEILING = 4 << 30
"""What the system itself refuses, to save the machine. Over MEMORY, so that a library that handles a failed allocation
does not hide that it asked."""
_HANG = 120.0
"""Wall seconds without an answer after which a child is ended: the machine may be busy with other things."""


@dataclass(frozen=True)
class Outcome:
    """One case: `kind`, `seed` and `number` reproduce its input; `problem` is None if it passed."""

    kind: str
    seed: int
    number: int
    answered: bool
    problem: str | None
    seconds: float


def case(kind: str, seed: int, number: int) -> bytes:
    """The input of a case. Number 0 is the unchanged first sample, to detect a reader that refuses everything."""
    samples = KINDS[kind].samples()
    if number < len(samples):
        return samples[number]
    return KINDS[kind].change(samples, random.Random(f"{kind} {seed} {number}"))


def _address_space(which: str) -> int:
    """VmSize or VmPeak of this process, in bytes."""
    return int(Path("/proc/self/status").read_text().partition(f"{which}:")[2].split()[0]) << 10


def _try(kind: Kind, path: Path) -> tuple[bool, str | None]:
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            kind.read(path)
    except CaffeError as error:
        message = str(error)
        if kind.names_file and str(path) not in message:
            return False, f"the message doesn't name the file: {message[:200]}"
        if not 10 < len(message) < 10_000:
            return False, f"a message of {len(message)} characters: {message[:200]}"
        if not all(character.isprintable() or character == "\n" for character in message):
            return False, f"control characters in the message: {message[:200]!r}"
        return False, None
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return False, f"{type(error).__name__}: {str(error)[:200]} ({Path(place.filename).name}:{place.lineno})"
    return True, None


def _child(kind: str, seed: int, first: int, last: int, connection: Connection) -> None:
    """Sends (number, None) before each case and (number, outcome) after it."""
    # The parent reports a crash; the dump says where it was. Decoders' own messages are dropped.
    faulthandler.enable(os.fdopen(os.dup(2), "w"))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    reader = KINDS[kind]
    reader.samples()
    idle = _address_space("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (idle + _CEILING, resource.RLIM_INFINITY))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"case{reader.suffix}"
        for number in range(first, last):
            data = case(kind, seed, number)
            connection.send((number, None))
            path.unlink(missing_ok=True)
            path.write_bytes(data)
            before, peak = _address_space("VmSize"), _address_space("VmPeak")
            start = time.process_time()
            answered, problem = _try(reader, path)
            seconds = time.process_time() - start
            if problem is None and number < len(reader.samples()) and not answered:
                problem = "a valid sample was refused"
            if problem is None and seconds > reader.seconds:
                problem = f"took {seconds:.1f} s"
            # The system keeps the peak of all cases: this one's demand is known if it raised it. What earlier cases
            # left, such as libraries' caches, is not this one's.
            after = _address_space("VmPeak")
            asked = after - before if after > peak else 0
            if asked > MEMORY:
                problem = problem or f"over {MEMORY >> 20} MB of memory"
            connection.send((number, Outcome(kind, seed, number, answered, problem, seconds)))
            if asked > MEMORY:
                # The system keeps the peak; another child starts from a lower one.
                return


def run(kind: str, seed: int, count: int) -> Iterator[Outcome]:
    """The outcomes of cases 0 to count - 1."""
    context = multiprocessing.get_context("fork")
    KINDS[kind].samples()  # here, so that what making them takes does not count
    number = 0
    while number < count:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(kind, seed, number, count, theirs))
        child.start()
        theirs.close()
        pending = False
        try:
            while number < count:
                if not ours.poll(_HANG):
                    child.kill()
                    yield Outcome(kind, seed, number, False, f"no answer in {_HANG:.0f} s", _HANG)
                    number += 1
                    break
                number, outcome = ours.recv()
                pending = outcome is None
                if outcome is not None:
                    yield outcome
                    number += 1
        except EOFError:
            child.join()
            if pending:
                yield Outcome(kind, seed, number, False, f"the process died (exit status {child.exitcode})", 0)
                number += 1
            elif child.exitcode:
                raise RuntimeError(f"{kind}: the input of case {number} of seed {seed} cannot be made") from None
        finally:
            ours.close()
            child.kill()
            child.join()
