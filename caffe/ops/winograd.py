"""3 × 3 convolutions by Winograd's minimal filtering (Lavin and Gray 2015), for inference on the CPU (layers/winograd.h).

PyTorch's builds for x86 contain NNPACK, which computes tiles of 6 × 6 results with 64 multiplications instead of 324.
PyTorch's own operator for it transforms the weights in every call and has threads that get in the way of OpenMP's, so
NNPACK's function is called directly.

The method's rounding errors are larger than those of a direct convolution: up to 3e-5 of the largest result, instead of
4e-7.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from caffe import _C
from caffe.errors import CaffeError

_ALIGNMENT = 64


@cache
def nnpack_function() -> int:
    """Returns the address of NNPACK's function, or 0 if this PyTorch or processor does not have it."""
    if not torch.backends.nnpack.is_available():  # type: ignore[no-untyped-call]  # this also initializes NNPACK
        return 0
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        return ctypes.cast(library.nnp_convolution_inference, ctypes.c_void_p).value or 0
    except (OSError, AttributeError):
        return 0


class _Workspace(threading.local):
    """Memory that grows as needed, one for each thread that calls: its pages are then not returned in between."""

    memory = torch.empty(0, dtype=torch.uint8)

    def address(self, size: int) -> int:
        if len(self.memory) < size + _ALIGNMENT:
            self.memory = torch.empty(size + _ALIGNMENT, dtype=torch.uint8)
        return _aligned(self.memory)


_workspace = _Workspace()


def _aligned(memory: Tensor) -> int:
    return -(-memory.data_ptr() // _ALIGNMENT) * _ALIGNMENT


class WinogradConvolution:
    """A convolution with 3 × 3 filters, stride 1 and pad 1, whose weights are transformed once. Has no gradient."""

    def __init__(self, shape: Sequence[int], weight: Tensor, bias: Tensor | None) -> None:
        """Transforms the weights for inputs of `shape`, N×C×H×W, and for the current number of threads.

        weight: float32, outputs×C×3×3. bias: float32, outputs. The transformed weights take 7 times as much memory.
        Raises CaffeError if NNPACK refuses the shape.
        """
        if len(shape) != 4 or tuple(weight.shape[1:]) != (shape[1], 3, 3) or weight.dtype != torch.float32:
            raise ValueError(f"weights {tuple(weight.shape)} of {weight.dtype} for an input {tuple(shape)}")
        self._shape, self._outputs = tuple(shape), len(weight)
        native = self._native = _C.WinogradShape()
        native.images, native.channels, native.height, native.width = self._shape
        native.outputs = self._outputs
        self._function = nnpack_function()
        self._threads = torch.get_num_threads()
        self._parts = _C.winograd_parts(native, self._threads)
        size = _C.winograd_weight_bytes(self._function, native, self._parts) if self._function else 0
        self._size = _C.winograd_workspace_bytes(self._function, native, self._parts, self._threads) if size else 0
        if not self._size:
            raise CaffeError(f"NNPACK does not convolve {tuple(shape)} to {self._outputs} channels")
        self._weights = torch.empty(size + _ALIGNMENT, dtype=torch.uint8)
        self._bias = torch.zeros(self._outputs) if bias is None else bias.detach().contiguous()
        weight = weight.detach().contiguous()
        status = _C.winograd_transform(self._function, native, self._parts, weight.data_ptr(), _aligned(self._weights))
        self._check(status)

    def __call__(self, x: Tensor, relu: bool = False) -> Tensor:
        """Returns the convolution of `x`, float32 of the shape given before, perhaps with a ReLU."""
        if tuple(x.shape) != self._shape or x.dtype != torch.float32:
            raise ValueError(f"an input {tuple(x.shape)} of {x.dtype}, not {self._shape} of float32")
        x = x.contiguous()
        y = x.new_empty((self._shape[0], self._outputs, *self._shape[2:]))
        status = _C.winograd_convolution(
            self._function, self._native, self._parts, x.data_ptr(), _aligned(self._weights), self._bias.data_ptr(),
            y.data_ptr(), relu, _workspace.address(self._size), self._threads,
        )  # fmt: skip
        self._check(status)
        return y

    def _check(self, status: int) -> None:
        if status:
            raise CaffeError(f"NNPACK failed with status {status} for {self._shape} to {self._outputs} channels")
