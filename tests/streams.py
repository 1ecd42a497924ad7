"""Streams without a GPU: work runs at once, but what nothing but luck would order on a GPU is an error.

Each stream has a clock: how much work of every stream is certain to have ended before what is put on it next. A mark
carries a clock, and a wait adds a mark's to the current stream's. Every operation that reaches PyTorch's dispatcher is
one piece of work. It may read memory only after the work that wrote it, and write only after the work that read it.
Memory that is freed may be written by whatever is put next on the stream that it was allocated on, as PyTorch's
allocator reuses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from caffe.engine.streams import Streams

Clock = dict[int, int]


class Race(Exception):
    """Work that must be ordered, and is not."""


@dataclass
class _Memory:
    alive: StorageWeakRef
    #: the stream on which it was allocated
    stream: int
    #: the stream and number of the work that wrote it last, and of the work that has read it since
    written: tuple[int, int]
    read: list[tuple[int, int]] = field(default_factory=list)


class CheckedStreams(TorchDispatchMode, Streams):
    """Raises Race for what is done inside `with streams:`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch declares no types
        self._current = 0
        self._clocks: dict[int, Clock] = {0: {}}
        self._memory: dict[int, _Memory] = {}
        self._freed: dict[int, list[_Memory]] = {}
        #: how much work was put on each stream
        self.work: Clock = {0: 0}

    @contextmanager
    def _on(self, stream: int) -> Iterator[None]:
        before, self._current = self._current, stream
        self._clocks.setdefault(stream, {})
        try:
            yield
        finally:
            self._current = before

    def on(self, stream: int) -> AbstractContextManager[object]:
        return self._on(stream)

    def mark(self) -> Clock:
        return {**self._clocks[self._current], self._current: self.work.get(self._current, 0)}

    def wait(self, mark: Clock) -> None:
        clock = self._clocks[self._current]
        for stream, work in mark.items():
            clock[stream] = max(clock.get(stream, 0), work)

    def _is_before(self, work: tuple[int, int], stream: int) -> bool:
        return work[0] == stream or self._clocks[stream].get(work[0], 0) >= work[1]

    def _look_for_freed(self) -> None:
        for key, memory in list(self._memory.items()):
            if memory.alive.expired():
                del self._memory[key]
                self._freed.setdefault(memory.stream, []).append(memory)

    def _reuse(self, stream: int) -> None:
        for memory in self._freed.pop(stream, []):
            for work in [memory.written, *memory.read]:
                if not self._is_before(work, stream):
                    raise Race(f"freed memory of stream {stream} is used again while stream {work[0]} may still use it")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        stream = self._current
        self._look_for_freed()
        self._reuse(stream)
        self.work[stream] = self.work.get(stream, 0) + 1
        now = stream, self.work[stream]
        written = {
            _key(tensor)
            for argument, value in zip(func._schema.arguments, args, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
            for tensor in _tensors(value)
        }
        for tensor in _tensors((args, kwargs)):
            memory = self._memory.setdefault(_key(tensor), _Memory(StorageWeakRef(tensor.untyped_storage()), 0, (0, 0)))
            if not self._is_before(memory.written, stream):
                raise Race(f"{func} on stream {stream} reads what stream {memory.written[0]} may not have written yet")
            memory.read.append(now)
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            key = _key(tensor)
            if key not in self._memory:  # otherwise a view, or what was overwritten
                self._memory[key] = _Memory(StorageWeakRef(tensor.untyped_storage()), stream, now)
        for key in written & self._memory.keys():
            memory = self._memory[key]
            for work in memory.read:
                if not self._is_before(work, stream):
                    raise Race(f"{func} on stream {stream} overwrites what stream {work[0]} may still read")
            memory.written, memory.read = now, []
        return result


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_iter(values) if isinstance(value, Tensor)]


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
