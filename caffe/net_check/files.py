"""Which files below a folder are nets."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caffe.errors import CaffeError

#: what prototxts are called; .pt is py-faster-rcnn's name for them, and PyTorch's for weights, which are no text
_SUFFIXES = (".prototxt", ".pt", ".pbtxt")
_LAYER = re.compile(rb"^\s*layers?\s*:?\s*\{", re.MULTILINE)
_MOST_BYTES = 64 << 20


@dataclass
class Found:
    """The nets of some folders, sorted, and how many other files there were."""

    nets: list[Path]
    #: equal to an earlier one but for white space and comments
    repeated: int = 0
    #: prototxts without a layer: solvers, label maps, …
    others: int = 0


def find(paths: Sequence[str]) -> Found:
    """The nets below folders, and the files that are given themselves. Raises CaffeError for a path without any file."""
    files: dict[Path, bool] = {}  # whether it was given itself
    for path in map(Path, paths):
        if path.is_dir():
            for folder, folders, names in os.walk(path):
                folders.sort()
                files.update({Path(folder, name): False for name in sorted(names) if name.endswith(_SUFFIXES)})
        elif path.exists():
            files[path] = True
        else:
            raise CaffeError(f"{path}: no such file or directory")
    found, seen = Found([]), set[bytes]()
    for file, given in files.items():
        text = _text(file)
        if not given and not _LAYER.search(text):
            found.others += 1
            continue
        key = hashlib.sha256(re.sub(rb"\s+", b"", re.sub(rb"#[^\n]*", b"", text))).digest()
        if key in seen:
            found.repeated += 1
            continue
        seen.add(key)
        found.nets.append(file)
    return found


def _text(file: Path) -> bytes:
    """The file's contents; empty if they cannot be a net's."""
    try:
        if not file.is_file() or file.stat().st_size > _MOST_BYTES:
            return b""
        data = file.read_bytes()
    except OSError:
        return b""
    return b"" if b"\0" in data[:1024] else data
