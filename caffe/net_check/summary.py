"""What was found in many nets, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from caffe.errors import counted
from caffe.net_check.files import Found
from caffe.net_check.verdict import ERROR, KILLED, LACKS, NO_TEXT, PYTHON, Verdict

_STATES = {
    LACKS: "lacking layer types or fields",
    PYTHON: "lacking Python modules",
    NO_TEXT: "not valid prototxt: templates, and texts with mistakes",
    ERROR: "with another error",
    KILLED: "stopped: too much time or memory, or the process ended",
}


def summary(verdicts: Sequence[Verdict], found: Found, ran: bool) -> str:
    """The counts, then what is missing: how many nets lack it, and how many lack nothing else."""
    states = Counter(verdict.state for verdict in verdicts)
    failed = sum(verdict.run_error is not None for verdict in verdicts)
    runs = f", {states[''] - failed} of them run" if ran else ""
    left = [
        counted(number, *noun)
        for number, noun in ((found.repeated, ("copy", "copies")), (found.others, ("other file",)))
        if number
    ]
    lines = [
        counted(len(verdicts), "net") + (f" (not counted: {' and '.join(left)})" if left else ""),
        f"{states['']:6} built{runs}",
        *(f"{states[state]:6} {text}" for state, text in _STATES.items() if states[state]),
    ]
    lacks = Counter(thing for verdict in verdicts for thing in verdict.missing)
    alone = Counter(verdict.missing[0] for verdict in verdicts if len(verdict.missing) == 1)
    if lacks:
        lines += ["", "What is missing: nets that lack it, and nets that lack nothing else"]
        lines += [
            f"{number:6} {alone[thing]:5}  {thing}"
            for thing, number in sorted(lacks.items(), key=lambda item: (-item[1], item[0]))
        ]
    return "\n".join(lines)
