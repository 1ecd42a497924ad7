"""Weights as HDF5, `.caffemodel.h5`: a group per layer in `data` and, with gradients, in `diff`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy.typing as npt

from caffe.errors import ProtoError, shown
from caffe.proto import hdf5
from caffe.proto.wire import FloatArray

_WHAT = "weights"
Blobs = Sequence[Sequence[npt.NDArray[Any]]]


def read(path: Path, wanted: str) -> list[tuple[str, list[FloatArray], list[FloatArray]]]:
    """Name, arrays and gradients of each layer; without gradients for all of its arrays, none.

    Raises ProtoError for files that are damaged or hold something else, with what is `wanted`.
    """
    with hdf5.open_hdf5(path, _WHAT) as file:
        if "history" in file and "iter" in file:
            raise ProtoError(f"{path}: a solver state, not weights; {wanted}, or resume with -snapshot {path}")
        data = hdf5.required(file, "data", h5py.Group, _WHAT)
        diff = hdf5.member(file, "diff")
        layers = []
        for name, group in _layers(data, ""):
            blobs = _arrays(group)
            gradients = hdf5.member(diff, name) if isinstance(diff, h5py.Group) else None
            diffs = _arrays(gradients) if isinstance(gradients, h5py.Group) else []
            layers.append((name, blobs, diffs if len(diffs) == len(blobs) else []))
        if not layers:
            raise ProtoError(f"{path}: an HDF5 file with an empty group 'data' and no weights; {wanted}")
        return layers


def _layers(group: h5py.Group, prefix: str, depth: int = 0) -> Iterator[tuple[str, h5py.Group]]:
    """Layers by name. In HDF5, a name with slashes is nested groups."""
    if depth > 16:
        raise ProtoError(f"{group.file.filename}: groups nested over 16 deep under 'data'")
    for name in hdf5.names(group):
        found = hdf5.member(group, name)
        if not isinstance(found, h5py.Group):
            raise ProtoError(
                f"{group.file.filename}: '{shown(group.name)}/{shown(name)}' is where a layer's group should be"
            )
        inner = [hdf5.member(found, part) for part in hdf5.names(found)]
        if inner and all(isinstance(part, h5py.Group) for part in inner):
            yield from _layers(found, f"{prefix}{name}/", depth + 1)
        else:
            yield prefix + name, found


def _arrays(group: h5py.Group) -> list[FloatArray]:
    """Arrays "0", "1", ... of a group, up to the first that is missing (one that another layer owns)."""
    arrays: list[FloatArray] = []
    while (dataset := hdf5.member(group, str(len(arrays)))) is not None:
        if not isinstance(dataset, h5py.Dataset):
            raise ProtoError(f"{group.file.filename}: '{shown(dataset.name)}' is a group where an array should be")
        arrays.append(hdf5.read_floats(dataset))
    return arrays


def write(
    path: Path, names: Sequence[str], blobs: Blobs, diffs: Blobs | None, shared: Collection[tuple[int, int]]
) -> None:
    """Writes the arrays of the layers `names`, and their gradients; arguments as of `weights.write_weights`."""
    size = sum(4 * int(blob.size) for layer in blobs for blob in layer) * (2 if diffs is not None else 1)
    with hdf5.new_hdf5(path, size) as file:
        data = file.create_group("data")
        diff = file.create_group("diff") if diffs is not None else None
        for index, name in enumerate(names):
            owned = data.require_group(name)
            shared_here = {j for i, j in shared if i == index}
            hdf5.write_arrays(owned, blobs[index], skip=shared_here.__contains__)
            if diff is not None and diffs is not None:
                hdf5.write_arrays(diff.require_group(name), diffs[index], skip=lambda _: False)
