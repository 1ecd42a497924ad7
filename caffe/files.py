"""Text files as editors write them, and files that appear complete or not at all: written under another name first."""

from __future__ import annotations

import codecs
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from caffe.errors import CaffeError, WriteError

_IS_DIRECTORY = "{}: cannot be written, it is a directory; give the name of a file in it"


def decoded(data: bytes) -> str:
    """Text in UTF-8, with or without a byte-order mark, or in UTF-16 with one, as some editors and shells write it.

    Raises UnicodeDecodeError, a ValueError, for anything else.
    """
    return data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")


@contextmanager
def replacing(path: str | os.PathLike[str], size: int | None = None) -> Iterator[Path]:
    """Yields the temporary path to write; the file replaces `path` when the block ends.

    If the block raises, or there is no space, whatever was at `path` stays and the temporary file is removed. `size`,
    the number of bytes to be written if known, is only for the message. Raises WriteError for a directory that is
    missing or not writable, and for a full disk.
    """
    target = Path(path)
    if target.is_dir():
        raise WriteError(_IS_DIRECTORY.format(target))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
        sync_directory(target.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise WriteError(_explain(target, error, size)) from error
        raise


def sync_directory(path: Path) -> None:
    """Makes the names in a directory last: after a loss of power, a rename that was not synced may be undone.

    File systems that cannot sync a directory are left as they are.
    """
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a file, complete or not at all, and its directory if needed. Raises CaffeError as `replacing` does."""
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CaffeError(f"cannot create the directory of '{target}': {error.strerror}") from None
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_target(path: str | os.PathLike[str]) -> None:
    """Raises CaffeError now if `write_text` could not write `path` later, for a program that takes long until then.

    Nothing is created or changed. What can only be known then, such as a full disk, is not checked.
    """
    target = Path(path)
    if target.is_dir():
        raise WriteError(_IS_DIRECTORY.format(target))
    folder = target.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise WriteError(f"{target}: cannot be written, {folder} is not a directory; give another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WriteError(f"{target}: cannot be written, the directory {folder} is not writable; give another path")


def _explain(target: Path, error: OSError, size: int | None) -> str:
    folder = target.parent
    if error.errno == errno.ENOENT:
        return f"{target}: cannot be written, the directory {folder} does not exist; create it or give another path"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        with suppress(OSError):
            free = shutil.disk_usage(folder).free
            needs = f"it needs {size / 1e6:,.1f} MB, " if size is not None else ""
            return f"{target}: not written, no space left ({needs}{free / 1e6:,.1f} MB are free in {folder})"
    return f"{target}: not written: {error.strerror or error}"
