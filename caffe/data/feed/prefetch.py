"""Batches made ahead of time by worker processes.

Worker w of n makes the records at places w, w + n, w + 2n, … of the stream, in order, in slots of memory that it shares
with this process. Labels and errors come back through its own pipe. So nothing is locked, results need no sorting, and
an error is raised with the batch that it belongs to. The memory is anonymous, so /dev/shm does not limit it.

For a GPU a thread puts the next batch together, in memory that the device copies from, while the device works on this
one.
"""

from __future__ import annotations

import atexit
import gc
import mmap
import multiprocessing
import os
import signal
import threading
import traceback
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe import log
from caffe.data.feed.bad_records import leave_out
from caffe.data.feed.memory import keep_freed_memory
from caffe.errors import DataError
from caffe.runtime import runtime

Array = NDArray[np.float32]
T = TypeVar("T")
#: makes the record at a place of the stream: its data (in the given array, if the shape fits) and its label rows
Load = Callable[[int, Array], tuple[Array, Array]]
#: the same for the record at the first place, in the batch that the second place belongs to
LoadAs = Callable[[int, int, Array], tuple[Array, Array]]

_MAX_DEFAULT_WORKERS = 8
#: seconds that a worker has to end before it is killed
_PATIENCE = 2.0
#: seconds without a record after which it is said that a worker does not answer, and again after as many
_SILENCE = 60.0
#: this process's ends of all workers' pipes; a later worker must not keep them open
_own_ends: weakref.WeakSet[Connection[Any, Any]] = weakref.WeakSet()


#: what ends the workers of each prefetcher that has some
_running: set[Callable[[], object]] = set()


@atexit.register
def _stop_all() -> None:
    """Ends all workers before multiprocessing, whose exit comes later, sends them SIGTERM and waits."""
    for stop in list(_running):
        stop()


def default_workers() -> int:
    """CAFFE_DATA_WORKERS, or this rank's share of the machine's cores, at most 8. 0 means no other process."""
    text = os.environ.get("CAFFE_DATA_WORKERS", "")
    if text:
        if not text.isdigit() or int(text) > 512:
            raise DataError(f"CAFFE_DATA_WORKERS is '{text}'; it must be a number of processes from 0 to 512")
        return int(text)
    if "fork" not in multiprocessing.get_all_start_methods():
        return 0
    return max(1, min(_MAX_DEFAULT_WORKERS, len(os.sched_getaffinity(0)) // runtime.world_size))


class Prefetcher:
    """Reads batches of `batch_size` records of about `shape` ahead. `where(place)` names a record in messages."""

    def __init__(
        self,
        load: Load,
        shape: tuple[int, ...],
        batch_size: int,
        where: Callable[[int], str],
        workers: int | None = None,
        ahead: bool | None = None,
        skip: int = 0,
        load_as: LoadAs | None = None,
    ) -> None:
        """`workers`: processes (None: `default_workers`). `ahead`: a thread collects the next batch (None: on a GPU).

        `skip`: instead of a record that cannot be read, up to this many that follow it are tried. `load_as` makes them
        where batches differ (None: `load` does).
        """
        self._load_as: LoadAs = load_as or (lambda place, _, room: load(place, room))
        self._skip = skip
        self._shape, self._batch_size, self._where = shape, batch_size, where
        self._workers = default_workers() if workers is None else workers
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection[Any, Any]] = []
        self._stop: Callable[[], object] = lambda: None
        #: places of the stream: the first not returned, not collected, not requested from the workers
        self._given = self._next = self._asked = 0
        self._ahead = ahead
        self._pending: Future[tuple[Tensor, list[Array]]] | None = None

    def start_at(self, batch: int) -> None:
        """Makes `batch` the number of the next batch."""
        if batch * self._batch_size != self._given:
            self.close()
            self._given = self._next = batch * self._batch_size

    def batch(self) -> tuple[Tensor, list[Array]]:
        """The next batch: data [N, …] of one shape, and each record's label rows. A DataError names a faulty record."""
        if self._pending is not None:
            wait_for([self._pending])  # an interrupt here leaves it pending
            pending, self._pending = self._pending, None
            result = pending.result()
        else:
            if self._workers and not self._processes:
                self._start()
            result = self._collect()
        self._given += self._batch_size
        if self._workers and (_on_gpu() if self._ahead is None else self._ahead):
            self._pending = _in_a_thread(self._collect)
        return result

    def _collect(self) -> tuple[Tensor, list[Array]]:
        """The batch at `_next`, from the workers or made here. After an error the next call begins with it again."""
        try:
            return self._gather()
        except DataError:
            self._end_workers()
            raise

    def _gather(self) -> tuple[Tensor, list[Array]]:
        places = range(self._next, self._next + self._batch_size)
        shape = self._shape
        data: Tensor | None = None
        labels: list[Array] = []
        for item, place in enumerate(places):
            room = np.empty(0, np.float32)
            if self._workers:
                record, rows, left_out = self._receive(place)
            else:
                room = data[item].numpy() if data is not None else np.empty(shape, np.float32)
                record, rows, left_out = self._here(place, room)
            for bad, error in left_out:
                leave_out(bad, error)
            if data is None:
                shape = record.shape
                data = torch.empty((self._batch_size, *shape), pin_memory=_on_gpu())
            if record.shape != shape:
                raise DataError(
                    f"{self._where(place)}: its data is {_times(record.shape)}, but the batch's first record has "
                    f"{_times(shape)} (channels × height × width). Give resize_param a size, or use a batch of 1"
                )
            if record is not room or item == 0:
                # With NumPy, on this thread: PyTorch would wake its own threads, which then spin where the workers
                # should run.
                np.copyto(data[item].numpy(), record)
            labels.append(rows)
            if self._workers:
                self._next = place + 1
                self._ask()
        self._next = places.stop
        assert data is not None
        return data, labels

    def _load_or_skip(self, place: int, room: Array) -> tuple[Array, Array, list[tuple[str, str]]]:
        """Data and label rows of the first record from `place` on that can be read, and those before it with errors."""
        left_out: list[tuple[str, str]] = []
        for following in range(place, place + self._skip):
            try:
                return (*self._load_as(following, place, room), left_out)
            except DataError as error:
                left_out.append((self._where(following), str(error)))
        return (*self._load_as(place + self._skip, place, room), left_out)

    def _here(self, place: int, room: Array) -> tuple[Array, Array, list[tuple[str, str]]]:
        try:
            return self._load_or_skip(place, room)
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"{self._where(place)}: {type(error).__name__}: {error}") from error

    # ---- worker processes

    def _start(self) -> None:
        count, size = self._workers, int(np.prod(self._shape)) * 4
        # Not __del__: when objects are collected together, a pipe may go before its prefetcher, and be closed twice.
        self._stop = weakref.finalize(self, _stop, self._pipes, self._processes, os.getpid())
        _running.add(self._stop)
        self._slots = max(2 * self._batch_size, 2 * count)
        self._memory = mmap.mmap(-1, max(1, self._slots * size))
        context = multiprocessing.get_context("fork")
        # OpenCV's own threads do not survive the fork, and joining them in the child would hang it
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            for number in range(count):
                ours, theirs = context.Pipe()
                _own_ends.add(ours)
                process = context.Process(target=self._work, args=(theirs,), name=f"data {number}", daemon=True)
                process.start()
                theirs.close()
                self._pipes.append(ours)
                self._processes.append(process)
        except OSError as error:
            self._end_workers()
            raise DataError(
                f"cannot start {count} data workers: {error}. Set CAFFE_DATA_WORKERS to start fewer"
            ) from None
        finally:
            cv2.setNumThreads(threads)
        self._asked = self._next
        self._ask()

    def _ask(self) -> None:
        """Requests records from the workers as far as there are free slots."""
        try:
            while self._asked < self._next + self._slots:
                self._pipes[self._asked % self._workers].send(self._asked)
                self._asked += 1
        except OSError:
            pass  # that worker has ended; the batch that lacks its record will raise the error

    def _slot(self, place: int) -> Array:
        size = int(np.prod(self._shape))
        return np.frombuffer(self._memory, np.float32, size, place % self._slots * size * 4).reshape(self._shape)

    def _receive(self, place: int) -> tuple[Array, Array, list[tuple[str, str]]]:
        worker = place % self._workers
        pipe, process = self._pipes[worker], self._processes[worker]
        try:
            while not wait([pipe, process.sentinel], timeout=_SILENCE):
                log.warning(
                    log.here(),
                    f"{self._where(place)}: waiting for {_SILENCE:g} s for data worker {worker} (process {process.pid}), "
                    "which may be stopped, or waits for a disk",
                )
            record, rows, left_out, error = pipe.recv()
        except (EOFError, OSError):
            process.join(1)
            code = process.exitcode
            how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with status {code}"
            reason = ". Out of memory? Set CAFFE_DATA_WORKERS to use fewer workers" if code == -9 else ""
            raise DataError(f"{self._where(place)}: the data worker {how}{reason}") from None
        if error:
            raise DataError(error)
        return self._slot(place) if record is None else record, rows, left_out

    def _work(self, pipe: Connection[Any, Any]) -> None:
        """A worker's loop: runs until it receives None, or the other end is gone."""
        # The main process decides what signals to the whole group mean, and ends its workers itself.
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        gc.freeze()
        keep_freed_memory()
        for end in list(_own_ends):
            end.close()
        cv2.setNumThreads(1)
        try:
            while (place := pipe.recv()) is not None:
                room = self._slot(place)
                try:
                    record, rows, left_out = self._load_or_skip(place, room)
                    pipe.send((None if record is room else record, rows, left_out, ""))
                except DataError as error:
                    pipe.send((None, None, [], str(error)))
                except Exception as error:
                    detail = traceback.format_exc()
                    pipe.send((None, None, [], f"{self._where(place)}: {type(error).__name__}: {error}\n{detail}"))
        except (EOFError, OSError):
            pass

    def close(self) -> None:
        """Ends the workers. The prefetcher may be used again afterwards: it then starts new ones."""
        if self._pending is not None:
            if not wait_for([self._pending], timeout=_PATIENCE).done:
                for process in self._processes:  # one hangs; the thread that waits for it stops when it ends
                    with suppress(ValueError):  # that thread has closed it by now
                        process.kill()
                wait_for([self._pending])
            self._pending = None
        self._end_workers()

    def _end_workers(self) -> None:
        self._next = self._given
        self._stop()
        _running.discard(self._stop)
        self._pipes, self._processes = [], []


def _stop(pipes: list[Connection[Any, Any]], processes: list[BaseProcess], starter: int) -> None:
    """Ends the workers, if this process is `starter`; a worker that was forked later has none to end."""
    if os.getpid() != starter:
        return
    for pipe in pipes:
        pipe.close()
    for process in processes:
        process.join(_PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()
        with suppress(ValueError):  # at exit, a thread may be waiting for it too, and see its end first
            process.close()


def _in_a_thread(work: Callable[[], T]) -> Future[T]:
    """A future of what `work` returns or raises. The thread does not keep the program from ending."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="next batch", daemon=True).start()
    return future


def _on_gpu() -> bool:
    return runtime.mode_gpu and torch.cuda.is_available()


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
