"""Trainings that are killed at random moments, resumed, and compared with one that was not: bit for bit.

    python -m tests.solver.kill_soak --kills 30 --folder FOLDER [--seed 1]

Each training is a fork of this process, so that loading PyTorch is paid once; it is a whole `caffe train -snapshot auto`
with data workers, and is ended by SIGKILL. Exits with 1 and says so if a run ends with other bits.
"""  # fmt: skip

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from caffe.cli import train
from caffe.proto.solver_state import read_solver_state
from caffe.proto.weights import read_weights
from caffe.solver import best, deadline, fine_tuning, launch, ranks, solver

#: what `caffe train` imports when it needs it; the forks have it from here
_LOADED = (best, deadline, fine_tuning, launch, ranks, solver)
#: data workers, and what is added to the solver; three iterations of 2 x 2 images are an epoch
VARIANTS = (
    (0, 'snapshot: 3 iter_size: 2 lr_policy: "fixed"'),
    (1, 'snapshot: 2 iter_size: 2 type: "Adam" lr_policy: "poly" power: 1'),
    (3, 'snapshot: 2 iter_size: 3 lr_policy: "fixed" snapshot_format: HDF5'),
    (8, 'snapshot: 1 iter_size: 2 lr_policy: "plateau" gamma: 0.5 plateau_winsize: 2'),
)
IMAGES, ITERATIONS = 12, 12
#: lines of log after which a training is killed, at most: about five iterations
LINES = 24
#: then it is left alone, so that 30 kills reach all variants
KILLS_OF_A_RUN = 8
NET = """
layer { name: "data" type: "ImageData" top: "data" top: "label" include { phase: TRAIN }
  image_data_param { source: "list.txt" batch_size: 2 shuffle: true } transform_param { mirror: true scale: 0.004 } }
layer { name: "data" type: "ImageData" top: "data" top: "label" include { phase: TEST not_stage: "constant" }
  image_data_param { source: "list.txt" batch_size: 1 } transform_param { scale: 0.004 } }
layer { name: "data" type: "DummyData" top: "data" top: "label" include { phase: TEST stage: "constant" }
  dummy_data_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } shape { dim: 1 } data_filler { value: 1 } data_filler { } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.01 momentum: 0.9 display: 1 random_seed: 5 solver_mode: CPU
test_iter: 2 test_iter: 1 test_interval: 5 test_state {{ }} test_state {{ stage: "constant" }} max_iter: {iterations}
snapshot_prefix: "{prefix}" {more}
"""


def prepare() -> None:
    """Writes the images, their list and the net into the current directory."""
    draw = np.random.default_rng(0)
    for i in range(IMAGES):
        cv2.imwrite(f"{i}.png", draw.integers(0, 256, (6, 6, 3), np.uint8))
    Path("list.txt").write_text("".join(f"{i}.png {i % 3}\n" for i in range(IMAGES)))
    Path("net.prototxt").write_text(NET)


def piece(prefix: str, workers: int, lines: int | None, delay: float = 0.0) -> bool:
    """Trains until the end, or until SIGKILL `delay` seconds after `lines` lines of the training's log.

    Returns whether it ended by itself. SystemExit if it ended with an error.
    """
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.close(read)
        os.dup2(write, 2)
        os.close(write)
        os.environ["CAFFE_DATA_WORKERS"] = str(workers)
        os._exit(train.main(["-solver", f"{prefix}.prototxt", "-snapshot", "auto", "-keep", "2"]))
    os.close(write)
    text, seen = "", 0
    with open(read, encoding="utf-8", errors="replace") as log:
        for line in log:
            text += line
            seen += seen > 0 or "Starting Optimization" in line
            if lines is not None and seen > lines:
                time.sleep(delay)
                os.kill(child, signal.SIGKILL)
                break
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"a training failed:\n{text}")
    return os.WIFEXITED(status)


def end_of(prefix: str) -> dict[str, object]:
    """What a run leaves: the last weights and solver state, and which test was the best."""
    (path,) = Path().glob(f"{prefix}_iter_{ITERATIONS}.solverstate*")
    state = read_solver_state(str(path))
    return {
        "weights": [blob.tobytes() for layer in read_weights(state.learned_net) for blob in layer.blobs],
        "history": [np.asarray(blob).tobytes() for blob in state.history],
        "schedule": (state.iter, state.current_step, state.minimum_loss, state.iter_last_event),
        "best": Path(f"{prefix}_best.json").read_text(),
    }


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
        workers, more = VARIANTS[runs % len(VARIANTS)]
        whole, pieces = (f"{what}_{os.getpid()}_{runs:04}" for what in ("whole", "pieces"))
        for prefix in (whole, pieces):
            Path(f"{prefix}.prototxt").write_text(SOLVER.format(iterations=ITERATIONS, prefix=prefix, more=more))
        piece(whole, workers, None)
        for _ in range(KILLS_OF_A_RUN):
            if piece(pieces, workers, draw.randint(1, LINES), draw.uniform(0, 0.01)):
                break
            kills += 1
        else:
            piece(pieces, workers, None)
        expected, found = end_of(whole), end_of(pieces)
        if differ := [what for what in expected if expected[what] != found[what]]:
            print(f"run {runs} ({workers} workers, {more}) differs from a whole one in: {', '.join(differ)}")
            return 1
        runs += 1
        for path in [*Path().glob(f"{whole}*"), *Path().glob(f"{pieces}*")]:
            path.unlink()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(each.ru_utime + each.ru_stime for each in used)
    print(f"{kills} kills in {runs} runs: each ended bit for bit as a whole one ({seconds:.0f} s of processor time)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
