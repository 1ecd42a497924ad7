"""Files mapped into memory instead of read, and the messages for other files."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from caffe.errors import ProtoError
from caffe.proto.sniff import folder_looks_like, looks_like


def map_file(path: Path, asked_for: str) -> memoryview:
    """The file's bytes, mapped, not read. Raises ProtoError if it is not a file, or is empty."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise ProtoError(f"{path}: an empty file where {asked_for} should be; copy or save it again")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError as error:
        raise ProtoError(f"{path}: no such file; {asked_for} should be there{_neighbors(path)}") from error
    except IsADirectoryError as error:
        raise ProtoError(f"{path}: {folder_looks_like(path)}, where {asked_for} should be") from error
    except OSError as error:
        raise ProtoError(f"{path}: cannot be read: {error.strerror or error}") from error


def _neighbors(path: Path) -> str:
    """Files of the same kind in the same directory, for a message."""
    kinds = (".caffemodel", ".solverstate", ".h5")
    if not path.parent.is_dir():
        return f", and there is no directory {path.parent}"
    found = sorted(entry.name for entry in path.parent.iterdir() if entry.name.endswith(kinds))
    return f" (in {path.parent}: {', '.join(found[:5])}{', …' if len(found) > 5 else ''})" if found else ""


def describe(buffer: memoryview) -> str:
    """What a file looks like, for a message."""
    return f"it looks like {looks_like(bytes(buffer[:512])) or 'nothing that Caffe writes'}"
