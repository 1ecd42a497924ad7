"""The checksums of a snapshot: `<prefix>_iter_<N>.sha256` beside its weights and solver state.

The file has the form of `sha256sum`, which can check it too: `sha256sum -c line_iter_100.sha256` in that directory.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from caffe.errors import CaffeError
from caffe.files import write_text

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def write(path: str | os.PathLike[str], files: Sequence[str | os.PathLike[str]]) -> None:
    """Writes the checksums of `files`, which are in the same directory, to `path`. Raises CaffeError if it cannot."""
    write_text(path, "".join(f"{digest(file)}  {Path(file).name}\n" for file in files))


def read(path: str | os.PathLike[str]) -> dict[str, str]:
    """The checksum of each file, by name; empty if there is no file at `path`. Raises CaffeError for another form."""
    try:
        lines = Path(path).read_bytes().decode("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CaffeError(f"{path}: cannot be read: {error.strerror}") from None
    found = [_LINE.fullmatch(line) for line in lines]
    if not lines or None in found:
        raise CaffeError(f"{path}: damaged: not the checksums that sha256sum writes")
    return {match[2]: match[1] for match in found if match}


def digest(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises CaffeError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CaffeError(f"{path}: cannot be read: {error.strerror}") from None
