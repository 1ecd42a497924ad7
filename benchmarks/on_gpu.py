"""Shared by the GPU benchmarks: exit without a GPU, nets with data in device memory, the device's matrix rate."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from caffe.engine import acceleration
from caffe.engine.net import Net
from caffe.engine.prepack import prepack
from caffe.proto.text import read_net
from caffe.runtime import runtime

MODELS = Path(__file__).resolve().parent.parent / "models"
#: multiplications and additions of one MDSSD300 forward: 2 x 67.03 G, of its convolutions alone
FORWARD_OPERATIONS = 2 * 67.03e9
CLASSES = 21


def need_gpu() -> None:
    """Ends the program, successfully, on a machine without a GPU; otherwise nets are made on it from now on."""
    if not torch.cuda.is_available():
        print(f"{Path(sys.argv[0]).name}: needs a GPU, but there is none")
        sys.exit(0)
    from caffe import _C

    if not _C.has_cuda:
        print(f"{Path(sys.argv[0]).name}: needs the CUDA layers; install with nvcc on PATH (docs/gpus.md)")
        sys.exit(1)
    runtime.mode_gpu = True


def begin(description: str | None, what: str) -> tuple[int, float, dict[str, Any]]:
    """The batch size from the command line, the device's matrix rate, and a dictionary of figures with both."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32, help="images (default: 32)")
    batch = parser.parse_args().batch
    need_gpu()
    rate = matrix_rate()
    return batch, rate, {"what": f"{what}, batch {batch}, bf16", "bf16 matrix TFLOP/s": rate / 1e12}


def milliseconds(run: Callable[[], object], rounds: int = 50, warm_up: int = 10) -> float:
    """The median time of a run by the device's clock, with the host kept at most one run ahead."""
    for _ in range(warm_up):
        run()
    times: list[float] = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def matrix_rate(size: int = 8192) -> float:
    """Operations a second of a bf16 product of square matrices, as measured, not as in the data sheet."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / (milliseconds(lambda: a @ b, rounds=30) / 1e3)


def deploy_net(name: str, background_bias: float = 5.0, *, merging: bool = True) -> Net:
    """models/<name>/VOC/deploy.prototxt as in ImageDetector: random weights, a likely background.

    merging: see caffe.engine.prepack.prepack.
    """
    torch.manual_seed(0)
    net = Net(read_net(MODELS / name / "VOC" / "deploy.prototxt"), phase=1)
    for step in net.steps:
        if step.layer.name.endswith("_mbox_conf"):
            step.layer.blobs[1].data.view(-1, CLASSES)[:, 0] += background_bias
    net.inference_steps = prepack(net, merging=merging)
    return net


def training_net(name: str, batch: int) -> Net:
    """models/<name>/VOC/train.prototxt with an Input instead of its data layer."""
    param = read_net(MODELS / name / "VOC" / "train.prototxt")
    data = next(layer for layer in param.layer if layer.type == "AnnotatedData")
    size = data.transform_param.resize_param.height
    data.Clear()
    data.name, data.type = "data", "Input"
    data.top.extend(["data", "label"])
    for shape in ((batch, 3, size, size), (1, 1, 1, 8)):
        data.input_param.shape.add().dim.extend(shape)
    torch.manual_seed(0)
    return Net(param, phase=0)


def training_batch(net: Net, boxes_an_image: int = 3) -> dict[str, Tensor]:
    """Images and boxes in device memory."""
    batch, channels, height, width = net.blobs["data"].shape
    generator = torch.Generator().manual_seed(0)
    rows = torch.zeros(batch * boxes_an_image, 8)
    rows[:, 0] = torch.arange(batch).repeat_interleave(boxes_an_image)
    rows[:, 1] = torch.randint(1, CLASSES, (len(rows),), generator=generator)
    rows[:, 3:5] = torch.rand(len(rows), 2, generator=generator) * 0.6
    rows[:, 5:7] = rows[:, 3:5] + 0.05 + torch.rand(len(rows), 2, generator=generator) * 0.3
    return {
        "data": images(batch, height, channels=channels, width=width),
        "label": rows.reshape(1, 1, -1, 8).to(runtime.device),
    }


def images(batch: int, height: int, *, channels: int = 3, width: int | None = None) -> Tensor:
    """Random images in device memory, with the mean already subtracted."""
    pixels = torch.randn(batch, channels, height, width or height, device=runtime.device) * 50
    return pixels.contiguous(memory_format=acceleration.memory_format(runtime.device))
