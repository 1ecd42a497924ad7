"""A 319 MB .caffemodel into a net's parameters and out again: this project's reader and writer against protobuf's own.

Each round is a separate process, so that its peak memory is that of one load or save. The parameters are
allocated and touched before the clock starts; memory is counted on top of them. A mapped file's pages count, although
the system can reclaim them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from report import write_result
from tqdm import tqdm

from caffe.proto import caffe_pb2
from caffe.proto.weights import read_weights, write_weights

BLOBS = [(64, 3, 3, 3)] + [(512, 512, 3, 3)] * 10 + [(1024, 512, 3, 3), (1024, 1024, 7, 7)]
"""Shapes like VGG's, one layer each: 79.7 million weights, 319 MB."""

Blobs = list[list[np.ndarray]]


def outline() -> caffe_pb2.NetParameter:
    net = caffe_pb2.NetParameter(name="benchmark")
    for index in range(len(BLOBS)):
        net.layer.add(name=f"conv{index}", type="Convolution", bottom=["x"], top=["x"])
    return net


def parameters() -> Blobs:
    rng = np.random.default_rng(0)
    return [[rng.standard_normal(shape, np.float32)] for shape in BLOBS]


def read_ours(path: Path, into: Blobs) -> None:
    for layer, blobs in zip(read_weights(path), into, strict=True):
        for source, target in zip(layer.blobs, blobs, strict=True):
            np.copyto(target, source)


def read_protobuf(path: Path, into: Blobs) -> None:
    net = caffe_pb2.NetParameter.FromString(path.read_bytes())
    for layer, blobs in zip(net.layer, into, strict=True):
        for source, target in zip(layer.blobs, blobs, strict=True):
            target[...] = np.array(source.data, np.float32).reshape(tuple(source.shape.dim))


def write_ours(path: Path, blobs: Blobs) -> None:
    write_weights(path, outline(), blobs)


def write_protobuf(path: Path, blobs: Blobs) -> None:
    net = outline()
    for layer, arrays in zip(net.layer, blobs, strict=True):
        for array in arrays:
            blob = layer.blobs.add()
            blob.shape.dim.extend(array.shape)
            blob.data.extend(array.reshape(-1).tolist())
    path.write_bytes(net.SerializeToString())
    with open(path, "rb") as file:
        os.fsync(file.fileno())


CASES: dict[str, Callable[[Path, Blobs], None]] = {
    "read": read_ours,
    "read, protobuf": read_protobuf,
    "write": write_ours,
    "write, protobuf": write_protobuf,
}


def peak_mb() -> float:
    """This process's peak so far. (getrusage's counts the parent's from before exec, too.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def one(case: str, path: Path) -> None:
    """A child's work: one load or save; seconds and megabytes as JSON on stdout."""
    blobs = parameters()
    before = peak_mb()
    start = time.perf_counter()
    CASES[case](path, blobs)
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, peak_mb() - before]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="processes for each case (default: 3)")
    parser.add_argument("--folder", help="where the files go (default: a temporary folder)")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        one(args.case, Path(args.folder))
        return
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "given.caffemodel"
        blobs = parameters()
        write_ours(path, blobs)
        size = path.stat().st_size
        write_protobuf(Path(folder) / "peer.caffemodel", blobs)
        assert path.read_bytes() == (Path(folder) / "peer.caffemodel").read_bytes(), "the two files differ"
        del blobs
        figures["file_mb"] = round(size / 1e6, 1)
        for case in tqdm(CASES, disable=None):
            target = path if case.startswith("read") else Path(folder) / "written.caffemodel"
            command = [sys.executable, __file__, "--case", case, "--folder", str(target)]
            rounds = [
                json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(args.rounds)
            ]
            figures[case] = {
                "seconds": round(statistics.median(r[0] for r in rounds), 3),
                "memory_times_file": round(max(r[1] for r in rounds) * 1e6 / size, 2),
            }
    write_result("cpu_weights_io", figures)


if __name__ == "__main__":
    main()
