"""On the CPU: nets whose convolutions of the same blob are one (caffe/engine/merged.py), beside the same nets without.

Both are packed as ImageDetector packs them. They run in turn, and the processor time of one thread is measured, so that
other work matters less. Detections are compared first.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from cpu_peers import make_engine, read_deploy
from report import write_result

from caffe.data.feed.memory import keep_freed_memory
from caffe.engine.merged import merge
from caffe.engine.net import Net
from caffe.engine.prepack import prepack


@torch.inference_mode()
def seconds(net: Net, data: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Processor time of a pass, and its detections."""
    start = time.process_time()
    rows = net({"data": data})[1]["detection_out"]
    return time.process_time() - start, rows


def compare(network: str, batch: int, rounds: int) -> dict[str, Any]:
    """The times of both ways, and their ratio in each round."""
    param = read_deploy(network, batch)
    separate = make_engine(param)
    merged = Net(param, phase=1)
    merged.load_state_dict(separate.state_dict())
    merged.inference_steps = merge(merged.steps, share=True)
    count = len(separate.steps) - len(merged.inference_steps)
    for net in (separate, merged):
        net.inference_steps = prepack(net)
    data = torch.randn(separate.blobs["data"].shape, generator=torch.Generator().manual_seed(0)) * 50
    expected, found = (seconds(net, data)[1] for net in (separate, merged))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    times = []
    for i in range(rounds):
        order = (separate, merged) if i % 2 else (merged, separate)
        took = {id(net): seconds(net, data)[0] for net in order}
        times.append((took[id(separate)], took[id(merged)]))
    ratios = sorted(after / before for before, after in times)
    return {
        "steps saved": count,
        "separate, s": round(statistics.median(before for before, _ in times), 4),
        "merged, s": round(statistics.median(after for _, after in times), 4),
        "merged / separate: lower quartile, median, upper quartile": [
            round(value, 4) for value in statistics.quantiles(ratios, n=4, method="inclusive")
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["MDSSD300", "SSD300", "MDSSD512"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], help="images in a pass (default: 1 and 8)")
    parser.add_argument("--rounds", type=int, default=40, help="timed rounds at batch 1 (default: 40)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    figures: dict[str, Any] = {"what": "processor time of a pass with convolutions of the same blob as one, one thread"}
    for network in args.networks:
        for batch in args.batches:
            torch.manual_seed(0)
            name = f"{network}, batch {batch}"
            figures[name] = compare(network, batch, max(4, args.rounds // batch))
            print(f"{name}: {figures[name]}", flush=True)
    write_result("cpu_merged", figures)


if __name__ == "__main__":
    main()
