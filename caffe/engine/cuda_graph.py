"""CUDA graphs: the work of a whole pass, recorded once and started by a single call.

At batch 1 the host takes longer to launch a net's several hundred kernels than the GPU to run them. A recording does
not run any Python: it reads the tensors that it was recorded with. So inputs are copied into `StaticInputs`, and
numbers that change (a learning rate) are on the device. Which layers it can hold is decided beforehand, from the net.

How to record is an argument, so that tests can do it without a GPU.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from caffe import log
from caffe.engine import acceleration
from caffe.engine.layer import Layer, SourceLayer
from caffe.engine.streams import CudaStreams, Plan, Streams, run_on_streams
from caffe.engine.wiring import Step, log_root
from caffe.errors import NetError
from caffe.runtime import runtime

T = TypeVar("T")
#: shapes and types of a batch, and whatever else a recording depends on
Key = tuple[object, ...]

#: the minimum number of rows in a buffer for labels
LEAST_ROWS = 64
#: the number of recordings, for batches of different shapes, that are kept
MOST_RECORDINGS = 4
#: the number of replays by which two recordings are compared
_TIMED_REPLAYS = 20


class Recorder(ABC):
    """A way of recording device work."""

    @abstractmethod
    def warm_up(self, work: Callable[[], T]) -> T:
        """Does the work that will be recorded; meanwhile libraries choose their algorithms and allocate memory."""

    @abstractmethod
    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """Records the work without doing it. Returns its outputs, and the call that does it and fills them."""

    @abstractmethod
    def seconds(self, replay: Callable[[], None]) -> float:
        """The time that a replay takes on the device."""


class CudaRecorder(Recorder):
    """Records by stream capture."""

    def warm_up(self, work: Callable[[], T]) -> T:
        # Capture uses its own stream; what autograd and the allocator tie to a stream must be tied to that one.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = work()
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        # thread_local: threads that prefetch data may use the device meanwhile
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = work()
        return outputs, graph.replay

    def seconds(self, replay: Callable[[], None]) -> float:
        times: list[float] = []
        for _ in range(_TIMED_REPLAYS):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            replay()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
        return min(times)


def _is_trimmed(layer: Layer) -> bool:
    """Whether a graph gives the layer's tops with room for all rows, from which those in use are then cut out."""
    return bool(layer.dynamic_axes) and not layer.static_shape


def capturable_steps(steps: Sequence[Step]) -> tuple[int, str | None]:
    """How many steps from the first on one graph can hold, and what keeps the next one out of it.

    What reads tops whose sizes depend on values has to wait until they have been cut to size.
    """
    trimmed: set[str] = set()
    for i, step in enumerate(steps):
        reason = step.layer.graph_obstacle()
        if reason is None:
            reason = next((f"reads '{b}', whose size depends on values" for b in step.bottoms if b in trimmed), None)
        if reason:
            return i, f"layer '{step.layer.name}' ({step.layer.type_name}) {reason}"
        if _is_trimmed(step.layer):
            trimmed.update(step.tops)
    return len(steps), None


def compilable_steps(steps: Sequence[Step]) -> int:
    """The number of steps from the first that torch.compile takes as one graph."""
    return next((i for i, step in enumerate(steps) if step.layer.compile_obstacle()), len(steps))


def label_blobs(steps: Sequence[Step]) -> frozenset[str]:
    """Source blobs to which rows of −1 may be added, as all layers that read them take padding: labels of boxes."""
    sources = {top for step in steps if isinstance(step.layer, SourceLayer) for top in step.tops}
    labels: set[str] = set()
    others: set[str] = set()
    origin = {name: name for name in sources}
    for step in steps:
        for j, bottom in enumerate(step.bottoms):
            if bottom not in origin:
                continue
            if step.layer.passes_through:
                origin.update(dict.fromkeys(step.tops, origin[bottom]))
            elif step.layer.takes_padding(j):
                labels.add(origin[bottom])
            else:
                others.add(origin[bottom])
    return frozenset(labels - others)


def record(recorder: Recorder, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
    """`recorder.record(work)`. A layer that a graph cannot hold, although it does not say so, is a NetError that names it."""
    try:
        return recorder.record(work)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        layer = _layer_in(error)
        who = "a layer" if layer is None else f"layer '{layer.name}' ({layer.type_name})"
        reason = str(_first(error)).partition("\n")[0]
        raise NetError(
            f"the net cannot be recorded as a CUDA graph, as {who} does what a graph cannot hold: {reason}. Run it "
            "without -graph, or let the layer's graph_obstacle() say so: it then runs outside the graph"
        ) from error


def _first(error: BaseException) -> BaseException:
    """The error that was raised first: that a failed capture ends is an error, too, which comes after."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _layer_in(error: BaseException) -> Layer | None:
    """The layer that was running when the error was raised."""
    found, trace = None, _first(error).__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, Layer):
            found = owner
        trace = trace.tb_next
    return found


class StaticInputs:
    """The source blobs of a net in fixed memory. Labels have room for more rows than they fill."""

    def __init__(self, batch: Mapping[str, Tensor], labels: frozenset[str]) -> None:
        self._labels = labels
        self.tensors: dict[str, Tensor] = {}
        for name, tensor in batch.items():
            if name in labels:
                rows = LEAST_ROWS
                while rows < tensor.shape[2]:
                    rows *= 2
                self.tensors[name] = tensor.new_full((*tensor.shape[:2], rows, tensor.shape[3]), -1)
            else:
                self.tensors[name] = torch.empty_like(tensor)

    def fit(self, batch: Mapping[str, Tensor]) -> bool:
        """Whether a batch fits here."""
        return batch.keys() == self.tensors.keys() and all(self._fits(n, t, self.tensors[n]) for n, t in batch.items())

    def _fits(self, name: str, tensor: Tensor, place: Tensor) -> bool:
        if tensor.dtype != place.dtype or tensor.dim() != place.dim():
            return False
        if name in self._labels:
            return tensor.shape[:2] == place.shape[:2] and tensor.shape[2] <= place.shape[2]
        return tensor.shape == place.shape

    def fill(self, batch: Mapping[str, Tensor]) -> None:
        """Copies a batch in; the rest of the label rows get −1."""
        for name, tensor in batch.items():
            place = self.tensors[name]
            if name in self._labels:
                rows = tensor.shape[2]
                place[:, :, :rows].copy_(tensor, non_blocking=True)
                place[:, :, rows:].fill_(-1)
            else:
                place.copy_(tensor, non_blocking=True)


@dataclass
class _Recording:
    inputs: StaticInputs
    loss: Tensor
    blobs: dict[str, Tensor]
    kept: dict[str, Tensor]
    replay: Callable[[], None]


class GraphedForward:
    """A TEST net's forward as one CUDA graph, as far as its layers allow; the layers after that run one by one.

    Takes and returns what `Net.forward` does. A batch of other shapes causes a new recording. Where `runtime.tune` asks
    for it, branches are also recorded on several streams, and the faster recording is kept.
    """

    def __init__(self, net: Any, recorder: Recorder | None = None, streams: Streams | None = None) -> None:
        self.net = net
        self._recorder = recorder or CudaRecorder()
        steps = net.inference_steps
        count, reason = capturable_steps(steps)
        self._head, self._tail = steps[:count], steps[count:]
        run_head = self._run_head
        self._run: Callable[..., Any] = acceleration.compiled(run_head) if runtime.compile else run_head
        self._plan = Plan(self._head) if runtime.tune and not runtime.compile else None
        self._streams = streams or CudaStreams(net.device)
        #: the time of the last recording on several streams, relative to the one on one stream; None if there was none
        self.several_to_one: float | None = None
        self._recordings: dict[Key, _Recording] = {}
        if reason:
            log_root(
                log.here(),
                f"CUDA graph: holds {count} of {len(steps)} layers; {reason}, so it and what follows run one by one",
            )

    def __call__(self, batch: Mapping[str, Tensor], keep: frozenset[str]) -> tuple[Tensor, dict[str, Tensor]]:
        key = self._key(batch, keep)
        recording = self._recordings.get(key)
        if recording is None:
            if not self.net.makes(keep):  # what was to be recorded does without some of the blobs
                with acceleration.autocast(self.net.device):
                    whole: tuple[Tensor, dict[str, Tensor]] = self.net.run_all(dict(batch), keep)
                return whole
            while len(self._recordings) >= MOST_RECORDINGS:  # the oldest, whose memory is large
                del self._recordings[next(iter(self._recordings))]
            recording = self._recordings[key] = self._record(batch, keep)
        recording.inputs.fill(batch)
        recording.replay()
        # Copies: the recording's own memory changes with the next batch. The tail reads its inputs at once.
        result = {name: self._trimmed(name, value).clone() for name, value in recording.kept.items()}
        blobs = {name: self._trimmed(name, value) for name, value in recording.blobs.items()}
        loss = recording.loss
        if self._tail:
            with acceleration.autocast(self.net.device):
                more = self.net.run_steps(self._tail, blobs, keep, result)
            loss = loss if more is None else loss + more
        result.update((name, value.clone()) for name, value in blobs.items())
        return loss.clone(), result

    def _key(self, batch: Mapping[str, Tensor], keep: frozenset[str]) -> Key:
        # Sharing weights with another net moves the parameters; a recording would continue to read the old ones.
        places = tuple(p.data_ptr() for p in self.net.parameters())
        return (*((n, tuple(t.shape), t.dtype) for n, t in sorted(batch.items())), keep, places)

    def _record(self, batch: Mapping[str, Tensor], keep: frozenset[str]) -> _Recording:
        inputs = StaticInputs(batch, frozenset())
        inputs.fill(batch)
        recording = self._recorded(inputs, keep, self._run)
        if self._plan is None or self._plan.streams == 1:
            return recording
        try:
            on_streams = self._recorded(inputs, keep, self._run_head_on_streams)
        except torch.OutOfMemoryError:
            log_root(log.here(), "CUDA graph: on one stream; for several, which hold more blobs, memory is too small")
            return recording
        one, several = (self._recorder.seconds(each.replay) for each in (recording, on_streams))
        self.several_to_one = several / one
        log_root(
            log.here(),
            f"CUDA graph: on {self._plan.streams} streams a pass takes {self.several_to_one:.2f} of its time on one, "
            f"which is {one * 1e3:.2f} ms; {'several' if several < one else 'one'} will be used",
        )
        return on_streams if several < one else recording

    def _recorded(self, inputs: StaticInputs, keep: frozenset[str], run: Callable[..., Any]) -> _Recording:
        to_trim = [step.layer for step in self._head if _is_trimmed(step.layer)]
        for layer in to_trim:
            layer.static_shape = True

        def work() -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
            # Inside, so that weights cast for autocast belong to the recording.
            with torch.no_grad(), acceleration.autocast(self.net.device):
                result: tuple[Tensor, dict[str, Tensor], dict[str, Tensor]] = run(dict(inputs.tensors), keep)
                return result

        try:
            for _ in range(2):
                self._recorder.warm_up(work)
            (loss, blobs, kept), replay = record(self._recorder, work)
        finally:
            for layer in to_trim:
                layer.static_shape = False
        return _Recording(inputs, loss, blobs, kept, replay)

    def _run_head(
        self, blobs: dict[str, Tensor], keep: frozenset[str]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        kept: dict[str, Tensor] = {}
        loss = self.net.run_steps(self._head, blobs, keep, kept)
        return torch.zeros((), device=self.net.device) if loss is None else loss, blobs, kept

    def _run_head_on_streams(
        self, blobs: dict[str, Tensor], keep: frozenset[str]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        assert self._plan is not None
        kept: dict[str, Tensor] = {}
        loss = run_on_streams(self.net, self._plan, self._streams, blobs, keep, kept)
        return torch.zeros((), device=self.net.device) if loss is None else loss, blobs, kept

    def _trimmed(self, name: str, value: Tensor) -> Tensor:
        """A top without the rows not in use, unless its layer is set to keep them."""
        for step in self._head:
            if name in step.tops and _is_trimmed(step.layer):
                value = step.layer.trimmed(step.tops.index(name), value)
        return value
