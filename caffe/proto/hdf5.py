"""HDF5 as far as weights and solver states need it, with care for files from strangers.

Only hard links and data inside the file itself are followed: an HDF5 file can point to other files, and can declare
arrays of any size that take no space in it.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from caffe.errors import ProtoError, shown
from caffe.files import replacing
from caffe.proto.mapped import map_file
from caffe.proto.wire import FloatArray

MAX_LINKS = 100_000
"""The most entries of one group; the largest nets have thousands."""
_UNPACKED_LIMIT = 64
"""The largest size of a compressed array, as a multiple of the file's size (Caffe writes none compressed)."""


@contextmanager
def open_hdf5(path: Path, asked_for: str) -> Iterator[h5py.File]:
    """Opens the file for reading. HDF5's own errors become a ProtoError that names the file."""
    try:
        _check_structure(path, asked_for)
        with h5py.File(path, "r", locking="best-effort") as file:
            yield file
    except ProtoError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        reason = shown(str(error), 200) if str(error) else type(error).__name__
        raise ProtoError(
            f"{path}: a damaged HDF5 file where {asked_for} should be ({reason}); copy or save it again"
        ) from error


@contextmanager
def new_hdf5(path: Path, size: int) -> Iterator[h5py.File]:
    """An HDF5 file of about `size` bytes to be filled, which appears only when it is complete; see `replacing`."""
    # In memory first: after an error of the disk the library could not even close the file without printing more.
    block = max(1 << 16, size)
    with h5py.File(path, "w", libver="earliest", driver="core", backing_store=False, block_size=block) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    with replacing(path, len(image)) as temporary:
        temporary.write_bytes(image)


_HEAP = b"HEAP\0\0\0\0"
"""The start of a local heap's header: signature, version 0, three reserved bytes. Its sizes follow."""
_HEAP_SIZES = struct.Struct("<QQQ")
"""The size of its data, the place of the first free block in it, and the place of the data in the file."""
_NO_BLOCK, _FREE_BLOCK = 1, 16
"""What stands for no further block, and the size of the smallest, which begins with the place of the next one."""

_GLOBAL_HEAP = b"GCOL\1\0\0\0"
"""The start of a global heap: signature, version 1, three reserved bytes; its size follows, 8 bytes, then its objects."""
_OBJECT = struct.Struct("<H6xQ")
"""The header of an object there: its index, 0 for the free space, and its size."""


_TREE = b"TREE"
"""The start of a node of a tree: signature, type (0: names of a group, 1: blocks of an array), level, entries."""
_NODE = struct.Struct("<4xBBH16x")
"""Its header. Then keys and the places of its children take turns; a group's keys take 8 bytes."""
_MOST_AXES = 32


def _check_trees(path: Path, buffer: memoryview, mapped: mmap.mmap) -> None:
    """Refuses a node with a child that is not below it: the HDF5 library would follow a ring until it crashes.

    Numbers of an array that look like a node are none, because they have no such children.
    """
    at = mapped.find(_TREE)
    while 0 <= at <= len(buffer) - _NODE.size:
        kind, level, entries = _NODE.unpack_from(buffer, at)
        # an array's keys depend on its number of axes, which is not here
        keys = [8] if kind == 0 else [8 * axes + 16 for axes in range(1, _MOST_AXES + 1)] if kind == 1 else []
        if level and any(_goes_up(buffer, at, level, entries, key) for key in keys):
            raise ProtoError(f"{path}: a damaged HDF5 file: a tree whose nodes are not below one another")
        at = mapped.find(_TREE, at + 4)


def _goes_up(buffer: memoryview, at: int, level: int, entries: int, key: int) -> bool:
    """Whether a child of a node, whose keys have that many bytes, is a node that is not below it."""
    first, step = at + _NODE.size + key, key + 8
    for place in range(first, min(first + entries * step, len(buffer) - 7), step):
        child = int.from_bytes(buffer[place : place + 8], "little")
        if child + _NODE.size <= len(buffer) and buffer[child : child + 4] == _TREE and buffer[child + 5] >= level:
            return True
    return False


def _check_structure(path: Path, asked_for: str) -> None:
    """Refuses what the HDF5 library does not check.

    It would allocate a local heap that is larger than the file, and never come to the end of a heap's free blocks that
    form a ring, nor of a global heap with an object that takes no space.
    """
    buffer = map_file(path, asked_for)
    mapped = buffer.obj
    assert isinstance(mapped, mmap.mmap)
    _check_trees(path, buffer, mapped)
    at = mapped.find(_HEAP)
    while at >= 0:
        if at + 8 + _HEAP_SIZES.size > len(buffer):
            break
        size, free, start = _HEAP_SIZES.unpack_from(buffer, at + 8)
        if size > len(buffer):
            raise ProtoError(f"{path}: a damaged HDF5 file: a heap of {size:,} bytes in a file of {len(buffer):,}")
        blocks = 0
        while free != _NO_BLOCK and free + _FREE_BLOCK <= size and start + free + 8 <= len(buffer):
            blocks += 1
            if blocks * _FREE_BLOCK > size:
                raise ProtoError(f"{path}: a damaged HDF5 file: a heap whose free blocks do not end")
            free = int.from_bytes(buffer[start + free : start + free + 8], "little")
        at = mapped.find(_HEAP, at + 8)
    at = mapped.find(_GLOBAL_HEAP)
    while at >= 0:
        end = min(len(buffer), at + int.from_bytes(buffer[at + 8 : at + 16], "little"))
        position = at + 16
        while position + _OBJECT.size <= end:
            index, size = _OBJECT.unpack_from(buffer, position)
            step = _OBJECT.size + (size + 7) // 8 * 8 if index else size  # the free space's size includes its header
            if not step:
                raise ProtoError(f"{path}: a damaged HDF5 file: a global heap whose objects do not end")
            position += step
        at = mapped.find(_GLOBAL_HEAP, at + 8)


def names(group: h5py.Group) -> list[str]:
    """The names in a group, in HDF5's order of names."""
    if len(group) > MAX_LINKS:
        raise ProtoError(f"{group.file.filename}: over {MAX_LINKS:,} entries in group {shown(group.name)}")
    found = list(group)
    if not all(isinstance(name, str) for name in found):
        raise ProtoError(f"{group.file.filename}: damaged: a name in group '{shown(group.name)}' is not text")
    return found


def member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """The member `name` of `group`, or None; refuses links, which may lead out of the file."""
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise ProtoError(
            f"{group.file.filename}: '{shown(group.name)}/{shown(name)}' is a link; Caffe's files have none"
        )
    found = group[name]
    if not isinstance(found, h5py.Group | h5py.Dataset):
        raise ProtoError(f"{group.file.filename}: '{shown(group.name)}/{shown(name)}' is neither a group nor an array")
    return found


def required(group: h5py.Group, name: str, kind: type[Any], asked_for: str) -> Any:
    """`member`, of the given kind; a ProtoError says what the file holds instead."""
    found = member(group, name)
    if not isinstance(found, kind):
        held = ", ".join(f"'{shown(n)}'" for n in names(group)[:6]) or "nothing"
        wanted = "group" if kind is h5py.Group else "array"
        raise ProtoError(
            f"{group.file.filename}: an HDF5 file, but not {asked_for}: no {wanted} '{name}' in it (it holds {held})"
        )
    return found


def read_floats(dataset: h5py.Dataset) -> FloatArray:
    """A data set as float32, in its own shape. Raises ProtoError for text, tables and data outside the file."""
    where = f"{dataset.file.filename}: array '{shown(dataset.name)}'"
    if dataset.dtype.kind not in "fiu" or dataset.shape is None:
        raise ProtoError(f"{where} holds {shown(str(dataset.dtype))}, not numbers")
    if dataset.is_virtual or dataset.external:
        raise ProtoError(f"{where} keeps its data in another file, which is not followed")
    size = max(dataset.size * dataset.dtype.itemsize, 4 * dataset.size)
    file_size = os.path.getsize(dataset.file.filename)
    limit = file_size * (2 if dataset.chunks is None else _UNPACKED_LIMIT)
    if size > limit or (size and not dataset.id.get_storage_size()):
        raise ProtoError(f"{where} claims {size:,} bytes in a file of {file_size:,}")
    # The destination's type is given, so that HDF5 converts big-endian, half and double values itself.
    out = np.empty(dataset.shape, np.float32)
    if out.size:
        dataset.read_direct(out)
    return out


def read_scalar(group: h5py.Group, name: str, default: float | None, asked_for: str) -> float:
    """The single number in array `name`; `default`, unless it is None, if there is no such array."""
    if default is not None and name not in group:
        return default
    values = read_floats(required(group, name, h5py.Dataset, asked_for))
    if values.size != 1:
        raise ProtoError(f"{group.file.filename}: array '{name}' holds {values.size} numbers instead of one")
    return float(values.flat[0])


def read_integer(group: h5py.Group, name: str, asked_for: str, default: int | None = None) -> int:
    """The single integer in array `name`, exact beyond float32's 24 bits."""
    if default is not None and name not in group:
        return default
    dataset = required(group, name, h5py.Dataset, asked_for)
    if dataset.size != 1 or dataset.dtype.kind not in "iu":
        raise ProtoError(f"{group.file.filename}: array '{name}' does not hold a single integer")
    return int(dataset[()].reshape(-1)[0]) if dataset.shape else int(dataset[()])


def read_string(group: h5py.Group, name: str) -> str:
    """A string as H5LTmake_dataset_string writes it; empty if there is none."""
    dataset = member(group, name)
    if dataset is None:
        return ""
    info = h5py.check_string_dtype(dataset.dtype) if isinstance(dataset, h5py.Dataset) else None
    if info is None or dataset.shape not in ((), (1,)) or (info.length or 0) > 1 << 16:
        raise ProtoError(f"{group.file.filename}: '{name}' does not hold text")
    value = dataset[()] if dataset.shape == () else dataset[0]
    return bytes(value).split(b"\0")[0].decode("utf-8", "surrogateescape")


def write_string(group: h5py.Group, name: str, text: str) -> None:
    """A string of fixed length with its NUL, scalar: the form that the original reads back."""
    data = text.encode("utf-8", "surrogateescape") + b"\0"
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(data))
    space = h5py.h5s.create(h5py.h5s.SCALAR)
    dataset = h5py.h5d.create(group.id, name.encode(), kind, space)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(data, f"S{len(data)}"), mtype=kind)


def write_arrays(group: h5py.Group, arrays: Sequence[npt.NDArray[np.generic]], skip: Callable[[int], bool]) -> None:
    """`arrays` as data sets "0", "1", ... of float32, except those in `skip`."""
    for index, array in enumerate(arrays):
        if not skip(index):
            group.create_dataset(str(index), data=np.asarray(array, np.float32))
