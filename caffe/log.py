"""Caffe's log: lines on stderr with glog's prefix, which log parsers expect.

`I20261122 12:34:56.789012  1234 solver.cpp:243] Iteration 0, loss = 1.5`: severity, date, time, thread, file:line.
A message that the original has keeps the original's file and line. One of our own has those of the call: `here()`.
GLOG_minloglevel (0 to 3) drops lines below that level; GLOG_logtostderr is accepted. `keep_copy` also writes to a file.
"""

from __future__ import annotations

import datetime
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

INFO, WARNING, ERROR, FATAL = range(4)

#: source files of the original whose INFO lines do not go to stderr (a terminal need not show how a net is set up)
hidden_files: set[str] = set()


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


_write_line: Callable[[str], None] = _to_stderr


def write_lines_with(write: Callable[[str], None] | None) -> None:
    """Passes each finished line to `write`, for a progress bar that must make room for it; None: to stderr."""
    global _write_line
    _write_line = write or _to_stderr


_copy: TextIO | None = None


def keep_copy(folder: str | Path) -> Path:
    """From now on also writes the log to a new file in `folder`, with a link `caffe.INFO` to it. Returns its path."""
    global _copy
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = Path(folder) / f"caffe.{datetime.datetime.now():%Y%m%d-%H%M%S}.{os.getpid()}.log"
    _copy = path.open("w", encoding="utf-8", buffering=1)
    link = Path(folder) / "caffe.INFO"
    link.unlink(missing_ok=True)
    link.symlink_to(path.name)
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
    if _copy is not None:
        _copy.write(line + "\n")
    if severity != INFO or where.partition(":")[0] not in hidden_files:
        _write_line(line)


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
