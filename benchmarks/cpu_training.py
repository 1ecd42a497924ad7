"""A training iteration of the narrow MDSSD300 of the demo on the CPU: where its time goes, and two memory formats.

Forward and backward on a batch of 8 made images at an eighth of the channels, in Caffe's order of axes and channels-last
in turn. The losses are compared first. Then the share of each kind of operator, channels-last.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch
from report import time_in_turn, write_result
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from caffe import log
from caffe.data.feed.memory import keep_freed_memory
from caffe.engine.net import Net
from caffe.proto.caffe_pb2 import NetParameter
from caffe.proto.text import read_net

ROOT = Path(__file__).resolve().parent.parent
BATCH, OBJECTS, CLASSES = 8, 32, 21
#: operators by the words in their names, in this order; the rest is "other"
KINDS = {
    "convolutions and deconvolutions, backward": ("convolution_backward", "conv2d_backward"),
    "convolutions and deconvolutions, forward": ("convolution", "conv2d"),
    "ReLU": ("threshold", "clamp_min", "relu"),
    "pooling": ("pool",),
    "MultiBoxLoss": ("multibox",),
    "normalization": ("normalize",),
}


def train_net() -> NetParameter:
    """The training net that the generator writes, with an Input layer in place of its data."""
    with tempfile.TemporaryDirectory() as folder:
        command: list[str | Path] = [
            sys.executable,
            ROOT / "prototxt_gen" / "mdssd300.py",
            "--width",
            "1/8",
            "--gpus",
            "none",
        ]
        command += ["--batch", str(BATCH), "--num_test_images", "1", "--output", folder]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        net = read_net(Path(folder) / "train.prototxt")
    data = net.layer[0]
    data.Clear()
    data.name, data.type = "data", "Input"
    data.top.extend(["data", "label"])
    for shape in ((BATCH, 3, 300, 300), (1, 1, OBJECTS, 8)):
        data.input_param.shape.add().dim.extend(shape)
    return net


def batch(seed: int) -> dict[str, Tensor]:
    """Images of noise, and labels of four objects each."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.zeros(1, 1, OBJECTS, 8)
    size = 0.05 * 8 ** torch.rand(OBJECTS, 2, generator=generator)
    corner = torch.rand(OBJECTS, 2, generator=generator) * (1 - size)
    label[0, 0, :, 0] = torch.arange(OBJECTS) * BATCH // OBJECTS
    label[0, 0, :, 1] = torch.randint(1, CLASSES, (OBJECTS,), generator=generator)
    label[0, 0, :, 3:7] = torch.cat([corner, corner + size], 1)
    return {"data": torch.randn(BATCH, 3, 300, 300, generator=generator) * 50, "label": label}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="timed rounds of each (default: 10)")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    torch.manual_seed(0)
    with log.quiet():
        net = Net(train_net(), 0)
    planes = batch(0)
    last = {**planes, "data": planes["data"].contiguous(memory_format=torch.channels_last)}

    def iteration(inputs: dict[str, Tensor]) -> float:
        loss, _ = net(inputs)
        loss.backward()
        for parameter in net.learnable_params:
            parameter.grad = None
        return float(loss.detach())

    first, second = iteration(planes), iteration(last)
    assert abs(first - second) < 1e-4 * abs(first), (first, second)
    figures = time_in_turn(
        {"Caffe's order of axes": lambda: iteration(planes), "channels-last": lambda: iteration(last)}, args.rounds
    )
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(3):
            iteration(last)
    spent: Counter[str] = Counter()
    for event in found.key_averages():
        kind = next((kind for kind, words in KINDS.items() if any(word in event.key for word in words)), "other")
        spent[kind] += event.self_cpu_time_total
    total = sum(spent.values())
    shares = {kind: round(time / total, 3) for kind, time in spent.most_common()}
    write_result("cpu_training", {"iteration": figures, "share of the time, channels-last": shares})


if __name__ == "__main__":
    main()
