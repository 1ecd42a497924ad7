"""Child processes of tests: with default signals, whatever the tests inherited, with a time limit, and none left
behind.

A background job of a script ignores SIGINT, a program under nohup ignores SIGHUP, and children inherit both.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: the environment variable that marks a test's child and everything that it starts, in any session or group
_MARK = "CAFFE_TEST_PROCESS"
#: how long a child may take unless the test says otherwise
SECONDS = 120.0


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    seconds: float = SECONDS,
    before: Callable[[], object] | None = None,
    **options: Any,
) -> Iterator[subprocess.Popen[str]]:
    """A child in its own session, killed with all its descendants at the end of the block or after `seconds`.

    `env` is added to this process's environment; `before` runs in the child first. Other `options` are Popen's; output
    is text.
    """  # fmt: skip
    mark = uuid.uuid4().hex

    def prepare() -> None:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        if before is not None:
            before()

    child = subprocess.Popen(
        [str(word) for word in command], env={**os.environ, **(env or {}), _MARK: mark}, text=True,
        start_new_session=True, preexec_fn=prepare, **options,
    )  # fmt: skip
    watch = threading.Timer(seconds, _kill, (mark, child))
    watch.start()
    try:
        yield child
    finally:
        watch.cancel()
        _kill(mark, child)
        child.wait()
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                stream.close()


def run(command: Sequence[str | Path], *, check: bool = False, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a child to its end with its output captured, as `subprocess.run` would; options as for `running`."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with running(command, **options) as child:
        out, err = child.communicate()
    if check and child.returncode:
        raise AssertionError(f"{command} ended with status {child.returncode}:\n{out}{err}")
    return subprocess.CompletedProcess(command, child.returncode, out, err)


def python(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs this Python with `words`, with the checkout importable."""
    return run([sys.executable, *words], env={"PYTHONPATH": str(ROOT), **options.pop("env", {})}, **options)


def _kill(mark: str, child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        child.kill()
    deadline = time.monotonic() + 10
    while (left := _marked(mark) - {child.pid}) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _marked(mark: str) -> set[int]:
    """The living processes that have `mark` in their environment (by /proc, so on Linux only)."""
    wanted = f"{_MARK}={mark}".encode()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # a zombie's environment is empty
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found
