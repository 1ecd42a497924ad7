"""Processor time from start to end: every command's help, imports from Python, and ssd_detect on one image.

The net is SSD300 with an eighth of the channels and random weights; its first detection is the whole process but for
PyTorch's end. Medians of several runs, user and system time; what a quiet disk's cache would add is not in them.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from report import write_result

ROOT = Path(__file__).resolve().parents[1]
#: seconds that help, and a narrow net's detections of one image, may take
HELP_GOAL, DETECT_GOAL = 0.3, 1.5


def seconds(command: Sequence[str], runs: int) -> float:
    """The median of the processor time of a command that must succeed."""
    times = []
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return round(statistics.median(times), 3)


def prepare(folder: Path) -> list[str]:
    """Writes a narrow net, random weights and an image; returns the paths for ssd_detect."""
    import cv2

    import caffe

    generator = [sys.executable, str(ROOT / "prototxt_gen/ssd300.py"), "--width", "1/8", "--output", str(folder)]
    subprocess.run(generator, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    net = caffe.Net(str(folder / "deploy.prototxt"), caffe.TEST)
    net.save(str(folder / "net.caffemodel"))
    cv2.imwrite(str(folder / "image.jpg"), np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8))
    return [str(folder / name) for name in ("deploy.prototxt", "net.caffemodel", "image.jpg")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="how often each is started")
    runs = parser.parse_args().runs
    python = sys.executable
    commands = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    helps = {name: seconds([python, "-m", entry.partition(":")[0], "--help"], runs) for name, entry in commands.items()}
    slowest = max(helps, key=lambda name: helps[name])
    with tempfile.TemporaryDirectory() as name:
        detect = seconds([python, "-m", "caffe.cli.ssd_detect", *prepare(Path(name))], runs)
    statements = ["import caffe", "from caffe import ImageDetector", "import torch, cv2"]
    write_result(
        "cpu_start",
        {
            "seconds of processor time": {
                f"help, slowest of {len(helps)} ({slowest})": helps[slowest],
                "help, median": statistics.median(helps.values()),
                "ssd_detect, one image": detect,
                **{statement: seconds([python, "-c", statement], runs) for statement in statements},
            },
            "share_of_the_goals": {
                "help": round(helps[slowest] / HELP_GOAL, 2),
                "ssd_detect": round(detect / DETECT_GOAL, 2),
            },
        },
    )


if __name__ == "__main__":
    main()
