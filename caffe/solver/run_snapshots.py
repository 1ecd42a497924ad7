"""The snapshots of one run: those that are due, those that could not be written, and the last one on the way out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from caffe import log
from caffe.engine.net import Net
from caffe.errors import WriteError
from caffe.solver import snapshots
from caffe.solver.snapshot_files import remove, remove_older, snapshots_under


class RunSnapshots:
    """Writes a run's snapshots, at moments when weights, history and iteration belong together.

    `write` writes one under a solver's snapshot_prefix and returns the name of its weights; `iteration` is the number of
    iterations done. `keep`: how many snapshots stay on disk, None for all. `overwrite`: those that are there now are of
    another run, and go as soon as the first of this one is whole.
    """

    def __init__(
        self,
        param: Any,
        net: Net,
        write: Callable[[Any], str],
        iteration: Callable[[], int],
        *,
        keep: int | None = None,
        overwrite: bool = False,
    ) -> None:
        self._others = {each.iteration for each in snapshots_under(param.snapshot_prefix)} if overwrite else set()
        self._param, self._net, self._write, self._iteration, self._keep = param, net, write, iteration, keep
        #: iteration and weights of the newest one
        self.newest: tuple[int, str] | None = None
        #: why the last one that was due could not be written; empty if it was
        self.error = ""
        self._first = 0
        #: held while weights, history and iteration do not belong together, and while they are written
        self._lock = threading.RLock()
        self._whole = True
        self._statistics = [b for step in net.steps if not step.layer.learns for b in step.layer.blobs]
        self._before = [b.detach().clone() for b in self._statistics]

    def begin(self) -> None:
        """A run begins; there is nothing to keep before its first iteration is done."""
        self._first = self._iteration()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Around an update and the count of it: in between no snapshot can be taken, nor after a failure."""
        with self._lock:
            self._whole = False
            yield
            self.keep_statistics()
            self._whole = True

    def keep_statistics(self) -> None:
        """Copies what the next iteration's forward changes before its update: BatchNorm's statistics."""
        if self._statistics:
            torch._foreach_copy_(self._before, self._statistics)

    def written(self) -> bool:
        """Whether there is one of the current iteration."""
        return self.newest is not None and self.newest[0] == self._iteration()

    def write(self) -> None:
        """Writes one. Raises CaffeError if the weights are not finite, WriteError if the system does not take it."""
        with self._lock:
            self.newest = (self._iteration(), self._write(self._param))
            self.error = ""
            remove(self._param.snapshot_prefix, self._others - {self._iteration()})
            self._others.clear()
            if self._keep is not None:
                remove_older(self._param.snapshot_prefix, self._iteration(), self._keep)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around whatever else writes the weights: the last resort waits for it."""
        with self._lock:
            yield

    def try_to_write(self) -> None:
        """Writes one; if the system does not take it, training goes on without."""
        try:
            self.write()
        except WriteError as error:
            self.error = str(error)
            now, every = self._iteration(), self._param.snapshot
            following = min((now // every + 1) * every, self._param.max_iter) if every else self._param.max_iter
            log.warning(
                log.here(),
                f"No snapshot of iteration {now}: {error}. The next attempt is after iteration {following}.",
            )

    def say_how_far_behind(self) -> None:
        """Warns if the newest one is older than it should be."""
        if not self.error:
            return
        if self.newest:
            at, weights = self.newest
            behind = f"The newest snapshot, {weights}, is {self._iteration() - at} iterations behind"
        else:
            behind = f"There is no snapshot of the {self._iteration() - self._first} iterations of this run"
        log.warning(log.here(), f"{behind}: {self.error}")

    def rescue(self) -> None:
        """Writes the last whole iteration if there is no snapshot of it and its weights are good. Never raises."""
        done = self._iteration()
        if not self._can_rescue():
            return
        try:
            self._go_back()
            self.write()
        except Exception as error:
            log.warning(log.here(), f"No snapshot of iteration {done}: {error}")
        else:
            state = snapshots.snapshot_name(self._param, done, ".solverstate")
            log.warning(
                log.here(),
                f"Training ends with an error after {done} iterations. Their weights are good: "
                f"to resume, give -snapshot {state}",
            )

    def set_aside(self) -> str:
        """Writes the last whole iteration, whose weights gave a loss that is not finite, if there is no snapshot of it.

        The weights may be good, if the records are at fault, or about to diverge. So they go under another prefix,
        `<prefix>_stopped`, where neither `-snapshot auto` nor `-keep` sees them. Returns the solver state; empty if there
        is none: nothing was done yet, or the weights are not finite. Never raises.
        """
        done = self._iteration()
        if not self._can_rescue():
            return ""
        param = type(self._param)()
        param.CopyFrom(self._param)
        param.snapshot_prefix = f"{self._param.snapshot_prefix}_stopped"
        try:
            self._go_back()
            with self._lock:
                self._write(param)
        except Exception as error:
            log.warning(log.here(), f"The weights of iteration {done} are not kept: {error}")
            return ""
        state = snapshots.snapshot_name(param, done, ".solverstate")
        log.warning(
            log.here(),
            f"The weights after {done} iterations, before this loss, are finite. They are in {state}, which -snapshot auto "
            "does not take: they are good if the records are at fault, and not if the rate is too high",
        )
        return state

    def _can_rescue(self) -> bool:
        """Whether the weights are those of a whole iteration of this run of which there is no snapshot."""
        return self._whole and self._iteration() != self._first and not self.written()

    def _go_back(self) -> None:
        """Frees the gradients, as memory may be what is missing, and undoes what a forward without update changed."""
        for parameter in self._net.learnable_params:
            parameter.grad = None
        if self._statistics:
            torch._foreach_copy_(self._statistics, self._before)

    def last_resort(self) -> None:
        """Writes a snapshot while another thread is stuck in an iteration, of which nothing is kept.

        The lock stays with this thread, so that the other one does not go on. Statistics that layers keep in forward
        (BatchNorm's) may include a batch of that iteration if it is still running.
        """
        self._lock.acquire()
        log.warning(log.here(), f"Iteration {self._iteration()} does not end in time: writing the weights before it.")
        self.rescue()
