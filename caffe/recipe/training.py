"""The training step: where it begins, its progress, and which of its snapshots is the best."""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

from caffe.errors import CaffeError
from caffe.files import write_text
from caffe.recipe.commands import Place
from caffe.recipe.rule import Recipe
from caffe.solver.log_reader import read_training_log

_GLOG = re.compile(r"^([IWEF])\d+ \S+\s+\d+ \S+?:\d+\] (.*)$")
_TEST = re.compile(r"^Iteration (\d+), Testing net")
_LOSS = re.compile(r"^Iteration (\d+), loss = (\S+)")
_SCORE = re.compile(r"Test net output #\d+: detection_eval = (\S+)")
_IDENTITY = "trained_on"
#: seconds between lines of progress where there is no terminal
_EVERY = 30


def newest(place: Place, recipe: Recipe) -> tuple[int, Path | None]:
    """The iteration and the solver state of the last snapshot; (0, None) without one."""
    found = [
        (int(match[1]), path)
        for path in place.model.glob(f"{recipe.network}_iter_*.solverstate")
        if (match := re.search(r"_iter_(\d+)\.solverstate$", path.name))
    ]
    return max(found, default=(0, None))


def keep_apart(place: Place, data: str) -> None:
    """Moves snapshots of other data or of another training net to a directory of their own.

    `data` identifies the data. A longer schedule for the same net and data goes on from the snapshots.
    """
    net = (place.model / "train.prototxt").read_text(encoding="utf-8").partition("\n")[2]  # without how it was made
    identity = hashlib.sha256(f"{data}\n{net}".encode()).hexdigest()[:16]
    record = place.model / _IDENTITY
    old = record.read_text().strip() if record.is_file() else ""
    ours = {record, place.start, *place.model.glob("*.prototxt")}
    snapshots = [path for path in [*place.model.iterdir(), *(place.out / "log").glob("*")] if path not in ours]
    if snapshots and old != identity:
        number = 1
        while (aside := place.out / f"before_{number}").exists():
            number += 1
        aside.mkdir(parents=True)
        for path in snapshots:
            path.rename(aside / path.name)
        print(
            f"The data or the net has changed: training starts from the beginning. Earlier snapshots and logs are in {aside}"
        )
    write_text(record, identity + "\n")


def run_training(words: list[str], total: int, first: int) -> int:
    """Runs `caffe train`, whose log goes to its file; shows iterations, loss, tests and warnings. Returns its status.

    SIGTERM and SIGHUP are passed on, so that training writes a snapshot and no process is left behind.
    """
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, errors="replace")
    before = {number: signal.signal(number, lambda got, _: process.send_signal(got))
              for number in (signal.SIGTERM, signal.SIGHUP)}  # fmt: skip
    try:
        _show(process, total, first)
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(process: subprocess.Popen[str], total: int, first: int) -> None:
    assert process.stderr is not None
    iteration, tested, begun, shown = first, first, time.monotonic(), 0.0
    listing = False  # a solver or a net, in the lines after one that announces it
    with process.stderr, tqdm(total=total, initial=first, unit="it", disable=None, leave=False) as bar:
        while True:
            try:
                line = process.stderr.readline()
            except KeyboardInterrupt:
                continue  # training has got the signal too; it writes a snapshot and ends
            if not line:
                return
            found = _GLOG.match(line)
            if found is None:
                if not listing:
                    tqdm.write(line.rstrip(), file=sys.stderr)
                continue
            listing = found[2].rstrip().endswith(":")
            if found[1] != "I":
                tqdm.write(line.rstrip(), file=sys.stderr)
            elif loss := _LOSS.match(found[2]):
                bar.update(int(loss[1]) - iteration)
                bar.set_postfix(loss=loss[2])
                iteration = int(loss[1])
                if bar.disable and time.monotonic() - shown > _EVERY:
                    shown = time.monotonic()
                    left = _left(iteration, first, total, begun)
                    print(f"  {iteration:,} of {total:,} iterations, loss {loss[2]}{left}", flush=True)
            elif test := _TEST.match(found[2]):
                tested = int(test[1])
            elif score := _SCORE.search(found[2]):
                tqdm.write(f"  test after {tested:,} iterations: mAP {100 * float(score[1]):.1f}")


def _left(iteration: int, first: int, total: int, begun: float) -> str:
    if iteration <= first:
        return ""
    seconds = (time.monotonic() - begun) * (total - iteration) / (iteration - first)
    return f", {seconds / 60:.0f} minutes left"


def scores(place: Place) -> dict[int, float]:
    """The mAP of each test in the logs, by iteration."""
    found: dict[int, float] = {}
    for path in sorted((place.out / "log").glob("caffe.*.log")):
        try:
            log = read_training_log(path)
        except CaffeError:
            continue  # one of a run that ended before its first iteration
        found |= {int(row["NumIters"]): row["detection_eval"] for row in log.test if "detection_eval" in row}
    return found


def best_snapshot(place: Place, recipe: Recipe) -> tuple[Path, str]:
    """The weights with the highest mAP on the test images, the latest of equals, and why."""
    tested = {}
    for iteration, score in scores(place).items():
        path = place.model / f"{recipe.network}_iter_{iteration}.caffemodel"
        if path.is_file():
            tested[iteration] = (score, path)
    if not tested:
        last, state = newest(place, recipe)
        if state is None:
            raise CaffeError(f"'{place.model}' has no snapshot; training has not written one")
        return state.with_suffix(".caffemodel"), f"the last snapshot, of iteration {last:,}; no test is in the logs"
    iteration = max(tested, key=lambda each: (tested[each][0], each))
    listed = ", ".join(f"{each:,}: {100 * tested[each][0]:.1f}" for each in sorted(tested))
    return tested[iteration][1], f"iteration {iteration:,} (mAP by iteration: {listed})"
