"""Shared by the GPU benchmarks: what a pass runs on the device, kernel by kernel, by PyTorch's profiler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch._C._autograd import DeviceType  # what torch.autograd exports, with its types
from torch.profiler import ProfilerActivity

from caffe.runtime import runtime


@dataclass
class Kernel:
    """A kernel's part of one pass."""

    microseconds: float
    calls: float


def profile(run: Callable[[], object], passes: int) -> dict[str, Kernel]:
    """The kernels of a run by name, copies and fills of memory included; the ones that take longest come first.

    passes: the number of runs that are averaged.

    On the CPU, for tests of the benchmarks: PyTorch's operators.
    """
    on_gpu = runtime.device.type == "cuda"
    run()
    with torch.profiler.profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiler:
        for _ in range(passes):
            run()
        if on_gpu:
            torch.cuda.synchronize()
    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    kernels = {}
    for event in profiler.key_averages():
        took = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if event.device_type == wanted and took > 0:
            kernels[event.key] = Kernel(took / passes, event.count / passes)
    return dict(sorted(kernels.items(), key=lambda item: -item[1].microseconds))


def table(first: dict[str, Kernel], second: dict[str, Kernel], rows: int = 30, width: int = 70) -> str:
    """Two profiles beside each other, in the order of the longer times; the last line has the sums."""
    nothing = Kernel(0, 0)
    pairs = {name: (first.get(name, nothing), second.get(name, nothing)) for name in [*first, *second]}
    names = sorted(pairs, key=lambda name: -max(kernel.microseconds for kernel in pairs[name]))
    lines = [f"{'µs':>9} {'calls':>6} | {'µs':>9} {'calls':>6} | kernel"]
    for name in names[:rows]:
        lines.append(_line(pairs[name], name if len(name) <= width else name[: width - 1] + "…"))
    if len(names) > rows:
        lines.append(_line(_sums([pairs[name] for name in names[rows:]]), f"{len(names) - rows} others"))
    return "\n".join([*lines, _line(_sums(list(pairs.values())), "all")])


def _sums(pairs: list[tuple[Kernel, Kernel]]) -> tuple[Kernel, Kernel]:
    first, second = (
        Kernel(sum(kernel.microseconds for kernel in column), sum(kernel.calls for kernel in column))
        for column in zip(*pairs, strict=True)
    )
    return first, second


def _line(pair: tuple[Kernel, Kernel], name: str) -> str:
    cells = [f"{kernel.microseconds:9.1f} {kernel.calls:6.1f}" for kernel in pair]
    return " | ".join([*cells, name])
