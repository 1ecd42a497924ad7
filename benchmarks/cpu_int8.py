"""MDSSD300 in ONNX Runtime, float32 and INT8, at several widths: milliseconds an image on one thread, in turn.

Weights are random, with the background made likely, and ranges are measured on noise: the times are those of trained
nets, the detections mean nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from report import time_in_turn, write_result

from caffe import log
from caffe.engine.net import Net
from caffe.export.onnx_model import export_onnx, onnx_model
from caffe.export.quantization import quantize
from caffe.proto.text import read_net

ROOT = Path(__file__).resolve().parent.parent
CLASSES = 21
BACKGROUND_BIAS = 5.0
IMAGES = 4


def make_net(width: str, folder: Path) -> Net:
    """The deploy net of this width."""
    command: list[str | Path] = [sys.executable, ROOT / "prototxt_gen" / "mdssd300.py", "--width", width]
    command += ["--num_test_images", "1", "--output", folder]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    with log.quiet():
        net = Net(read_net(folder / "deploy.prototxt"), 1)
    for step in net.steps:
        if step.layer.name.endswith("_mbox_conf"):
            step.layer.blobs[1].data.view(-1, CLASSES)[:, 0] += BACKGROUND_BIAS
    return net


def session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", nargs="+", default=["1/8", "1/4", "1/2", "1"], help="default: 1/8 1/4 1/2 1")
    parser.add_argument("--rounds", type=int, default=10, help="timed runs of each (default: 10)")
    args = parser.parse_args()
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    images = [random.normal(0, 50, (1, 3, 300, 300)).astype(np.float32) for _ in range(IMAGES)]
    figures: dict[str, Any] = {"what": "MDSSD300 in ONNX Runtime, one thread"}
    for width in args.widths:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            net = make_net(width, folder)
            export_onnx(net, folder / "float.onnx")
            quantize(onnx_model(net), folder / "int8.onnx", images)
            sessions = {"float32": session(folder / "float.onnx"), "INT8": session(folder / "int8.onnx")}
            runs = {kind: lambda s=each: s.run(None, {"data": images[0]}) for kind, each in sessions.items()}
            times: dict[str, Any] = dict(time_in_turn(runs, args.rounds))
        times["INT8 / float32"] = round(times["INT8"]["median_ms"] / times["float32"]["median_ms"], 3)
        figures[f"width {width}"] = times
    write_result("cpu_int8", figures)


if __name__ == "__main__":
    main()
