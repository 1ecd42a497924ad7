#!/usr/bin/env python3
"""The cost of networks: parameters, multiply-adds, default boxes, time per image and per training iteration.

The networks are timed in turn, and the minimum counts, so that other work on the machine affects them equally.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent.parent))

import torch

from caffe.cli import devices
from caffe.cli.flags import run
from caffe.data.feed.memory import keep_freed_memory
from caffe.engine import acceleration
from caffe.engine.layer import TEST
from caffe.engine.net import Net
from caffe.files import write_text
from caffe.proto.text import read_net, read_solver
from caffe.solver.solver import Solver

#: number of turns, and the images and training iterations per turn
_TURNS, _IMAGES, _ITERATIONS = 4, 8, 2


def parameters(net: Net) -> int:
    """Returns the number of learned values of a net."""
    return sum(parameter.numel() for parameter in net.learnable_params)


def multiply_adds(net: Net) -> int:
    """Returns the multiply-adds of convolutions and inner products in one forward pass."""
    total = 0
    for step in net.steps:
        layer = step.layer
        if layer.type_name in ("Convolution", "Deconvolution", "InnerProduct"):
            # a weight is used once per position that it is applied to, which is an input position for a deconvolution
            applied = step.bottoms[0] if layer.type_name == "Deconvolution" else step.tops[0]
            shape = net.blobs[applied].shape
            places = shape[0] if layer.type_name == "InnerProduct" else shape[0] * math.prod(shape[2:])
            total += places * layer.blobs[0].numel()
    return total


def default_boxes(net: Net) -> int:
    """Returns the number of default boxes of a detector."""
    return net.blobs["mbox_priorbox"].shape[2] // 4


def least_seconds(works: Sequence[Callable[[], object]], turns: int, repeat: int) -> list[float]:
    """Returns the minimum time of each function in seconds. They take turns of `repeat` calls."""
    best = [math.inf] * len(works)
    for _ in range(turns):
        for i, work in enumerate(works):
            for _ in range(repeat):
                devices.synchronize()
                begun = perf_counter()
                work()
                devices.synchronize()
                best[i] = min(best[i], perf_counter() - begun)
    return best


def _training_alone(model: Path) -> Any:
    """Returns a model's solver parameter without tests and snapshots."""
    param = read_solver(str(model / "solver.prototxt"))
    for field in ("test_net", "test_iter", "test_interval", "snapshot"):
        param.ClearField(field)
    param.snapshot_after_train = False
    return param


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run("cost.py", _main, argv)


def _main(argv: Sequence[str]) -> None:
    os.environ.setdefault("GLOG_minloglevel", "1")  # show only the result, not the setup of the nets
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="directories that a generator of prototxt_gen wrote")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write: a list with one entry per model")
    parser.add_argument("--gpu", default="none", help="device number, or none (default: none)")
    parser.add_argument("--precision", default="fp32", help="precision of the engine (default: fp32)")
    flags = parser.parse_args(argv)
    os.environ.setdefault("GLOG_minloglevel", "1")  # the nets' descriptions would fill the log
    devices.use_one("" if flags.gpu == "none" else flags.gpu)
    acceleration.use(flags.precision, graph=flags.gpu != "none")  # as run.py trains
    keep_freed_memory()
    nets = [Net(read_net(model / "deploy.prototxt"), TEST) for model in flags.models]
    images = [torch.randn(net.blobs["data"].shape, device=net.device) for net in nets]
    with torch.inference_mode():
        works = [partial(net, {"data": image}) for net, image in zip(nets, images, strict=True)]
        seconds = least_seconds(works, _TURNS, _IMAGES)
    solvers = [Solver(_training_alone(model)) for model in flags.models]
    try:
        iteration = least_seconds([partial(s.step, 1) for s in solvers], _TURNS, _ITERATIONS)
    finally:
        for solver in solvers:
            for net in (solver.net, *solver.test_nets):
                net.close()
    values = [
        {
            "parameters": parameters(net),
            "multiply_adds": multiply_adds(net),
            "default_boxes": default_boxes(net),
            "seconds_per_image": seconds[i],
            "seconds_per_iteration": iteration[i],
        }
        for i, net in enumerate(nets)
    ]
    write_text(flags.out, json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
