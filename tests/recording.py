"""A recorder of CPU work that behaves as CUDA's stream capture does, for tests of what runs on CUDA graphs.

While recording, nothing lasts: what was changed is put back. A replay does the operations again on the same tensors,
with the Python numbers of the recording; so a learning rate that is a Python number goes stale here as it would on a
GPU, and a look at a value (`.item()`, `nonzero`) is an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from caffe.engine.cuda_graph import Recorder

T = TypeVar("T")
_LOOKS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::masked_select", "aten::equal"}


class _Capture(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch declares no types
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []
        self.before: list[tuple[Tensor, Tensor]] = []
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._schema.name in _LOOKS:
            raise RuntimeError(f"operation not permitted while recording: {func}")
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in (t for t in tree_iter(value) if isinstance(t, Tensor)):
                    if tensor.data_ptr() not in self._seen:
                        self._seen.add(tensor.data_ptr())
                        self.before.append((tensor, tensor.clone()))
        result = func(*args, **kwargs)
        outputs = [t for t in tree_iter(result) if isinstance(t, Tensor)]
        self.calls.append((func, args, kwargs, outputs))
        return result


class CpuRecorder(Recorder):
    """Records every operation that reaches PyTorch's dispatcher."""

    def __init__(self) -> None:
        self.warm_ups = 0

    def warm_up(self, work: Callable[[], T]) -> T:
        self.warm_ups += 1
        return work()

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        with _Capture() as capture:
            outputs = work()
        with torch.no_grad():
            for tensor, value in reversed(capture.before):
                tensor.copy_(value)

        @torch.no_grad()
        def replay() -> None:
            for func, args, kwargs, outs in capture.calls:
                again = [t for t in tree_iter(func(*args, **kwargs)) if isinstance(t, Tensor)]
                for out, new in zip(outs, again, strict=True):
                    if new.data_ptr() != out.data_ptr() and out.numel():
                        out.copy_(new)

        return outputs, replay

    def seconds(self, replay: Callable[[], None]) -> float:
        start = time.perf_counter()
        replay()
        return time.perf_counter() - start
