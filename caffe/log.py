"""Caffe's log: lines on stderr with glog's prefix, which people's log parsers match.

`I20261122 12:34:56.789012  1234 solver.cpp:243] Iteration 0, loss = 1.5`: severity, date, time, thread, file:line.
GLOG_minloglevel (0 to 3) drops what is below it; GLOG_logtostderr is accepted (stderr is the only destination).
"""

from __future__ import annotations

import datetime
import os
import sys
import threading
from collections.abc import Callable

INFO, WARNING, ERROR, FATAL = range(4)

#: source files of the original whose INFO lines are left out (a terminal need not show how a net is set up)
hidden_files: set[str] = set()


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


_write_line: Callable[[str], None] = _to_stderr


def write_lines_with(write: Callable[[str], None] | None) -> None:
    """Hands each finished line to `write`, as a progress bar needs that must make room for it; None: to stderr."""
    global _write_line
    _write_line = write or _to_stderr


def minimum_level() -> int:
    """GLOG_minloglevel as a number; anything that is no number counts as 0."""
    try:
        return int(os.environ.get("GLOG_minloglevel", "0"))
    except ValueError:
        return 0


def _write(severity: int, where: str, message: str) -> None:
    if severity < minimum_level() or (severity == INFO and where.partition(":")[0] in hidden_files):
        return
    now = datetime.datetime.now()
    stamp = now.strftime("%Y%m%d %H:%M:%S.%f")
    _write_line(f"{'IWEF'[severity]}{stamp} {threading.get_native_id():5d} {where}] {message}")


def info(where: str, message: str) -> None:
    """Logs at INFO; `where` is Caffe's file:line for that message, e.g. `solver.cpp:243`."""
    _write(INFO, where, message)


def warning(where: str, message: str) -> None:
    _write(WARNING, where, message)


def error(where: str, message: str) -> None:
    _write(ERROR, where, message)
