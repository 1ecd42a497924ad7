#!/usr/bin/env python3
"""Does MDSSD help with small objects? Trains networks in the same way and scores them by size of the objects.

    python experiments/small_objects/get_data.py bccd data
    python experiments/small_objects/run.py --data bccd --folder data/bccd --seeds 1 2 3 --budget 10m
    python experiments/small_objects/table.py build/small_objects/bccd

All arms of the comparison have the same start, order of images and number of iterations, with the released or with
designed default boxes. `--arms families` trains all nine networks from random numbers. With --budget the program ends
in time, with status 75 while there is more to do. The same command resumes where it stopped, even after being killed.
The results do not depend on where it was interrupted.
"""

from __future__ import annotations

import argparse
import fcntl
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent.parent))

from caffe.cli.flags import run
from caffe.errors import CaffeError
from experiments.small_objects.commands import ROOT, Commands, OutOfTime, Terminated, ending_on_signals
from experiments.small_objects.plan import ARMS, BOXES, DEFAULT_ARMS, GROUPS, Plan, runs, select
from experiments.small_objects.preparation import Folder, measure_costs, prepare
from experiments.small_objects.training import Training

#: the exit status while there is more to do (EX_TEMPFAIL)
UNFINISHED = 75
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def duration(text: str) -> float:
    """Returns the seconds in `90`, `90s`, `10m` or `1.5h`. Raises ArgumentTypeError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a time such as 90s, 10m or 1.5h")
    return float(match[1]) * _UNITS[match[2]]


def positive(text: str) -> int:
    """Returns a positive integer. Raises ArgumentTypeError for anything else."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive integer")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="name of the data set in tables and directories")
    p.add_argument("--folder", type=Path, required=True, help="the data set, in VOC's layout")
    p.add_argument("--out", type=Path, help="directory of the experiment (default: build/small_objects/DATA)")
    p.add_argument("--seeds", type=positive, nargs="+", default=[1, 2, 3], help="default: 1 2 3")
    p.add_argument("--arms", nargs="+", default=list(DEFAULT_ARMS), metavar="ARM",
                   help=f"arms to compare, or groups: {', '.join(GROUPS)}, which train the networks of all families from "
                   f"random numbers. The arms: {', '.join(ARMS)} (default: {', '.join(DEFAULT_ARMS)})")  # fmt: skip
    p.add_argument("--boxes", nargs="+", default=["designed"], choices=BOXES,
                   help="kinds of default boxes for the groups of --arms (default: designed)")  # fmt: skip
    p.add_argument("--max_boxes", type=positive, default=0,
                   help="the most default boxes of a network with designed ones (default: as many as it has)")  # fmt: skip
    p.add_argument("--width", default="1/8", help="share of the channels (default: 1/8)")
    p.add_argument("--weights", type=Path, default=ROOT / "demo" / "pretrain" / "ssd300_narrow.caffemodel",
                   help="trained SSD300 of that width, start of the arms without `scratch` (default: the demo's)")  # fmt: skip
    p.add_argument("--iterations", type=positive, default=1200, help="training iterations (default: 1200)")
    p.add_argument("--points", type=positive, default=4, help="number of times that a training is scored (default: 4)")
    p.add_argument("--batch", type=positive, default=8, help="images per iteration (default: 8)")
    p.add_argument(
        "--base_lr", type=float, default=0.0005, help="learning rate of Adam, a tenth of it after 3/4 (default: 0.0005)"
    )
    p.add_argument("--augmentation", default="mirror", choices=("mirror", "full"), help="default: mirror")
    p.add_argument("--gpu", default="none", help="device number, or none (default: none)")
    p.add_argument("--precision", default="fp32", choices=("fp32", "tf32", "bf16"), help="default: fp32")
    p.add_argument("--annoset", default="", metavar="FLAGS",
                   help="additional flags of convert_annoset for the training images, as one argument")  # fmt: skip
    p.add_argument(
        "--budget", type=duration, default=math.inf, help="time limit of this call, such as 10m (default: none)"
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run("run.py", _main, argv)


def _main(argv: Sequence[str]) -> int:
    flags = parser().parse_args(argv)
    if not re.fullmatch(r"[\w.-]+", flags.data):
        raise CaffeError(f"--data {flags.data!r}: the name may contain only letters, digits, '_', '-' and '.'")
    out = (flags.out or ROOT / "build" / "small_objects" / flags.data).resolve()
    plan = Plan(
        data=flags.data, folder=str(flags.folder.expanduser().resolve()), width=flags.width,
        weights=str(flags.weights.expanduser().resolve()), iterations=flags.iterations, points=flags.points,
        batch=flags.batch, base_lr=flags.base_lr, augmentation=flags.augmentation, gpu=flags.gpu,
        precision=flags.precision, annoset=flags.annoset, max_boxes=flags.max_boxes,
    )  # fmt: skip
    arms = select(flags.arms, flags.boxes)
    if any(arm.start != "scratch" for arm in arms) and not Path(plan.weights).is_file():
        raise CaffeError(f"--weights {plan.weights}: no such file")
    if not Path(plan.folder, "Annotations").is_dir():
        raise CaffeError(f"--folder {plan.folder} is not a data set in VOC's layout: it has no Annotations")
    out.mkdir(parents=True, exist_ok=True)
    plan.save(out / "plan.json")
    with open(out / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CaffeError(f"{out}: another run, or a training left over from one, is using this directory") from None
        folder = Folder(out, plan)
        trainings = [Training(folder, each) for each in runs(out, arms, sorted(set(flags.seeds)))]
        commands = Commands(flags.budget, lock.fileno())
        try:
            with ending_on_signals():
                prepare(commands, folder, arms)
                measure_costs(commands, folder, arms)
                for training in trainings:
                    print(f"{training.name}: {training.iterations()} iterations", flush=True)
                    training.work(commands)
        except OutOfTime:
            return _tell_what_is_left(trainings)
        except Terminated:
            print("Stopped. The same command resumes from here.")
            return 143
    print(f"All is done. To see the tables: python experiments/small_objects/table.py {out}")
    return 0


def _tell_what_is_left(trainings: Sequence[Training]) -> int:
    print("The time is up. Remaining:")
    for training in trainings:
        if not training.done():
            left = training.iterations() - training.reached()
            print(f"  {training.name}: {left} iterations, {len(training.unscored())} scores")
    return UNFINISHED


if __name__ == "__main__":
    raise SystemExit(main())
