"""Weights of Keras models (HDF5), of Keras 1 to 3, as arrays in PyTorch's and Caffe's order of axes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from caffe.errors import ProtoError
from caffe.interop.checkpoint import Tensors
from caffe.proto import hdf5
from caffe.proto.mapped import describe, map_file
from caffe.proto.sniff import HDF5_SIGNATURE

_WANTED = "Keras weights (.h5)"
_MAX_DEPTH = 16
#: what a whole model's file has beside the layers' weights
_NOT_LAYERS = ("optimizer", "optimizer_weights")


def read_keras(path: str | Path) -> Tensors:
    """`<layer>.weight` and `<layer>.bias` of every layer that has a kernel.

    Convolutions come as O × I × kH × kW, dense layers as O × I. Links, and data outside the file, are refused. Raises
    ProtoError for other files.
    """
    path = Path(path)
    buffer = map_file(path, _WANTED)
    if buffer[:8] != HDF5_SIGNATURE:
        raise ProtoError(f"{path}: {describe(buffer)}, where {_WANTED} should be")
    tensors: Tensors = {}
    with hdf5.open_hdf5(path, _WANTED) as file:
        for layer, arrays in _layers(file, 0):
            for kind, array in zip(("weight", "bias"), arrays, strict=False):
                tensors[f"{layer}.{kind}"] = _in_order(array)
        if not tensors:
            raise ProtoError(f"{path}: an HDF5 file without Keras layers, where {_WANTED} should be")
    return tensors


def _layers(group: h5py.Group, depth: int) -> Iterator[tuple[str, list[NDArray[np.float32]]]]:
    """(layer, its arrays in Keras's order) of a group and the groups inside it."""
    if depth > _MAX_DEPTH:
        raise ProtoError(f"{group.file.filename}: groups nested over {_MAX_DEPTH} deep")
    names = hdf5.names(group)
    members = {name: hdf5.member(group, name) for name in names}
    arrays = {name: found for name, found in members.items() if isinstance(found, h5py.Dataset)}
    if arrays:
        yield _layer_name(group), [hdf5.read_floats(arrays[name]) for name in sorted(arrays, key=_rank)]
    for name, found in members.items():
        if isinstance(found, h5py.Group) and name not in _NOT_LAYERS:
            yield from _layers(found, depth + 1)


def _layer_name(group: h5py.Group) -> str:
    """Keras 3 gives a layer's group its name as an attribute, `vars` below an anonymous group; Keras 2 names groups."""
    name: Any = group.attrs.get("name", "")
    if isinstance(name, bytes):
        name = name.decode("utf-8", "replace")
    return name if isinstance(name, str) and name else str(group.name).rpartition("/")[2]


def _rank(name: str) -> tuple[bool, str]:
    """The kernel before the bias: "0", "1" in Keras 3; `kernel:0`, `bias:0`, or names that end in _W_1:0 and _b_1:0."""
    return (re.search(r"(bias|_b)(_\d+)?(:0)?$", name) is not None, name)


def _in_order(array: NDArray[np.float32]) -> NDArray[np.float32]:
    if array.ndim == 4:
        return np.ascontiguousarray(array.transpose(3, 2, 0, 1))
    return np.ascontiguousarray(array.T) if array.ndim == 2 else array
