"""`caffe check_nets`: which of many nets build and run here, and what is missing for the others."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from caffe.cli.flags import FlagParser, boolean, number, run
from caffe.cli.net_flags import add_allow_python, only_look
from caffe.errors import CaffeError

if TYPE_CHECKING:
    from caffe.net_check.verdict import Verdict

EXAMPLES = """\
examples:
  caffe check_nets my_nets
  caffe check_nets -run -out found.json repositories/*/models
  caffe check_nets deploy.prototxt

Each argument is a prototxt, or a folder whose prototxts with layers are looked at. A net builds if its layers are
known, their parameters are valid and their shapes fit, in one of the phases that its rules name. Layers that read files
are replaced by inputs of the shape of their batches, of two images at most, so no data is needed. Of files that are
equal but for white space and comments one is looked at.

-run also runs each net once, in training backward too, with random weights and images, and labels of 0.

Each net has a process of its own, so one that takes too much time or memory does not affect the others. Their Python
layers do not run unless -allow_python is given: a Python layer is a program that the net's author wrote.

The exit status is 0 if all nets build (and run), else 1.
"""


def parser() -> FlagParser:
    """The command's flags."""
    p = FlagParser(
        "caffe check_nets", description="Say which nets build and run, and what the others lack.", epilog=EXAMPLES
    )
    p.add_argument("nets", metavar="NET", nargs="+", help="a prototxt, or a folder with prototxts")
    p.flag("run", type=boolean, default=False, help="also run each net once")
    p.flag("out", default="", help="write what was found to this JSON file, one object per net")
    p.flag("short", type=boolean, default=False, help="print only the summary")
    p.flag("seconds", type=number(float, 1), default=60, help="the processor time that a net may take")
    p.flag("memory", type=number(float, 0.1), default=8, help="the memory that a net may take, in GB")
    p.flag("jobs", type=number(int, 1, 512), help="nets looked at at a time (default: one for each core)")
    add_allow_python(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; its exit status."""
    return run("caffe check_nets", _command, argv)


def _command(argv: Sequence[str]) -> int:
    flags = parser().parse_args(argv)
    os.environ["GLOG_minloglevel"] = "3"  # before the engine's log of each net
    only_look(flags)

    import torch

    from caffe.files import write_text
    from caffe.net_check.files import find
    from caffe.net_check.processes import answers
    from caffe.net_check.summary import summary
    from caffe.net_check.verdict import KILLED, Verdict, check

    torch.set_num_threads(1)  # of each process; and a process that was forked must not wait for its parent's threads
    found = find(flags.nets)
    if not found.nets:
        raise CaffeError(f"no nets: no prototxt with layers in {', '.join(flags.nets)}")
    verdicts: list[Verdict] = []
    workers = flags.jobs or len(os.sched_getaffinity(0))
    work = answers(partial(check, run=flags.run), found.nets, workers, flags.seconds, int(flags.memory * 1e9))
    for path, answer, problem in work:
        verdict = answer or Verdict(str(path), KILLED, message=f"{path}: {problem}")
        verdicts.append(verdict)
        if not flags.short:
            print(_line(verdict, flags.run), flush=True)
    if flags.out:
        write_text(flags.out, "".join(json.dumps(asdict(verdict)) + "\n" for verdict in verdicts))
    if not flags.short:
        print()
    print(summary(verdicts, found, flags.run))
    return int(any(verdict.state or verdict.run_error is not None for verdict in verdicts))


def _line(verdict: Verdict, ran: bool) -> str:
    """What is said about one net."""
    if not verdict.state:
        if verdict.run_error is not None:
            return f"builds, does not run: {verdict.path}: {_first(verdict.run_error)}"
        return f"builds{' and runs' if ran else ''}: {verdict.path}"
    if verdict.missing:
        return f"does not build: {verdict.path}: needs {', '.join(verdict.missing)}"
    return f"does not build: {verdict.path}: {_first(verdict.message.removeprefix(verdict.path).lstrip(': '))}"


def _first(message: str) -> str:
    return message.strip().partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
