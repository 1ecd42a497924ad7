"""Batch 1 on a GPU: images a second from an image in device memory to boxes in host memory, MDSSD300 and MDSSD512.

Each run waits for its boxes, as a camera's would.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from on_gpu import deploy_net, images, need_gpu
from report import write_result

from caffe.engine import acceleration

#: images a second to reach on an H200
GOALS = {"MDSSD300": 500, "MDSSD512": 250}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200, help="timed runs of each (default: 200)")
    args = parser.parse_args()
    need_gpu()
    figures = {}
    for name, goal in GOALS.items():
        for precision in acceleration.PRECISIONS:
            for graph in (False, True):
                rate = images_a_second(name, precision, graph, args.rounds)
                how = f"{precision}{', CUDA graph' if graph else ''}"
                print(f"{name}, batch 1, {how}: {rate:.0f} images a second (goal on an H200: over {goal})", flush=True)
                figures[f"{name}, {how}"] = round(rate, 1)
    write_result("gpu_batch1", {"what": "images a second, batch 1, device memory to boxes", "goals": GOALS, **figures})


@torch.no_grad()
def images_a_second(name: str, precision: str, graph: bool, rounds: int) -> float:
    acceleration.use(precision, graph=graph)
    net = deploy_net(name)
    data = {"data": images(1, net.blobs["data"].shape[2])}
    times = []
    for i in range(rounds + 20):
        torch.cuda.synchronize()
        start = time.perf_counter()
        net(data)[1]["detection_out"].cpu()
        if i >= 20:
            times.append(time.perf_counter() - start)
    acceleration.use()
    return 1 / statistics.median(times)


if __name__ == "__main__":
    main()
