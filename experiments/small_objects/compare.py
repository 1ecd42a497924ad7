#!/usr/bin/env python3
"""Compares the networks of all families on a data set: speed, scores by size of the objects, and pages about them.

    scripts/compare_networks.sh data/deeppcb
    scripts/compare_networks.sh data/deeppcb --networks families-300 --seeds 1 2 3
    scripts/compare_networks.sh data/deeppcb --quick

All networks are trained from random numbers with the same images, order, augmentation, iterations and learning rate.
The same command resumes where it stopped. It exits with status 75 if --budget ended it. Written to --out:

    tables.md, tables.json      scores by size with their learning curve, differences, parameters, multiply-adds, times
    speed.json                  images a second of the trained networks, as measured by scripts/speed.sh
    speed_released.json         the same of the networks under models/: all channels, random weights
    report.html                 the page of caffe report about them all
    sheets/                     the pictures of plot_errors: false, missed and differing detections
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent.parent))

from caffe.cli.flags import run
from caffe.errors import CaffeError
from caffe.files import write_text
from experiments.small_objects import run as training_program
from experiments.small_objects import table
from experiments.small_objects.commands import ROOT, Terminated, ending_on_signals
from experiments.small_objects.plan import BOXES, GROUPS, Arm, Plan
from experiments.small_objects.run import duration, positive

#: of --quick: the flags of run.py, and of caffe speed
_QUICK = ("--width", "1/16", "--iterations", "4", "--points", "1", "--batch", "1")
_QUICK_SPEED = ("-images", "2")
_SPEED = ("-images", "2000", "-seconds", "5")


def parser() -> argparse.ArgumentParser:
    """The command line, without the flags that run.py gets."""
    p = argparse.ArgumentParser(
        prog="scripts/compare_networks.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Other flags are run.py's: --width, --iterations, --points, --batch, --base_lr, --augmentation, "
        "--max_boxes, --gpu, --precision, --annoset. --help of experiments/small_objects/run.py explains them.",
        allow_abbrev=False,
    )  # fmt: skip
    p.add_argument("data", type=Path, metavar="DATA", help="the data set, in VOC's layout")
    p.add_argument("--networks", nargs="+", default=["families"], metavar="NETWORK",
                   help=f"networks or groups of them: {', '.join(GROUPS)}; {', '.join(GROUPS['families'])} "
                   "(default: families, all of them)")  # fmt: skip
    p.add_argument("--name", help="the data's name in tables and directories (default: that of its directory)")
    p.add_argument("--out", type=Path, help="directory to write to (default: build/compare_networks/NAME)")
    p.add_argument("--boxes", default="designed", choices=BOXES,
                   help="default boxes: those of the released models, or designed for the data (default: designed)")  # fmt: skip
    p.add_argument("--seeds", type=positive, nargs="+", default=[1], help="default: 1")
    p.add_argument("--budget", type=duration, default=math.inf, help="time limit of the trainings, such as 10m")
    p.add_argument("--quick", action="store_true",
                   help="4 iterations of one image with a sixteenth of the channels, and two images to measure speed; "
                   "such scores say nothing")  # fmt: skip
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run("compare_networks.sh", _main, argv)


def _main(argv: Sequence[str]) -> int:
    flags, others = parser().parse_known_args(argv)
    networks = list(dict.fromkeys(network for name in flags.networks for network in GROUPS.get(name, (name,))))
    if unknown := [name for name in networks if name not in GROUPS["families"]]:
        raise CaffeError(
            f"--networks {unknown[0]}: is not a network; there are {', '.join(GROUPS['families'])}, and the groups "
            f"{', '.join(GROUPS)}"
        )
    data = flags.data.expanduser().resolve()
    name = flags.name or data.name
    out = (flags.out or ROOT / "build" / "compare_networks" / name).resolve()
    arms = [Arm(network, flags.boxes, start="scratch") for network in networks]
    budget = [] if flags.budget == math.inf else ["--budget", f"{flags.budget}s"]
    print("1 of 4: training and scoring", flush=True)
    status = training_program.main([
        "--data", name, "--folder", str(data), "--out", str(out), "--seeds", *map(str, flags.seeds), *budget,
        *(_QUICK if flags.quick else ()), *others, "--arms", *(arm.name for arm in arms),
    ])  # fmt: skip
    if status:
        return status
    try:
        with ending_on_signals():
            print("2 of 4: speed", flush=True)
            _measure_speed(out, arms, min(flags.seeds), data / "JPEGImages", _QUICK_SPEED if flags.quick else _SPEED)
            _present(out, data, name, arms, sorted(set(flags.seeds)))
    except Terminated:
        print("Stopped. The same command resumes from here.")
        return 143
    print(f"All is done: {out / 'tables.md'}, {out / 'report.html'}, {out / 'sheets'}")
    return 0


def _present(out: Path, data: Path, name: str, arms: Sequence[Arm], seeds: Sequence[int]) -> None:
    """Makes the tables, the page and the pictures. The last two are of all seeds, and of the first one."""
    print("3 of 4: tables", flush=True)
    results = table.read(out, [arm.name for arm in arms])
    text = table.markdown(results)
    write_text(out / "tables.md", text)
    write_text(out / "tables.json", json.dumps({name: table.as_json(results)}, indent=1, allow_nan=False) + "\n")
    print(text)
    print("4 of 4: report and pictures", flush=True)
    _run(
        "caffe.cli.caffe", "report", "-voc", data, "-speed", out / "speed.json", "-out", out / "report.html",
        *(f"{arm.network.upper()}={_folder(out, arm, seed)}" for arm in arms for seed in seeds),
    )  # fmt: skip
    _run(
        "caffe.cli.plot_errors", *(_folder(out, arm, seeds[0]) / "results" for arm in arms),
        "--names", ",".join(arm.network.upper() for arm in arms), "--voc", data, "--out", out / "sheets",
    )  # fmt: skip


def _folder(out: Path, arm: Arm, seed: int) -> Path:
    return out / "runs" / arm.name / f"seed{seed}"


def _measure_speed(out: Path, arms: Sequence[Arm], seed: int, images: Path, limits: Sequence[str]) -> None:
    """Writes speed.json and speed_released.json, unless they are there with these networks."""
    plan = Plan.read(out / "plan.json")
    folders = [_folder(out, arm, seed) for arm in arms]
    weights = [folder / "snapshots" / f"net_iter_{plan.iterations}.caffemodel" for folder in folders]
    if missing := [path for path in weights if not path.is_file()]:
        raise CaffeError(f"{missing[0]} is missing; remove {missing[0].parent.parent} to train this network again")
    released = [ROOT / "models" / arm.network.upper() / "VOC" for arm in arms]
    for path, models, more in (
        (out / "speed.json", folders, ["-weights", ",".join(map(str, weights))]),
        (out / "speed_released.json", released, []),
    ):
        if _measured(path) != [arm.network.upper() for arm in arms]:
            gpu = [] if plan.gpu == "none" else ["-gpu", plan.gpu]
            _run(
                "caffe.cli.caffe", "speed", "-json", path, "-image_dir", images, "-precision", plan.precision,
                *gpu, *limits, *more, *models,
            )  # fmt: skip


def _measured(path: Path) -> list[str]:
    """Returns the networks in a file of `caffe speed -json`, none if it is missing. An interrupted one has fewer."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["models"]
        return [re.split("[x_]", row["name"])[0] for row in rows]  # MDSSD300x0.125_deeppcb, MDSSD300_VOC
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _run(module: str, *words: object) -> None:
    """Runs a command of the package, which shows its own output. Raises CaffeError if it fails."""
    status = subprocess.run([sys.executable, "-P", "-m", module, *map(str, words)], cwd=ROOT, check=False).returncode
    if status:
        what = [str(word) for word in words[:1]] if module == "caffe.cli.caffe" else [module.rpartition(".")[2]]
        raise CaffeError(
            f"{what[0]} failed (status {status}); its message is above. The same command goes on from here"
        )


if __name__ == "__main__":
    raise SystemExit(main())
