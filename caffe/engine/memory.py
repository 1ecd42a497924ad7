"""The memory that a net needs at least, checked against the machine's before anything is allocated.

What is counted is certain to be needed at the same time, so no net that could run is refused: all parameters; with
them, one layer's largest bottom and those of its tops that are memory of their own; and in the TRAIN phase the bottoms
that layers with learned weights keep for their backward. A net that passes may still need more.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from caffe.runtime import runtime

if TYPE_CHECKING:
    from caffe.engine.layer import Layer
    from caffe.engine.wiring import Step

_FLOAT_BYTES = 4
_CGROUPS = Path("/sys/fs/cgroup")


def device_memory() -> int:
    """The bytes of memory where nets are computed: the GPU's, or what this process may use of the machine's."""
    if runtime.device.type == "cuda" and torch.cuda.is_available():
        return int(torch.cuda.mem_get_info(runtime.device)[1])
    return machine_memory()


def machine_memory() -> int:
    """Physical memory and swap in bytes, or less where a container or `ulimit -v` gives this process less."""
    limits = [_physical(), *_cgroup_limits()]
    with suppress(ImportError, OSError, ValueError):
        import resource

        limits += [soft for soft in (resource.getrlimit(resource.RLIMIT_AS)[0],) if soft != resource.RLIM_INFINITY]
    return min(limits)


def _physical() -> int:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError, IndexError):
        total += int(Path("/proc/meminfo").read_text().partition("SwapTotal:")[2].split()[0]) << 10
    return total


def _cgroup_limits() -> list[int]:
    """The limits of this process's control groups, of both versions, and of those that contain them."""
    limits = []
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            root, name = (_CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (_CGROUPS, "memory.max")
            group = root / path.lstrip("/")
            for folder in (group, *group.parents):
                with suppress(OSError, ValueError):  # "max"
                    limits.append(int((folder / name).read_text()))
                if folder == root:
                    break
    return limits


class Memory:
    """What the layers of one net need, as they are added. Raises NetError, which names the layer, when it is too much."""

    def __init__(self) -> None:
        self.limit = device_memory()
        self.parameters = 0

    def parameter(self, layer: Layer, shape: Sequence[int]) -> None:
        """A parameter of `shape` is about to be allocated."""
        self.parameters += math.prod(shape) * _FLOAT_BYTES
        if self.parameters > self.limit:
            self._refuse(layer, self.parameters, "")

    def blobs(self, layer: Layer, bottom: Sequence[Sequence[int]], top: Sequence[Sequence[int]]) -> None:
        """The layer reads and writes blobs of these shapes."""
        sizes = [math.prod(shape) * _activation_bytes() for shape in top]
        own = layer.fresh_tops and not layer.in_place
        read = max((math.prod(shape) * _activation_bytes() for shape in bottom), default=0)
        need = read + sum(sizes) if own else max([read, *sizes], default=0)
        if self.parameters + need > self.limit:
            self._refuse(layer, self.parameters + need, f", {_gigabytes(need)} for the blobs of this layer")

    def backward(self, steps: Sequence[Step], shapes: dict[str, Sequence[int]]) -> None:
        """The steps of a net that is trained: what its layers keep at the same time, until their backward."""
        memory_of: dict[str, str] = {}  # a blob's name, as it is at this point of the net: the memory that it is in
        kept: set[str] = set()
        need = 0
        for number, step in enumerate(steps):
            keeps = step.need_backward and step.layer.keeps_bottoms and step.layer.blobs[0].requires_grad
            for bottom, wanted in zip(step.bottoms, step.bottom_grad, strict=True):
                memory = memory_of.get(bottom, bottom)
                if keeps and wanted and memory not in kept:
                    kept.add(memory)
                    need += math.prod(shapes[bottom]) * _activation_bytes()
                    if self.parameters + need > self.limit:
                        kind = f", {_gigabytes(need)} for what the layers up to this one keep for the backward pass"
                        self._refuse(step.layer, self.parameters + need, kind)
            for top in step.tops:
                if step.layer.fresh_tops:
                    memory_of[top] = f"{number} {top}"
                else:  # perhaps the memory of a bottom
                    memory_of[top] = memory_of.get(step.bottoms[0], step.bottoms[0]) if step.bottoms else top

    def _refuse(self, layer: Layer, need: int, what: str) -> None:
        where = "the GPU" if runtime.device.type == "cuda" else "this process"
        layer.fail(
            f"the net needs at least {_gigabytes(need)} of memory ({_gigabytes(self.parameters)} for parameters so far"
            f"{what}), and {where} has {_gigabytes(self.limit)}. Use a smaller batch, input or num_output"
        )


def _activation_bytes() -> int:
    return 2 if runtime.precision == "bf16" else _FLOAT_BYTES


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size < 1e24 else "over 1e15 GB"
