"""The first thing that a command does: Ctrl-C while it loads, and streams that were closed before it started.

Imports nothing that takes time. Where a program of another kind imports the commands, nothing is changed.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

#: exit status after Ctrl-C
INTERRUPTED = 128 + signal.SIGINT
#: and after SIGTERM, before and after a training
TERMINATED = 128 + signal.SIGTERM

_prepared = False
_first_process = os.getpid()


def prepare() -> None:
    """Prepares the process, if it is one of our commands."""
    global _prepared
    if not _is_command():
        return
    _prepared = True
    _open_missing_streams()
    # at the end, PyTorch's many objects go with the process; to search them for unused ones takes 0.2 s
    atexit.register(gc.freeze)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    if _is_training() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def loaded() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt again, so that what has begun can be cleaned up."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def loading() -> Iterator[None]:
    """Inside, Ctrl-C ends the process at once. For a phase that leaves nothing behind.

    A KeyboardInterrupt would not do: raised where Python cannot pass it on, as in an import that native code asks for,
    it is printed and lost.
    """
    inside = _prepared and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if inside:
        signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        if inside:
            loaded()


def release_stderr() -> None:
    """What standard error does not take is dropped: Python would try again at the end, and fail for it."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stderr.fileno())
            os.close(null)


def _end(number: int, frame: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, f"{_program()}: interrupted\n".encode(errors="replace"))
    os._exit(INTERRUPTED)


def _terminate(number: int, frame: FrameType | None) -> None:
    if os.getpid() == _first_process:  # another one was forked, and says nothing
        with suppress(OSError):
            os.write(2, f"{_program()}: SIGTERM: no training is running, so no snapshot is written\n".encode())
    os._exit(TERMINATED)


def _is_training() -> bool:
    """Whether the command is `caffe train`, which ends after SIGTERM as it does later, while it trains."""
    program = _program()
    return program == "train" or (program == "caffe" and "train" in sys.orig_argv[1:])


def _is_command() -> bool:
    words = getattr(sys, "argv", None) or [""]
    if words[0] == "-m":  # while `python -m caffe.cli.train` looks for the module
        return any(word.startswith("caffe.cli.") for word in sys.orig_argv)
    return Path(__file__).with_name(f"{Path(words[0]).name}.py").is_file()


def _program() -> str:
    if sys.argv[0] != "-m":
        return Path(sys.argv[0]).name.removesuffix(".py")
    return next(word for word in sys.orig_argv if word.startswith("caffe.cli.")).rpartition(".")[2]


def _open_missing_streams() -> None:
    """Standard streams that are closed lead nowhere; otherwise the next file to be opened would take their place."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if descriptor == 0 else os.O_WRONLY)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
