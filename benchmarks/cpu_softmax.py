"""Softmax over the classes of MDSSD300's 31,232 boxes on the CPU, one thread: caffe.ops.softmax against torch.softmax."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch
from report import time_in_turn, write_result

from caffe.ops.softmax import softmax

BOXES = 31_232


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="timed runs of each (default: 40)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    figures: dict[str, Any] = {"what": f"softmax of {BOXES} rows, one thread"}
    for classes in (2, 4, 7, 12, 15, 16, 21, 81):
        x = torch.randn(1, BOXES, classes) * 3
        times: dict[str, Any] = dict(
            time_in_turn({"caffe": partial(softmax, x, 2), "torch": partial(torch.softmax, x, 2)}, args.rounds)
        )
        times["caffe / torch"] = round(times["caffe"]["median_ms"] / times["torch"]["median_ms"], 3)
        figures[f"{classes} classes"] = times
    write_result("cpu_softmax", figures)


if __name__ == "__main__":
    main()
