"""Choosing a device, and the engine's names in `import caffe`."""

from __future__ import annotations

from caffe.engine import layer_types as _layer_types  # noqa: F401  (registers the layer types)
from caffe.engine.layer import layer_types
from caffe.engine.layer_types.python import PythonLayerBase as Layer
from caffe.runtime import check_gpu, runtime

__all__ = ["Layer", "layer_type_list", "set_device", "set_mode_cpu", "set_mode_gpu"]


def set_mode_cpu() -> None:
    """Nets made from now on run on the CPU."""
    runtime.mode_gpu = False


def set_mode_gpu() -> None:
    """Nets made from now on run on the GPU that set_device chose (0 at first)."""
    check_gpu(runtime.device_id)
    runtime.mode_gpu = True


def set_device(device: int) -> None:
    """Chooses the GPU for set_mode_gpu."""
    check_gpu(device)
    runtime.device_id = device


def layer_type_list() -> list[str]:
    """The layer types that prototxts may name."""
    return layer_types()
