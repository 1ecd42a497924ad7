"""Choosing a device, and the names that `import caffe` offers of the engine."""

from __future__ import annotations

import torch

from caffe.engine import layer_types as _layer_types  # noqa: F401  (registers the layer types)
from caffe.engine.layer import layer_types
from caffe.engine.layer_types.python import PythonLayerBase as Layer
from caffe.errors import CaffeError
from caffe.runtime import runtime

__all__ = ["Layer", "layer_type_list", "set_device", "set_mode_cpu", "set_mode_gpu"]


def _check_gpu(device: int) -> None:
    count = torch.cuda.device_count()
    if device >= count:
        built = "" if torch.version.cuda else "; this PyTorch is built without CUDA"
        have = "no GPU" if count == 0 else f"{count} (0 to {count - 1})"
        cpu = "" if count else "; the CPU is chosen by caffe.set_mode_cpu(), or by leaving out a command's -gpu"
        raise CaffeError(f"asked for GPU {device}, this machine has {have}{built}{cpu}")


def set_mode_cpu() -> None:
    """Nets made from now on run on the CPU."""
    runtime.mode_gpu = False


def set_mode_gpu() -> None:
    """Nets made from now on run on the GPU that set_device chose (0 at first)."""
    _check_gpu(runtime.device_id)
    runtime.mode_gpu = True


def set_device(device: int) -> None:
    """Chooses the GPU for set_mode_gpu."""
    if device < 0:
        raise CaffeError(f"device {device}: GPUs are numbered from 0")
    _check_gpu(device)
    runtime.device_id = device


def layer_type_list() -> list[str]:
    """The layer types that prototxts may name."""
    return layer_types()
