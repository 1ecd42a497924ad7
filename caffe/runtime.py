"""State of the whole process, like Caffe's own singleton: mode, device, seed, rank and number of ranks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from caffe.errors import CaffeError


@dataclass
class Runtime:
    mode_gpu: bool = False
    device_id: int = 0
    #: seed of data order and augmentation; None: taken from the system at first use
    seed: int | None = None
    #: this process among those training together (Caffe's solver_rank and solver_count)
    rank: int = 0
    world_size: int = 1
    #: fp32, tf32 or bf16, and whether graphs are compiled: see caffe.engine.acceleration
    precision: str = "fp32"
    compile: bool = False
    #: whether a GPU's work is recorded as CUDA graphs: see caffe.engine.cuda_graph
    graph: bool = False
    #: whether a GPU's ways to do the same are timed and the fastest is taken: see caffe.engine.acceleration
    tune: bool = False
    #: results of a test that cannot be written are warned of; otherwise they are an error. True while training, which
    #: is worth more than they are
    results_are_secondary: bool = False
    #: how many training records that cannot be read are left out before one is an error
    skip_bad_records: int = 0
    #: whether layers of type "Python" may run the module that they name, and whether layers may write files. False in
    #: commands that only look at a net, which may be a stranger's
    python_layers: bool = True
    layers_write: bool = True

    @property
    def device(self) -> torch.device:
        """Where new nets put their parameters."""
        return torch.device("cuda", self.device_id) if self.mode_gpu else torch.device("cpu")

    def data_seed(self) -> int:
        """The seed that data layers draw from: set_random_seed's, or one drawn once for the process."""
        if self.seed is None:
            import secrets

            self.seed = secrets.randbits(31)
        return self.seed


runtime = Runtime()


def check_gpu(device: int) -> None:
    """Raises CaffeError where this machine has no GPU of that number."""
    count = torch.cuda.device_count()
    if not 0 <= device < count:
        have = f"{count} (0 to {count - 1})" if count else f"no GPU: {why_no_gpu()}. {DO_WITHOUT}"
        raise CaffeError(f"asked for GPU {device}, but this machine has {have}")


def why_no_gpu() -> str:
    """What keeps PyTorch from finding a GPU."""
    if torch.version.cuda:
        return "PyTorch finds none (does nvidia-smi?)"
    return "this PyTorch is built without CUDA (if there is a GPU, install PyTorch's CUDA build)"


DO_WITHOUT = "Leave out a command's -gpu, or call caffe.set_mode_cpu(), to run on the CPU"


def set_random_seed(seed: int) -> None:
    """Seeds fillers, dropout and data augmentation alike."""
    runtime.seed = seed
    torch.manual_seed(seed)


@contextmanager
def on_device(device: str | None) -> Iterator[None]:
    """Inside, new nets are made on `device`: "cpu", "cuda", "cuda:1", or "auto"; None: what the process has chosen.

    "auto" is a GPU where there is one. Raises CaffeError for any other text, and for a GPU that is not there.
    """
    before = runtime.mode_gpu, runtime.device_id
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device is not None:
        kind, _, number = device.partition(":")
        if kind not in ("cpu", "cuda") or (number and not (kind == "cuda" and number.isdecimal())):
            raise CaffeError(f"device '{device}': give cpu, cuda, cuda:1 (with the GPU's number) or auto")
        chosen = int(number) if number else runtime.device_id
        if kind == "cuda":
            check_gpu(chosen)
        runtime.mode_gpu, runtime.device_id = kind == "cuda", chosen
    try:
        yield
    finally:
        runtime.mode_gpu, runtime.device_id = before
