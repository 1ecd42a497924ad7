"""Branches of a net side by side on a GPU: which stream each step runs on, and which steps of others it waits for.

At batch 1 most kernels of a detector leave most of the device idle, and the time of a pass is the sum of their
latencies. But prediction layers do not need each other, nor do the branches of an inception block or MDSSD's three
fusion modules. On streams of their own the time is that of the longest chain.

Within a stream everything runs in order. The plan depends on the net alone, so it can be checked without a GPU. How to
use streams is an argument for the same reason.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from caffe.engine.constants import Remembered
from caffe.engine.layer import SourceLayer

if TYPE_CHECKING:
    from caffe.engine.wiring import Step

#: the number of streams, beyond which branches share them
MOST_STREAMS = 8


@dataclass(frozen=True)
class Place:
    """Where and when a step runs."""

    #: 0: the stream on which the pass was started
    stream: int
    #: earlier steps, on other streams, that must have ended before
    waits: tuple[int, ...] = ()


class Plan:
    """The places of steps. `most`: the number of streams."""

    def __init__(self, steps: Sequence[Step], most: int = MOST_STREAMS) -> None:
        self.steps = steps
        self.places = _places(steps, _needs(steps), most)
        self.streams = 1 + max((place.stream for place in self.places), default=0)
        #: steps that others wait for
        self.awaited = frozenset(i for place in self.places for i in place.waits)


def _needs(steps: Sequence[Step]) -> list[set[int]]:
    """For each step the earlier steps whose results it reads. A step that reads shapes only needs none.

    Nothing else orders steps: splits see to it that one layer only reads a blob, so a layer that overwrites its bottom
    waits for what it reads. Shared parameters order their layers too, as autocast rounds them once, for the first.
    """
    writers: dict[str, int] = {}
    users: dict[int, int] = {}
    needs: list[set[int]] = []
    for i, step in enumerate(steps):
        from_shapes = isinstance(step.layer, Remembered) and step.layer.from_shapes
        need = set() if from_shapes else {writers[b] for b in step.bottoms if b in writers}
        for blob in step.layer.blobs:
            if id(blob) in users:
                need.add(users[id(blob)])
            users[id(blob)] = i
        needs.append(need)
        writers.update(dict.fromkeys(step.tops, i))
    return needs


def _places(steps: Sequence[Step], needs: Sequence[set[int]], most: int) -> list[Place]:
    places: list[Place] = []
    before: list[int] = []  # for each step those that precede it because of needs, as bits
    depth: list[int] = []  # for each step the length of the longest chain that ends with it
    last: dict[int, int] = {0: -1}  # for each stream its last step
    seen: list[dict[int, int]] = []  # for each step what has ended before it on each stream: the last such step
    for i, (step, need) in enumerate(zip(steps, needs, strict=True)):
        before.append(0)
        for j in need:
            before[i] |= before[j] | 1 << j
        depth.append(1 + max((depth[j] for j in need), default=0))
        at_start = isinstance(step.layer, SourceLayer | Remembered)  # nothing to do, but in the first pass
        stream = 0 if at_start else _stream(before[i], last, depth, most)
        known = dict(seen[last[stream]]) if last.get(stream, -1) >= 0 else {}
        waits = []
        for j in sorted(need, reverse=True):
            at = places[j].stream
            if at != stream and known.get(at, -1) < j:
                waits.append(j)
                for other, step_of_other in seen[j].items():
                    known[other] = max(known.get(other, -1), step_of_other)
        known[stream] = last[stream] = i
        seen.append(known)
        places.append(Place(stream, tuple(sorted(waits))))
    return places


def _stream(before: int, last: dict[int, int], depth: Sequence[int], most: int) -> int:
    """The stream for a step that must follow the steps in `before`.

    That is one on which it waits for nothing else, the one with the longest chain among them; or a new one; or, if there
    are enough, the one with the shortest chain.
    """
    free = [stream for stream, i in last.items() if i < 0 or before >> i & 1]
    if free:
        return max(free, key=lambda stream: depth[last[stream]] if last[stream] >= 0 else 0)
    if len(last) < most:
        last[len(last)] = -1
        return len(last) - 1
    return min(last, key=lambda stream: depth[last[stream]])


class Streams(ABC):
    """Streams by number. 0 is the one that is current when a pass starts."""

    @abstractmethod
    def on(self, stream: int) -> AbstractContextManager[object]:
        """Inside, work is put on this stream."""

    @abstractmethod
    def mark(self) -> Any:
        """A mark behind what has been put on the current stream."""

    @abstractmethod
    def wait(self, mark: Any) -> None:
        """What is put on the current stream from now on waits until everything before the mark has ended."""


class CudaStreams(Streams):
    """Streams of a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._streams: dict[int, torch.cuda.Stream] = {}

    def on(self, stream: int) -> AbstractContextManager[object]:
        if stream == 0:
            return nullcontext()
        if stream not in self._streams:
            self._streams[stream] = torch.cuda.Stream(self._device)
        return torch.cuda.stream(self._streams[stream])

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        return event

    def wait(self, mark: torch.cuda.Event) -> None:
        torch.cuda.current_stream(self._device).wait_event(mark)


def run_on_streams(
    net: Any, plan: Plan, streams: Streams, blobs: dict[str, Tensor], keep: frozenset[str], result: dict[str, Tensor]
) -> Tensor | None:
    """`net.run_steps(plan.steps, blobs, keep, result)` on streams. The current stream waits for them at the end."""
    start = streams.mark()
    started = {0}
    marks: dict[int, Any] = {}
    terms: list[Tensor] = []
    # PyTorch gives memory that was freed to the next step on the stream where it was allocated, at once. So blobs that
    # are read on another stream are kept until all have ended.
    held: list[Tensor] = []
    writers: dict[str, int] = {}
    for i, (step, place) in enumerate(zip(plan.steps, plan.places, strict=True)):
        held += [blobs[b] for b in step.bottoms if b in writers and plan.places[writers[b]].stream != place.stream]
        with streams.on(place.stream):
            if place.stream not in started:
                started.add(place.stream)
                streams.wait(start)
            for j in place.waits:
                streams.wait(marks[j])
            term = net.run_steps([step], blobs, keep, result)
            if term is not None:
                terms.append(term)
            if i in plan.awaited:
                marks[i] = streams.mark()
        writers.update(dict.fromkeys(step.tops, i))
    for stream in sorted(started - {0}):
        with streams.on(stream):
            end = streams.mark()
        streams.wait(end)
    held.clear()
    loss: Tensor | None = None
    for term in terms:
        loss = term if loss is None else loss + term
    return loss
