"""Reading training logs: this project's and the original's have the same format."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from pathlib import Path

from caffe.errors import CaffeError

#: begins the line that says which versions trained, in this project's logs
MADE_WITH = "Made with"
#: a glog prefix; older ones have no year
_PREFIX = re.compile(r"^[IWEF](\d{4})?(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d+)\s+\d+ [^\]]*\] (.*)$")
_ITERATION = re.compile(r"Iteration ([0-9]{1,18})")
_NUMBER = r"([-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|nan|inf))"
# matched at the beginning of a message: from every place of a long line, it would be searched to the end
_LOSS = re.compile(rf"\s*Iteration \d+.*?, loss = {_NUMBER}")
_RATE = re.compile(rf"Iteration \d+, lr = {_NUMBER}")
_OUTPUT = re.compile(rf"(Train|Test) net output #\d+: (\S+) = {_NUMBER}( \(\*)?")

Row = dict[str, float]


@dataclass
class TrainingLog:
    """What a log says. Rows hold NumIters, Seconds (since training began), LearningRate and one value per output."""

    train: list[Row] = field(default_factory=list)
    test: list[Row] = field(default_factory=list)
    #: iteration, seconds, smoothed loss
    losses: list[tuple[int, float, float]] = field(default_factory=list)
    #: iteration, seconds, learning rate
    rates: list[tuple[int, float, float]] = field(default_factory=list)
    #: outputs of the test nets that contribute to a loss
    loss_outputs: set[str] = field(default_factory=set)


def read_training_log(path: str | Path) -> TrainingLog:
    """Reads the log of one or several runs of `caffe train`, as written to standard error.

    A directory is one that -log_dir names: all runs in it, in their order. What a resumed run did again is taken from
    that run. Raises CaffeError for a log without any iteration.
    """
    result = TrainingLog()
    began: datetime.datetime | None = None
    iteration: int | None = None
    text = _text_of(Path(path))
    for line in text.splitlines():
        prefixed = _PREFIX.match(line)
        if prefixed is None:
            continue
        moment, message = _moment(prefixed), prefixed[8]
        if moment is None:
            continue
        if message.startswith("Solving ") and began is None:
            began = moment
        found = _ITERATION.search(message)
        if found:
            iteration = int(found[1])
        if iteration is None:
            continue
        began = began or moment
        _take(result, message, iteration, (moment - began).total_seconds())
    if iteration is None:
        raise CaffeError(f"{path}: no 'Iteration N' line in it; give what `caffe train` wrote to standard error")
    _fill_in_rates(result)
    return result


def _text_of(path: Path) -> str:
    files = sorted(path.glob("caffe.*.log")) if path.is_dir() else [path]
    if not files:
        raise CaffeError(f"{path}: a directory without logs, caffe.*.log")
    try:
        return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)
    except OSError as error:
        raise CaffeError(f"{path}: {error.strerror}") from error


def read_made_with(path: str | Path) -> str:
    """Which versions wrote a training log, in words; empty for the original's logs and others that do not say it.

    Raises CaffeError for a file that cannot be read.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                prefixed = _PREFIX.match(line.rstrip("\n"))
                if prefixed is None:
                    continue
                if prefixed[8].startswith(f"{MADE_WITH} "):
                    return prefixed[8].removeprefix(f"{MADE_WITH} ")
                if prefixed[8].startswith("Solving "):
                    break
    except OSError as error:
        raise CaffeError(f"{path}: {error.strerror}") from error
    return ""


def _moment(prefix: re.Match[str]) -> datetime.datetime | None:
    """When a line was written; None for a line that was damaged, with a thirteenth month for instance."""
    year, month, day, hour, minute, second, fraction, _ = prefix.groups()
    # Without a year, any leap year will do: only differences matter.
    try:
        return datetime.datetime(
            int(year or 2000),
            int(month),
            int(day),
            int(hour),
            int(minute),
            int(second),
            int(fraction.ljust(6, "0")[:6]),
        )
    except ValueError:
        return None


def _take(log: TrainingLog, message: str, iteration: int, seconds: float) -> None:
    """Adds what one log line says. Of a resumed run, it replaces what an earlier one did after the snapshot."""
    if loss := _LOSS.match(message):
        _forget_from(log.losses, iteration)
        log.losses.append((iteration, seconds, float(loss[1])))
    elif rate := _RATE.search(message):
        _forget_from(log.rates, iteration)
        log.rates.append((iteration, seconds, float(rate[1])))
    elif output := _OUTPUT.search(message):
        rows = log.train if output[1] == "Train" else log.test
        while rows and rows[-1]["NumIters"] > iteration:
            rows.pop()
        if not rows or rows[-1]["NumIters"] != iteration:
            rows.append({"NumIters": float(iteration), "Seconds": seconds, "LearningRate": float("nan")})
        rows[-1][output[2]] = float(output[3])
        if output[4]:
            log.loss_outputs.add(output[2])


def _forget_from(points: list[tuple[int, float, float]], iteration: int) -> None:
    while points and points[-1][0] >= iteration:
        points.pop()


def _fill_in_rates(log: TrainingLog) -> None:
    """Each row's learning rate: its iteration's, or the last before it (a final test comes after the last update)."""
    rates = {iteration: rate for iteration, _, rate in log.rates}
    for rows in (log.train, log.test):
        last = log.rates[0][2] if log.rates else float("nan")
        for row in rows:
            last = rates.get(int(row["NumIters"]), last)
            row["LearningRate"] = last
