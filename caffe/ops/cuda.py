"""The call of a CUDA function, shared by all ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from caffe import _C


def cuda_function(name: str) -> Callable[..., int]:
    """`_C.<name>`; RuntimeError where this build has no CUDA code."""
    if not _C.has_cuda:
        raise RuntimeError(
            f"{name} needs the CUDA layers, but this build has none: put the CUDA toolkit's nvcc on PATH and "
            "install again (with the CMake option -DWITH_CUDA=ON it says what is missing), or run on the CPU"
        )
    function: Callable[..., int] = getattr(_C, name)
    return function


def launch(function_name: str, device: torch.device, *arguments: Any) -> None:
    """Calls `_C.<function_name>(*arguments, stream)` on the device's current stream. Does not wait for the device.

    Raises RuntimeError if this build has no CUDA code or the launch fails.
    """
    function = cuda_function(function_name)
    with torch.cuda.device(device):
        code = function(*arguments, torch.cuda.current_stream().cuda_stream)
    if code:
        raise RuntimeError(f"{function_name} on {device}: {_C.cuda_error_string(code)}")
