"""Blobs as pycaffe shows them: a shape, and data and diff as numpy arrays that are live in both directions.

On the CPU `data` is a view of the tensor itself. On a GPU it is a copy on the host, updated when requested and copied
back to the device before the next forward or backward reads it (Caffe's SyncedMemory). A blob keeps its memory
as long as an array of it is referenced and the shape stays: the array shows what later passes compute.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caffe.errors import CaffeError
from caffe.runtime import runtime

Array = NDArray[np.float32]


def _same_memory(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


class _Side:
    """One of a blob's two tensors, data or diff, with its copy on the host if it lives on a device."""

    def __init__(self) -> None:
        self.tensor: Tensor | None = None
        self.host: Array | None = None
        # The array whose views were handed out and, on the CPU, the tensor that owns its memory.
        self._shown: weakref.ref[Array] | None = None
        self._memory: Tensor | None = None

    def put(self, tensor: Tensor | None) -> None:
        """Replaces the tensor. Arrays handed out before keep the old values."""
        self.tensor, self.host, self._shown, self._memory = tensor, None, None, None

    def update(self, tensor: Tensor) -> None:
        """Sets values that a layer computed: arrays that were handed out and are still referenced show them."""
        held = self._held(tensor)
        if held is None:
            self.put(tensor)
        elif self._memory is not None and tensor.is_set_to(self._memory):
            self.tensor = self._memory
        elif self._memory is None:
            # On a device: the host's copy is updated, in the same memory, when it is next requested.
            self.tensor, self.host = tensor, None
        else:
            if _same_memory(tensor, self._memory):
                tensor = tensor.clone()  # copying between overlapping views is undefined
            # Through NumPy, so that autograd does not see a change of what an earlier pass has saved: as in Caffe,
            # a backward reads what the blobs hold now.
            torch.from_numpy(held).copy_(tensor)
            self.tensor = self._memory

    def is_shown(self) -> bool:
        """Whether an array that is the tensor's own memory is still referenced."""
        return self._memory is not None and self._shown is not None and self._shown() is not None

    def _held(self, tensor: Tensor) -> Array | None:
        """The array handed out, if it is still referenced and can hold the values of `tensor`."""
        held = None if self._shown is None else self._shown()
        if held is None or held.shape != tuple(tensor.shape):
            return None
        return held if (tensor.device.type == "cpu") == (self._memory is not None) else None

    def array(self) -> Array:
        """The array to show; from now on, writes to it are read back."""
        assert self.tensor is not None
        held = self._held(self.tensor)
        if self.tensor.device.type == "cpu":
            if held is None:
                if not self.tensor.is_contiguous() or self.tensor.dtype != torch.float32:
                    self.tensor = self.tensor.float().contiguous()
                self._memory, held = self.tensor, self.tensor.numpy()
        elif self.host is None:
            if held is None:
                held = np.empty(tuple(self.tensor.shape), np.float32)
            torch.from_numpy(held).copy_(self.tensor)
            self._memory, self.host = None, held
        else:
            held = self.host
        self._shown = weakref.ref(held)
        return held.view()  # a view's base is `held`, which lives as long as any view does

    def upload(self) -> None:
        """Copies to the device what may have been written to the host's copy."""
        if self.host is not None and self.tensor is not None:
            self.tensor.copy_(torch.from_numpy(self.host))
            self.host = None


class Blob:
    """An N-dimensional float32 array with its gradient."""

    def __init__(self, shape: Sequence[int] = ()) -> None:
        self._shape = tuple(int(d) for d in shape)
        self._data = _Side()
        self._diff = _Side()

    # ---- pycaffe's side

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def count(self) -> int:
        """The number of elements."""
        return math.prod(self._shape)

    def _legacy(self, axis: int) -> int:
        if len(self._shape) > 4:
            raise CaffeError(
                f"num, channels, height and width are for blobs of at most 4 axes; this one is {self._shape}"
            )
        return self._shape[axis] if axis < len(self._shape) else 1

    @property
    def num(self) -> int:
        return self._legacy(0)

    @property
    def channels(self) -> int:
        return self._legacy(1)

    @property
    def height(self) -> int:
        return self._legacy(2)

    @property
    def width(self) -> int:
        return self._legacy(3)

    def reshape(self, *shape: int) -> None:
        """Changes the shape. Data is kept if the count stays the same, otherwise set to zero."""
        new = tuple(int(d) for d in shape)
        if any(d < 0 for d in new):
            raise CaffeError(f"a blob cannot have the shape {new}: no dimension may be negative")
        same = math.prod(new) == self.count
        for side in (self._data, self._diff):
            side.upload()
            side.put(side.tensor.reshape(new) if same and side.tensor is not None else None)
        self._shape = new

    @property
    def data(self) -> Array:
        """float32 array of `shape`; the next forward reads what is written to it."""
        if self._data.tensor is None:
            self._data.put(torch.zeros(self._shape, device=runtime.device))
        return self._data.array()

    @property
    def diff(self) -> Array:
        """float32 array of `shape`: the gradient, zero until a backward has run."""
        if self._diff.tensor is None:
            self._diff.put(torch.zeros(self._shape, device=runtime.device))
        return self._diff.array()

    # ---- the engine's side

    def data_tensor(self) -> Tensor:
        """The data on its device, with what was written to `data` in it."""
        if self._data.tensor is None:
            self._data.put(torch.zeros(self._shape, device=runtime.device))
        self._data.upload()
        assert self._data.tensor is not None
        return self._data.tensor

    def diff_tensor(self) -> Tensor:
        """The diff on its device, with what was written to `diff` in it."""
        if self._diff.tensor is None:
            self._diff.put(torch.zeros(self._shape, device=runtime.device))
        self._diff.upload()
        assert self._diff.tensor is not None
        return self._diff.tensor

    def set_data(self, tensor: Tensor) -> None:
        """Makes `tensor` the data; the shape becomes its shape. A diff of another shape is dropped."""
        self._data.update(tensor.detach())
        if tuple(tensor.shape) != self._shape:
            self._shape = tuple(tensor.shape)
            self._diff.put(None)

    def set_diff(self, tensor: Tensor) -> None:
        """Makes `tensor`, of the blob's shape, the diff."""
        self._diff.update(tensor.detach())

    def data_is_shown(self) -> bool:
        """Whether an array of the data is referenced, so that `set_data` writes into the existing tensor."""
        return self._data.is_shown()

    def has_diff(self) -> bool:
        """Whether a diff has been set or asked for."""
        return self._diff.tensor is not None

    def to(self, device: torch.device) -> None:
        """Moves data and diff to `device`, with what was written on the host in them."""
        self.upload()
        for side in (self._data, self._diff):
            if side.tensor is not None and side.tensor.device != device:
                side.put(side.tensor.to(device))

    def upload(self) -> None:
        """Copies what was written on the host to the device, data and diff."""
        self._data.upload()
        self._diff.upload()


class BlobVec(list[Blob]):
    """A layer's parameters, as pycaffe's `net.params[name]`, `net.layers[i].blobs` and a Python layer's `self.blobs`.

    `owner` is the layer. `add_blob(*shape)` adds a parameter of zeros to it.
    """

    def __init__(self, owner: BlobOwner | None = None) -> None:
        super().__init__()
        self._owner = owner

    def add_blob(self, *shape: int) -> None:
        if self._owner is None:
            raise CaffeError("add_blob: these blobs belong to no layer")
        self.append(ParameterBlob(self._owner.add_blob(shape)))


class BlobOwner(Protocol):
    """What BlobVec needs of a layer."""

    def add_blob(self, shape: Sequence[int]) -> nn.Parameter: ...


class ParameterBlob(Blob):
    """A layer's parameter as a Blob: data is the parameter, diff its gradient."""

    def __init__(self, parameter: nn.Parameter) -> None:
        super().__init__(parameter.shape)
        self.parameter = parameter
        self._bind()

    def _bind(self) -> None:
        """The parameter's storage or gradient may have been replaced since the last access (moved, zero_grad)."""
        parameter = self.parameter
        self._shape = tuple(parameter.shape)
        data = self._data.tensor
        if data is None or data.data_ptr() != parameter.data_ptr() or data.device != parameter.device:
            self._data.put(parameter.detach())
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if self._diff.tensor is None or self._diff.tensor.data_ptr() != parameter.grad.data_ptr():
            self._diff.put(parameter.grad)

    @property
    def data(self) -> Array:
        self._bind()
        return super().data

    @property
    def diff(self) -> Array:
        self._bind()
        return super().diff

    def reshape(self, *shape: int) -> None:
        """Changes the parameter's shape; values are kept if the count stays the same."""
        self._bind()
        super().reshape(*shape)
        self.parameter.data = self.data_tensor()
        self.parameter.grad = None
        self._bind()
