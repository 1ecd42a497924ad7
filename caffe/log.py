"""Caffe's log: lines on stderr with glog's prefix, which log parsers expect.

`I20261122 12:34:56.789012  1234 solver.cpp:243] Iteration 0, loss = 1.5`: severity, date, time, thread, file:line.
A message that the original has keeps the original's file and line. One of our own has those of the call: `here()`.
GLOG_minloglevel (0 to 3) drops lines below that level; GLOG_logtostderr is accepted. `keep_copy` also writes to a file.

A log never ends the run that it reports on: lines that cannot be written are lost, with one warning where it can be
seen.
"""

from __future__ import annotations

import datetime
import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

INFO, WARNING, ERROR, FATAL = range(4)

#: source files of the original whose INFO lines do not go to stderr (a terminal need not show how a net is set up)
hidden_files: set[str] = set()


def _to_stderr(line: str) -> None:
    if sys.stderr is not None:  # None: it was closed when the program started
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


_write_line: Callable[[str], None] = _to_stderr


def write_lines_with(write: Callable[[str], None] | None) -> None:
    """Passes each finished line to `write`, for a progress bar that must make room for it; None: to stderr."""
    global _write_line
    _write_line = write or _to_stderr


class _Copy:
    """The log file of `keep_copy`. Unbuffered, so that a line that could not be written is not tried again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115  (open as long as the process)

    def write(self, line: str) -> None:
        """Adds a line. Raises OSError if the disk is full, or the file has been removed."""
        data = (line + "\n").encode(errors="backslashreplace")
        if os.fstat(self._file.fileno()).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "it was removed")
        while data:  # a full disk takes a part first
            data = data[self._file.write(data) :]


_copy: _Copy | None = None
_copy_fails = _stderr_fails = False


def keep_copy(folder: str | Path) -> Path:
    """From now on also writes the log to a new file in `folder`, with a link `caffe.INFO` to it. Returns its path."""
    global _copy
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = Path(folder) / f"caffe.{datetime.datetime.now():%Y%m%d-%H%M%S}.{os.getpid()}.log"
    _copy = _Copy(path)
    link = Path(folder) / "caffe.INFO"
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(path.name)
    except OSError as error:
        warning(here(), f"{link}: not written: {error.strerror}")
    return path


_default_level = INFO


def minimum_level() -> int:
    """GLOG_minloglevel as a number; the default, INFO unless inside `quiet`, if it is not set or is not a number."""
    try:
        return int(os.environ["GLOG_minloglevel"])
    except (KeyError, ValueError):
        return _default_level


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, INFO lines are dropped, unless GLOG_minloglevel asks for them."""
    global _default_level
    before, _default_level = _default_level, WARNING
    try:
        yield
    finally:
        _default_level = before


def _write(severity: int, where: str, message: str) -> None:
    if severity < minimum_level():
        return
    now = datetime.datetime.now()
    stamp = now.strftime("%Y%m%d %H:%M:%S.%f")
    line = f"{'IWEF'[severity]}{stamp} {threading.get_native_id():5d} {where}] {message.removesuffix(chr(10))}"
    global _copy_fails, _stderr_fails
    trouble = ""
    if _copy is not None:
        try:
            _copy.write(line)
        except OSError as error:
            if not _copy_fails:
                trouble = f"{_copy.path}: not written: {error.strerror}. The run goes on without this log file"
            _copy_fails = True
    if severity != INFO or where.partition(":")[0] not in hidden_files:
        try:
            _write_line(line)
        except (OSError, ValueError) as error:
            if not _stderr_fails:
                trouble = f"standard error: not written: {error}. The run goes on without it"
            _stderr_fails = True
    if trouble:
        _write(WARNING, here(), trouble)


def here() -> str:
    """The file:line of the call, as the origin of a message that the original does not have."""
    frame = sys._getframe(1)
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def info(where: str, message: str) -> None:
    """Logs at INFO; `where` is Caffe's file:line for that message, such as `solver.cpp:243`, or `here()`."""
    _write(INFO, where, message)


def warning(where: str, message: str) -> None:
    _write(WARNING, where, message)


def error(where: str, message: str) -> None:
    _write(ERROR, where, message)
