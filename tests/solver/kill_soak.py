"""Trainings that are killed at random moments, resumed, and compared with one that was not: bit for bit.

    python -m tests.solver.kill_soak --kills 30 --folder FOLDER [--seed 1]

Each training is a fork of this process, so that loading PyTorch is paid once; it is a whole `caffe train -snapshot auto`
with data workers, and is ended by SIGKILL. Exits with 1 and says so if a run ends with other bits.
"""  # fmt: skip

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
from pathlib import Path

import cv2
import numpy as np

from caffe.cli import train
from caffe.proto.weights import read_weights

#: data workers, and what is added to the solver; 12 images, so that three iterations of 2 × 2 are an epoch
VARIANTS = ((0, "snapshot: 3"), (1, "snapshot: 2"), (3, "snapshot: 2 type: 'Adam'"), (8, "snapshot: 1"))
ITERATIONS = 24
NET = """
layer { name: "data" type: "ImageData" top: "data" top: "label"
  image_data_param { source: "list.txt" batch_size: 2 shuffle: true } transform_param { mirror: true scale: 0.004 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 iter_size: 2 display: 1 random_seed: 5
solver_mode: CPU test_iter: 2 test_iter: 1 test_interval: 5 test_state {{ }} test_state {{ }} max_iter: {} {}
snapshot_prefix: "{}"
"""


def prepare() -> None:
    """Writes the images, their list and the net into the current directory."""
    draw = np.random.default_rng(0)
    for i in range(12):
        cv2.imwrite(f"{i}.png", draw.integers(0, 256, (12, 12, 3), np.uint8))
    Path("list.txt").write_text("".join(f"{i}.png {i % 3}\n" for i in range(12)))
    Path("net.prototxt").write_text(NET)


def piece(solver: str, workers: int, lines: int | None) -> bool:
    """Trains until the end, or until SIGKILL after `lines` lines of log. Returns whether it ended by itself."""
    log, ours = os.pipe()
    if (child := os.fork()) == 0:
        os.close(log)
        os.dup2(ours, 2)
        os.environ["CAFFE_DATA_WORKERS"] = str(workers)
        os._exit(train.main(["-solver", solver, "-snapshot", "auto", "-keep", "2"]))
    os.close(ours)
    text, seen = b"", 0
    while data := os.read(log, 1 << 16):
        text, seen = text + data, seen + data.count(b"Iteration ")
        if lines is not None and seen >= lines:
            os.kill(child, signal.SIGKILL)
            break
    os.close(log)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"a training failed:\n{text.decode(errors='replace')}")
    return os.WIFEXITED(status)


def end_of(prefix: str) -> tuple[list[bytes], bytes]:
    """The weights of the last iteration, and its solver state without the weights' name."""
    blobs = [blob.tobytes() for w in read_weights(f"{prefix}_iter_{ITERATIONS}.caffemodel") for blob in w.blobs]
    state = Path(f"{prefix}_iter_{ITERATIONS}.solverstate").read_bytes()
    return blobs, state.replace(prefix.encode(), b"")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(options.folder)
    prepare()
    draw, kills, runs = random.Random(options.seed), 0, 0
    while kills < options.kills:
        workers, text = VARIANTS[runs % len(VARIANTS)]
        names = [f"whole_{runs:04}", f"piece_{runs:04}"]
        for name in names:
            Path(f"{name}.prototxt").write_text(SOLVER.format(ITERATIONS, text, name))
        piece(f"{names[0]}.prototxt", workers, None)
        while not piece(f"{names[1]}.prototxt", workers, draw.randint(1, 12)):
            kills += 1
        if end_of(names[0]) != end_of(names[1]):
            print(f"run {runs} ({workers} workers, {text}) ended with other bits than a whole one")
            return 1
        runs += 1
    print(f"{kills} kills in {runs} runs: each ended bit for bit as a whole one")
    return 0


if __name__ == "__main__":
    sys.exit(main())
