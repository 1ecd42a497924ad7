"""Batch 1 on a GPU: images a second from an image in device memory to boxes in host memory, MDSSD300 and MDSSD512.

Each run waits for its boxes, as a camera's would. The same nets with separate convolutions for each source's places and
confidences, which are otherwise one (caffe/engine/merged.py), run in turn with them, after their boxes have been
compared. Tuned: with cuDNN's fastest algorithms, and on several streams where that is faster (caffe/engine/streams.py);
the time on several streams relative to one is among the figures. With --kernels: where the device's time goes, kernel by
kernel, as a table and as results/gpu_batch1_kernels.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from typing import Any

import torch
from kernels import Kernel, profile, table
from on_gpu import deploy_net, images, need_gpu
from report import write_result
from torch import Tensor

from caffe.engine import acceleration
from caffe.engine.net import Net

#: images a second to reach on an H200
GOALS = {"MDSSD300": 1000, "MDSSD512": 250}
#: how the nets run: as a suffix of the figures' names, and whether convolutions of the same blob are merged
WAYS = {"": True, ", separate convolutions": False}

#: what a figure's name adds for them
MODES: dict[str, dict[str, bool]] = {
    "": {},
    ", CUDA graph": {"graph": True},
    ", CUDA graph, tuned": {"graph": True, "tune": True},
}
COMPILED = {", CUDA graph, compiled": {"graph": True, "compile": True}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200, help="timed runs of each (default: 200)")
    parser.add_argument("--precisions", nargs="+", default=acceleration.PRECISIONS, choices=acceleration.PRECISIONS)
    parser.add_argument("--kernels", action="store_true", help="also say which kernels take how long")
    parser.add_argument("--compile", action="store_true", help="also run the nets compiled, as CUDA graphs (minutes)")
    args = parser.parse_args()
    need_gpu()
    modes = {**MODES, **(COMPILED if args.compile else {})}
    figures: dict[str, Any] = {"what": "images a second, batch 1, device memory to boxes", "goals": GOALS}
    tables: dict[str, Any] = {"what": "microseconds and calls of each kernel in a pass at batch 1"}
    for name, goal in GOALS.items():
        for precision in args.precisions:
            for mode, settings in modes.items():
                how = f"{name}, {precision}{mode}"
                acceleration.use(precision, **settings)
                nets = {way: deploy_net(name, merging=merging) for way, merging in WAYS.items()}
                data = {"data": images(1, nets[""].blobs["data"].shape[2])}
                figures[f"{how}: boxes that differ"] = differing(*(boxes(net, data) for net in nets.values()))
                for way, rate in images_a_second(nets, data, args.rounds).items():
                    print(f"{how}{way}: {rate:.0f} images a second (goal on an H200: over {goal})", flush=True)
                    figures[how + way] = round(rate, 1)
                graphed = nets[""]._cuda_graph
                if graphed is not None and graphed.several_to_one is not None:
                    print(f"{how}: time on several streams / on one: {graphed.several_to_one:.3f}", flush=True)
                    figures[f"{how}: several streams / one"] = round(graphed.several_to_one, 3)
                if args.kernels and not settings.get("graph"):
                    passes = min(20, args.rounds)
                    found = {way: profile(partial(boxes, net, data), passes) for way, net in nets.items()}
                    tables[how] = {(way or ", merged")[2:]: summary(each) for way, each in found.items()}
                    merged, separate = found.values()
                    print(f"\n{how}: merged and separate convolutions\n{table(merged, separate)}\n", flush=True)
    acceleration.use()
    write_result("gpu_batch1", figures)
    if args.kernels:
        write_result("gpu_batch1_kernels", tables)


@torch.no_grad()
def boxes(net: Net, data: dict[str, Tensor]) -> Tensor:
    """Detections in host memory, K x 7."""
    rows: Tensor = net(data)[1]["detection_out"]
    return rows.cpu().reshape(-1, 7)


def differing(rows: Tensor, expected: Tensor) -> int:
    """The number of boxes that have no counterpart whose score and corners are within 0.02."""
    near = (rows[:, None, 2:] - expected[None, :, 2:]).abs().amax(2) < 0.02
    return int((~(near & (rows[:, None, 1] == expected[None, :, 1])).any(1)).sum())


def images_a_second(nets: dict[str, Net], data: dict[str, Tensor], rounds: int) -> dict[str, float]:
    """The rate of each net by its median time; they run in turn."""
    times: dict[str, list[float]] = {way: [] for way in nets}
    warm_up = max(2, rounds // 10)
    for i in range(rounds + warm_up):
        for way, net in nets.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            boxes(net, data)
            if i >= warm_up:
                times[way].append(time.perf_counter() - start)
    return {way: 1 / statistics.median(each) for way, each in times.items()}


def summary(kernels: dict[str, Kernel]) -> dict[str, Any]:
    """A table for the result file: the sums, and each kernel."""
    return {
        "kernels": sum(kernel.calls for kernel in kernels.values()),
        "microseconds": round(sum(kernel.microseconds for kernel in kernels.values()), 1),
        "each": {name: [round(kernel.microseconds, 2), kernel.calls] for name, kernel in kernels.items()},
    }


if __name__ == "__main__":
    main()
