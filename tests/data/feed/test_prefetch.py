"""Batches made ahead by worker processes, and by a thread that collects the next one."""

from __future__ import annotations

import multiprocessing.connection
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffe.data.feed import bad_records, prefetch
from caffe.data.feed.prefetch import Array, Prefetcher
from caffe.errors import DataError
from tests.processes import python

SHAPE = (1, 4, 5)
BROKEN = 17


def load(place: int, room: Array) -> tuple[Array, Array]:
    if place == BROKEN:
        raise DataError(f"record {place} is broken")
    data = room if room.shape == SHAPE else np.empty(SHAPE, np.float32)
    data[...] = place
    return data, np.full((place % 3, 2), place, np.float32)


def places(prefetcher: Prefetcher) -> list[int]:
    """The records of the next batch, identified by their data; the labels must belong to them."""
    data, labels = prefetcher.batch()
    assert tuple(data.shape[1:]) == SHAPE
    found = [int(item[0, 0, 0]) for item in data]
    for item, place, rows in zip(data, found, labels, strict=True):
        assert bool((item == place).all())
        assert rows.shape == (place % 3, 2)
        assert bool((rows == place).all())
    return found


def read(prefetcher: Prefetcher, count: int) -> None:
    for _ in range(count):
        prefetcher.batch()


@pytest.fixture(params=[(0, False), (2, False), (2, True), (3, True)], ids=lambda p: f"{p[0]} workers{' ahead' * p[1]}")
def prefetcher(request: pytest.FixtureRequest) -> Iterator[Prefetcher]:
    workers, ahead = request.param
    made = Prefetcher(load, SHAPE, 4, lambda place: f"record {place}", workers, ahead)
    yield made
    made.close()


def test_in_order_from_any_place_and_after_closing(prefetcher: Prefetcher) -> None:
    assert places(prefetcher) == [0, 1, 2, 3]
    assert places(prefetcher) == [4, 5, 6, 7]
    prefetcher.start_at(2)  # the current position: nothing to do
    assert places(prefetcher) == [8, 9, 10, 11]
    prefetcher.start_at(1)
    assert places(prefetcher) == [4, 5, 6, 7]
    prefetcher.close()
    assert places(prefetcher) == [8, 9, 10, 11]
    prefetcher.start_at(100)
    assert places(prefetcher) == [400, 401, 402, 403]


def test_an_error_comes_with_its_batch_and_every_time(prefetcher: Prefetcher) -> None:
    for batch in range(4):
        assert places(prefetcher)[0] == 4 * batch
    time.sleep(0.1)  # a thread that is ahead has met the error by now
    for _ in range(2):
        with pytest.raises(DataError, match="record 17 is broken"):
            prefetcher.batch()
    prefetcher.start_at(5)
    assert places(prefetcher) == [20, 21, 22, 23]


@pytest.fixture
def one_is_allowed() -> Iterator[None]:
    bad_records.allow(1)
    yield
    bad_records.allow(0)


@pytest.mark.usefixtures("one_is_allowed")
@pytest.mark.parametrize("workers", [0, 2])
def test_bad_records_are_replaced_by_the_next(workers: int, capfd: pytest.CaptureFixture[str]) -> None:
    """What a batch holds does not depend on the workers, nor on where reading began."""
    expected = [[16, 18, 18, 19], [20, 21, 22, 23]]
    for first in (0, 4):
        made = Prefetcher(load, SHAPE, 4, lambda place: f"record {place}", workers, False, skip=1)
        try:
            made.start_at(first)
            read(made, 4 - first)
            assert [places(made), places(made)] == expected
        finally:
            made.close()
    assert capfd.readouterr().err.count("Left out, 1 of at most 1: record 17 is broken") == 1


@pytest.mark.usefixtures("one_is_allowed")
@pytest.mark.parametrize("workers", [0, 2])
def test_one_bad_record_too_many(workers: int) -> None:
    """The error comes every time that the batch is asked for."""
    bad_records.leave_out("another one", "another one is broken")
    made = Prefetcher(load, SHAPE, 4, lambda place: f"record {place}", workers, False, skip=1)
    try:
        made.start_at(4)
        for _ in range(2):
            with pytest.raises(DataError, match=r"^record 17 is broken\. Records left out before it: 1 "):
                made.batch()
    finally:
        made.close()


@pytest.mark.parametrize("ahead", [False, True])
def test_a_worker_that_dies(ahead: bool) -> None:
    prefetcher = Prefetcher(load, SHAPE, 4, str, 2, ahead)
    prefetcher.start_at(100)
    assert places(prefetcher)[0] == 400
    assert prefetcher._processes[0].pid is not None
    os.kill(prefetcher._processes[0].pid, signal.SIGKILL)
    with pytest.raises(DataError, match="the data worker was killed by SIGKILL"):
        read(prefetcher, 10)  # what was already made is still valid
    assert places(prefetcher)[0] % 4 == 0, "continues with whole batches"
    prefetcher.close()


def hang(place: int, room: Array) -> tuple[Array, Array]:
    if place == 5:
        time.sleep(1000)
    return load(place, room)


@pytest.mark.parametrize("ahead", [False, True])
def test_a_worker_that_hangs_does_not_keep_it_open(ahead: bool) -> None:
    prefetcher = Prefetcher(hang, SHAPE, 4, str, 2, ahead)
    assert places(prefetcher) == [0, 1, 2, 3]
    started = time.monotonic()
    prefetcher.close()
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("what", ["load", "hang"])
def test_a_program_ends_without_closing_it(what: str, ahead: bool) -> None:
    """Silently and soon, even if objects that are collected together are finalized in any order."""
    program = f"""
import gc
from tests.data.feed.test_prefetch import SHAPE, Prefetcher, {what}
made = Prefetcher({what}, SHAPE, 4, str, 2, {ahead})
made.batch()
made.itself = made  # a cycle
if {what!r} == "load":
    del made
    gc.collect()
"""
    done = python("-c", program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_process_outlives_its_prefetcher() -> None:
    made = Prefetcher(load, SHAPE, 4, str, workers=2, ahead=True)
    made.batch()
    processes = [process.pid for process in made._processes]
    del made
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in processes):
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.02)


def test_a_worker_that_stands_still_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is stopped, and its records are not there, until the limit has passed twice by a clock that runs ahead."""
    made = Prefetcher(load, SHAPE, 4, lambda place: f"record {place}", 2, False)
    passed: list[float] = []

    def wait(objects: list[Any], timeout: float) -> list[Any]:
        process = made._processes[1]
        if objects[1] != process.sentinel or len(passed) == 2:
            return multiprocessing.connection.wait(objects)
        assert process.pid is not None
        if not passed:
            os.kill(process.pid, signal.SIGSTOP)
        passed.append(timeout)
        if len(passed) == 2:
            os.kill(process.pid, signal.SIGCONT)
        return []

    monkeypatch.setattr(prefetch, "wait", wait)
    try:
        assert places(made) == [0, 1, 2, 3]
        stopped = made._processes[1].pid
    finally:
        made.close()
    assert passed == [60, 60]
    err = capfd.readouterr().err
    assert err.count(f"record 1: waiting for 60 s for data worker 1 (process {stopped})") == 2
    assert "data worker 0" not in err
