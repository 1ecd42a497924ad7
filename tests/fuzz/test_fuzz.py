"""A short run of the fuzz program, the same cases every time; `python -m tests.fuzz` makes long ones."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from caffe.errors import ProtoError
from tests.fuzz import harness
from tests.fuzz.kinds import KINDS, Kind
from tests.fuzz.mutate import MAX_BYTES, mutated
from tests.processes import ROOT, python


def test_sixty_cases_of_every_kind() -> None:
    result = python("-m", "tests.fuzz", "--count", "60", "--seed", "2", cwd=ROOT, seconds=300)
    lines = [line for line in result.stdout.splitlines() if " cases, " in line]
    assert result.returncode == 0, result.stdout
    assert len(lines) == len(KINDS)


def test_a_case_is_named_by_kind_seed_and_number() -> None:
    assert harness.case("net", 3, 17) == harness.case("net", 3, 17)
    assert len({harness.case("net", seed, 17) for seed in range(20)}) > 10


def test_mutations_are_bounded() -> None:
    rng = random.Random(0)
    assert max(len(mutated([bytes(1000)], rng)) for _ in range(300)) <= MAX_BYTES


def hog(path: Path) -> None:
    bytearray(harness.MEMORY * 2)


def crash(path: Path) -> None:
    os.abort()


def sleep_on(path: Path) -> None:
    time.sleep(60)


def spin(path: Path) -> None:
    end = time.process_time() + 1.1
    while time.process_time() < end:
        pass


def refuse(path: Path) -> None:
    raise ProtoError(f"{path}: a valid sample")


def raise_other(path: Path) -> None:
    raise KeyError("x")


def hide_name(path: Path) -> None:
    raise ProtoError("something is wrong somewhere")


@pytest.mark.parametrize(
    ("read", "problem"),
    [
        (hog, "over 256 MB"),
        (crash, "the process died"),
        (sleep_on, "no answer"),
        (spin, "took 1."),
        (refuse, "a valid sample was refused"),
        (raise_other, "KeyError"),
        (hide_name, "doesn't name the file"),
    ],
)
def test_the_harness_sees_every_failure(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], None], problem: str
) -> None:
    monkeypatch.setitem(KINDS, "bad", Kind(lambda: [b"a sample"], read))
    if read is sleep_on:
        monkeypatch.setattr(harness, "_HANG", 1.0)
    outcomes = list(harness.run("bad", 1, 2))
    assert [outcome.number for outcome in outcomes] == [0, 1]
    assert problem in str(outcomes[0].problem)
