"""Running steps: each is printed, run, and recorded, so that a later call goes on where this one stopped."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from caffe.errors import CaffeError
from caffe.files import write_text
from caffe.recipe.commands import Step

_RECORD = "steps.json"
_SCRIPT = "commands.sh"
#: what a command that was stopped by Ctrl-C or SIGTERM ends with
_INTERRUPTED = (130, 143, -signal.SIGINT, -signal.SIGTERM)
Runner = Callable[[list[str]], int]


def command_line(words: Sequence[str]) -> str:
    """A command as it is typed."""
    return shlex.join(words)


def executable(words: Sequence[str]) -> list[str]:
    """What runs a command with this interpreter, whatever the PATH."""
    program, *rest = words
    if program == "python":
        return [sys.executable, *rest]
    if program == "cp":
        return [program, *rest]
    return [sys.executable, "-P", "-m", f"caffe.cli.{program}", *rest]


def plain(words: list[str]) -> int:
    """Runs a command with this process's output; returns its status."""
    return subprocess.run(words).returncode


def fingerprint(folder: Path, without: Path) -> str:
    """What tells whether a folder's files have changed: their names, sizes and times."""
    digest = hashlib.sha256()
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if Path(place, each).resolve() != without.resolve())
        for name in sorted(files):
            status = os.stat(Path(place, name), follow_symlinks=False)
            digest.update(f"{place}/{name} {status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


class Steps:
    """The steps of one run in the order in which they are called. Each depends on all before it.

    `state` identifies what the steps so far have made.
    """

    def __init__(self, out: Path, total: int, begin: str) -> None:
        self._out, self._total, self._count = out, total, 0
        self.state = begin
        self._done: dict[str, str] = {}
        self._script: list[str] = []
        record = out / _RECORD
        if record.is_file():
            try:
                self._done = {str(name): str(key) for name, key in json.loads(record.read_text()).items()}
            except (ValueError, AttributeError, RecursionError):
                raise CaffeError(f"'{record}' is damaged; remove it to do all steps again") from None

    def depend_on(self, what: str) -> None:
        """Makes all steps from here on depend on `what` too."""
        self.state = hashlib.sha256(f"{self.state} {what}".encode()).hexdigest()[:16]

    def __call__(self, step: Step, run: Runner = plain, *, finished: Callable[[], bool] = lambda: True) -> None:
        """Runs a step unless it was done with the same commands after the same steps, and what it made is there.

        `finished`: whether a step that ended without an error has done all. Raises CaffeError if a command fails, and
        KeyboardInterrupt if the step was interrupted.
        """
        self._count += 1
        lines = [command_line(words) for words in step.commands]
        # where training begins is not what it is: it goes on from snapshots
        self.depend_on(step.name if step.name == "train" else "\n".join([step.name, *lines]))
        self._script += [f"# {step.title}", *lines]
        head = f"[{self._count}/{self._total}] {step.title}"
        if self._done.get(step.name) == self.state and all(path.exists() for path in step.makes):
            print(f"{head}: done before", flush=True)
            return
        print(f"\n{head}", flush=True)
        for words, line in zip(step.commands, lines, strict=True):
            print(f"$ {line}", flush=True)
            status = run(executable(words))
            if status in _INTERRUPTED:
                raise KeyboardInterrupt
            if status:
                raise CaffeError(f"this command failed (status {status}): {line}")
        if not finished():
            raise KeyboardInterrupt
        self._done[step.name] = self.state
        write_text(self._out / _RECORD, json.dumps(self._done, indent=1) + "\n")
        self.write_script()

    def write_script(self) -> None:
        """Writes the commands so far as a script, to be repeated and changed."""
        head = ["#!/bin/sh", "# The commands of train_own. Each can be repeated and changed.", "set -e",
                f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"]  # fmt: skip
        write_text(self._out / _SCRIPT, "\n".join([*head, *self._script]) + "\n")
        (self._out / _SCRIPT).chmod(0o755)
