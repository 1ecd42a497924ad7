"""Several ranks training one net: one process each, gradients averaged over torch.distributed.

Every rank runs the same loop on its own records. Gradients are sent in buckets while backward is still running: a
bucket is sent as soon as its last gradient is there, in the same order on every rank. Everything else that the ranks
must agree on (a stop, the end of a test) goes through the store that they met at. Each rank also notes there how far it
is, so that a rank that keeps the others waiting can be named.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store  # what torch.distributed exports, with its types
from torch.distributed.rendezvous import rendezvous

from caffe import log
from caffe.errors import CaffeError
from caffe.runtime import runtime
from caffe.solver.divergence import LossNotFiniteError
from caffe.solver.exchange import Divergence, Exchange
from caffe.solver.requests import Action

#: set for processes that caffe.solver.launch starts: they report errors to it instead of printing them
LAUNCHED = "CAFFE_LAUNCHED"
#: a bucket's size: large enough for full bandwidth, small enough that the first is sent early in backward
BUCKET_BYTES = 25 << 20
#: rank 0 is asked to stop between iterations, and all ranks do so this many iterations later. On a GPU a rank's host
#: runs at most one iteration ahead of the gradients it has received, so by then every rank has heard of it.
_NOTICE = 2


class LostContactError(CaffeError):
    """Another rank is gone or hangs; the cause is there."""


def started_by_launcher() -> bool:
    """Whether this process is one of several that torchrun or caffe.solver.launch started."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"))


def local_rank() -> int:
    """This process's number among those on this machine."""
    return int(os.environ["LOCAL_RANK"])


@contextmanager
def joined(on_gpus: bool, timeout: float) -> Iterator[Ranks]:
    """Joins the other ranks and sets this process's rank; on exit, leaves them.

    `timeout`: seconds after which a rank that does not answer counts as lost. An error is noted where the launcher
    finds it.
    """
    limit = timedelta(seconds=timeout)
    try:
        meeting, rank, world = next(iter(rendezvous("env://", timeout=limit)))
    except (RuntimeError, ValueError) as error:
        raise LostContactError(f"cannot meet the other ranks at {os.environ['MASTER_ADDR']}: {error}") from error
    runtime.rank, runtime.world_size = rank, world
    if rank:  # rank 0 writes the log
        os.environ["GLOG_minloglevel"] = str(max(log.WARNING, log.minimum_level()))
    store = PrefixStore("caffe", meeting)
    try:
        try:
            dist.init_process_group(
                "nccl" if on_gpus else "gloo",
                store=PrefixStore("gradients", meeting),
                rank=rank,
                world_size=world,
                timeout=limit,
            )
        except RuntimeError as error:
            raise LostContactError(f"not all of {world} ranks met within {timeout:g} s: {error}") from error
        ranks = Ranks(store, timeout)
        runtime.seed = int(ranks.from_root("seed", str(runtime.data_seed())))
        yield ranks
    except (Exception, KeyboardInterrupt) as error:
        # The process group is left as it is: destroying it would wait for the others.
        report_error(store, rank, error)
        raise
    dist.destroy_process_group()
    runtime.rank, runtime.world_size = 0, 1


def report_error(store: Store, rank: int, error: BaseException) -> None:
    """Notes why this rank fails, if the store can still be reached."""
    message = str(error) if isinstance(error, CaffeError) else f"{type(error).__name__}: {error}"
    note: dict[str, object] = {"time": time.time(), "message": message}
    note["lost"] = isinstance(error, LostContactError)
    diverged = error if isinstance(error, LossNotFiniteError) else error.__cause__
    if isinstance(diverged, LossNotFiniteError) and rank:
        note["lost"] = True  # rank 0 reports it, because it knows the snapshots
        note["divergence"] = Divergence(diverged.loss, list(diverged.records), diverged.batches)
    with suppress(RuntimeError):
        store.set(f"error_{rank}", json.dumps(note))
        store.set("failed", "")


@dataclass
class _Bucket:
    """Gradients that are sent together, packed into `flat`."""

    params: list[Tensor]
    flat: Tensor
    views: list[Tensor]
    missing: int = 0
    work: dist.Work | None = field(default=None)


class Ranks(Exchange):
    """The exchange of one rank with the others."""

    def __init__(self, store: Store, timeout: float) -> None:
        self._store = store
        self._timeout = timeout
        self._rank, self._world = runtime.rank, runtime.world_size
        self._parent = os.getppid()
        self._buckets: list[_Bucket] = []
        self._bucket_of: dict[Tensor, _Bucket] = {}
        #: how many of the buckets have been sent in this iteration
        self._sent = 0
        self._complete = True
        self._iteration = 0
        self._updates = 0
        self._meetings = 0
        self._beat, self._last_beat = 0, 0.0
        self._plan: dict[int, Action] = {}
        self._heard = False

    # ---- gradients

    def watch(self, params: Sequence[Tensor]) -> None:
        """Sorts the gradients of `params` into buckets, last ones first, as backward yields them."""
        group: list[Tensor] = []
        size = 0
        for p in reversed([p for p in params if p.requires_grad]):
            if group and (size + p.numel() * p.element_size() > BUCKET_BYTES or p.dtype != group[0].dtype):
                self._add_bucket(group)
                group, size = [], 0
            group.append(p)
            size += p.numel() * p.element_size()
            p.register_post_accumulate_grad_hook(self._gradient_ready)
        if group:
            self._add_bucket(group)

    def _add_bucket(self, params: list[Tensor]) -> None:
        flat = torch.zeros(sum(p.numel() for p in params), dtype=params[0].dtype, device=params[0].device)
        views = [v.view(p.shape) for v, p in zip(torch.split(flat, [p.numel() for p in params]), params, strict=True)]
        bucket = _Bucket(params, flat, views)
        self._buckets.append(bucket)
        self._bucket_of.update(dict.fromkeys(params, bucket))

    def begin(self, iteration: int) -> None:
        if LAUNCHED in os.environ and os.getppid() != self._parent:
            raise SystemExit(1)  # the launcher is gone, so nobody would end this process
        self._iteration = iteration
        self._note("computing")
        self._sent = 0
        for bucket in self._buckets:
            bucket.missing, bucket.work = len(bucket.params), None

    def accumulating(self, more: bool) -> None:
        self._complete = not more

    def _gradient_ready(self, param: Tensor) -> None:
        if not self._complete:
            return
        self._bucket_of[param].missing -= 1
        while self._sent < len(self._buckets) and self._buckets[self._sent].missing == 0:
            self._send(self._buckets[self._sent])

    def _send(self, bucket: _Bucket) -> None:
        with torch.no_grad():
            for p in bucket.params:
                if p.grad is None:  # the loss does not reach it on this rank
                    p.grad = torch.zeros_like(p)
            torch._foreach_copy_(bucket.views, [p.grad for p in bucket.params if p.grad is not None])
            with self._contact():
                bucket.work = dist.all_reduce(bucket.flat, async_op=True)
        self._sent += 1

    def finish(self) -> None:
        for bucket in self._buckets[self._sent :]:
            self._send(bucket)
        self._note("waiting for the other ranks")
        self._wait_for_losses()
        for bucket in self._buckets:
            assert bucket.work is not None
            with self._contact():
                bucket.work.wait()
            bucket.flat.div_(self._world)
            torch._foreach_copy_([p.grad for p in bucket.params if p.grad is not None], bucket.views)

    def _wait_for_losses(self) -> None:
        """Returns once all ranks have come here with a finite loss: gradients of another one would ruin the weights.

        On a GPU the ranks' hosts wait here while backward is still running, so it costs no time there.
        """
        self._updates += 1
        passed, all_passed = f"passed_{self._updates}", f"all_passed_{self._updates}"
        with self._contact():
            if self._store.add(passed, 1) == self._world:
                self._store.set(all_passed, "")
                for key in ("passed", "all_passed"):  # nobody waits for the earlier ones
                    self._store.delete_key(f"{key}_{self._updates - 1}")
                return
            until, pause = time.monotonic() + self._timeout, 1e-4
            while not self._store.check([all_passed]):
                for bucket in self._buckets:
                    if bucket.work is not None and bucket.work.is_completed():
                        bucket.work.wait()  # raises if the other rank is gone
                if time.monotonic() > until or self._store.check(["failed"]):
                    raise RuntimeError("another rank has failed or does not answer")
                time.sleep(pause)
                pause = min(2 * pause, 0.02)

    def divergence(self) -> Divergence | None:
        with suppress(RuntimeError):
            for rank in range(self._world):
                key = f"error_{rank}"
                if self._store.check([key]) and (found := json.loads(self._store.get(key)).get("divergence")):
                    return Divergence(*found)
        return None

    def share(self, tensors: Iterable[Tensor]) -> None:
        self._note("exchanging weights")
        for tensor in tensors:
            with self._contact():
                dist.broadcast(tensor.data, src=0)

    # ---- agreements

    def agree(self, request: Action, iteration: int) -> Action:
        due = iteration + _NOTICE
        if self._rank == 0:
            if request is Action.NONE and not self._heard:
                request = self._asked_elsewhere()
            if request is not Action.NONE:
                self._plan[due] = request
                self._store.set(f"request_{due}", request.value)
            return self._plan.pop(iteration, Action.NONE)
        if request is not Action.NONE:
            with self._contact():
                self._store.set("asked", request.value)
        key = f"request_{iteration}"
        with self._contact():
            return Action(self._store.get(key).decode()) if self._store.check([key]) else Action.NONE

    def _asked_elsewhere(self) -> Action:
        """What another rank was asked for: the system may end one machine of several."""
        with self._contact():
            self._heard = self._store.check(["asked"])
            return Action(self._store.get("asked").decode()) if self._heard else Action.NONE

    def wait_for_root(self, request: Action = Action.NONE) -> Action:
        self._meetings += 1
        self._note("waiting for rank 0's test or snapshot" if self._rank else "computing")
        return Action(self.from_root(f"meeting_{self._meetings}", request.value))

    def from_root(self, key: str, value: str) -> str:
        """Rank 0's `value`, on every rank; waits for it as long as rank 0 is alive."""
        if self._rank == 0:
            self._store.set(key, value)
            return value
        seen = self._heartbeat()
        while True:
            try:
                self._store.wait([key], timedelta(seconds=self._timeout))
                return str(self._store.get(key).decode())
            except dist.DistStoreError as error:
                now = self._heartbeat()
                if now == seen:
                    raise LostContactError(f"rank 0 has shown no sign of life for {self._timeout:g} s") from error
                seen = now

    def alive(self) -> None:
        if time.monotonic() - self._last_beat > min(1.0, self._timeout / 4):
            self._last_beat = time.monotonic()
            self._beat += 1
            self._store.set("heartbeat", str(self._beat))

    def _heartbeat(self) -> bytes:
        with self._contact():
            return self._store.get("heartbeat") if self._store.check(["heartbeat"]) else b""

    # ---- the ranks' positions

    def _note(self, doing: str) -> None:
        with self._contact():
            self._store.set(f"at_{self._rank}", json.dumps({"iteration": self._iteration, "doing": doing}))

    @contextmanager
    def _contact(self) -> Iterator[None]:
        """Turns a failure to reach the others into a LostContactError that says who is behind."""
        try:
            yield
        except RuntimeError as error:
            reason = str(error).splitlines()[0][:200]
            raise LostContactError(
                f"gave up waiting for another rank in iteration {self._iteration}: "
                f"{describe_places(self._store, self._world) or reason}"
            ) from error


def describe_places(store: Store, world: int) -> str:
    """How far each rank is, the one that the others wait for first; empty if the store cannot be reached."""
    places = []
    try:
        for rank in range(world):
            if not store.check([f"at_{rank}"]):
                places.append((-1, 0, f"rank {rank} has not started"))
                continue
            at = json.loads(store.get(f"at_{rank}"))
            waits = at["doing"] != "computing"
            still = at["doing"] if waits else "still computing"
            places.append((at["iteration"], waits, f"rank {rank} is {still} in iteration {at['iteration']}"))
    except RuntimeError:
        return ""
    return ", ".join(text for *_, text in sorted(places))
