"""Ways to run a net faster, at a price or under conditions: lower precision, compilation, CUDA graphs, tuning.

None of them is in a prototxt: they are chosen for the process (`runtime`), by flags of the commands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import FunctionType, MethodType
from typing import Any

import torch

from caffe.errors import CaffeError
from caffe.runtime import runtime

#: fp32: as the original. tf32: on a GPU, convolutions and products of 19-bit inputs, sums in float32. bf16:
#: convolutions and products in bfloat16; weights, normalization, losses and boxes stay float32.
PRECISIONS = ("fp32", "tf32", "bf16")


def use(precision: str = "fp32", compile: bool = False, graph: bool = False, tune: bool = False) -> None:
    """Sets the choices for all nets made from now on.

    On a GPU, `graph`: CUDA graphs (caffe.engine.cuda_graph); `tune`: where there are several ways to do the same, they
    are timed, and the fastest is taken: cuDNN's algorithms, and CUDA graphs on one or on several streams.
    """
    if precision not in PRECISIONS:
        raise CaffeError(f"unknown precision '{precision}'; known: {', '.join(PRECISIONS)}")
    runtime.precision, runtime.compile, runtime.graph, runtime.tune = precision, compile, graph, tune
    apply()


def apply() -> None:
    """Passes the choices on to PyTorch. Its own defaults round float32 to tf32 in convolutions, and do not tune."""
    allowed = runtime.precision != "fp32"
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.benchmark = runtime.tune


def memory_format(device: torch.device) -> torch.memory_format:
    """The fastest memory format for convolutions.

    Channels-last on the CPU, where it matters most for few channels, and for a GPU's tensor cores; Caffe's order of axes
    for a GPU's float32 kernels.
    """
    if device.type == "cuda" and runtime.precision == "fp32":
        return torch.contiguous_format
    return torch.channels_last


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """The context in which a net runs at the chosen precision."""
    if runtime.precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def compiled(method: Callable[..., Any], backend: str = "inductor") -> Callable[..., Any]:
    """A net's method for running layers, compiled once for each input shape."""
    # Before each run PyTorch checks what a compilation assumes. That includes thousands of facts about the layers,
    # which stay as they were set up; checking them takes longer than launching a forward. Without them nothing
    # distinguishes two nets, and PyTorch keeps compilations with the code, which nets share: so each gets a copy of it.
    assert isinstance(method, MethodType)
    owner, function = method.__self__, method.__func__
    own = FunctionType(function.__code__.replace(), function.__globals__, function.__name__)

    def worth_checking(guards: Sequence[Any]) -> list[bool]:
        if not any(guard.name == "self" and guard.value is owner for guard in guards):
            return [True] * len(guards)  # a part of a net that had to be split, whose code is shared
        return [not guard.name.startswith("self.") or guard.name.endswith(".static_shape") for guard in guards]

    options: dict[str, Any] = {"guard_filter_fn": worth_checking}
    return torch.compile(MethodType(own, owner), dynamic=False, backend=backend, options=options)
