"""On the CPU: nets whose convolutions of the same blob are one (caffe/engine/merged.py), beside the same nets without.

Both are packed as ImageDetector packs them. Their detections are compared; then whole passes run in turn, and these
convolutions alone on the blobs of a pass, which differ more clearly. The processor time of one thread is measured, so
that other work matters less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from cpu_peers import make_engine, read_deploy
from report import write_result
from torch import Tensor

from caffe.data.feed.memory import keep_freed_memory
from caffe.engine.merged import MergedConvolution, merge
from caffe.engine.net import Net
from caffe.engine.prepack import prepack
from caffe.engine.wiring import Step


def in_turn(runs: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Processor time of each run in each round, in milliseconds."""
    times: list[list[float]] = [[] for _ in runs]
    for i in range(rounds):
        for j in range(len(runs)):
            place = (i + j) % len(runs)
            start = time.process_time()
            runs[place]()
            times[place].append((time.process_time() - start) * 1e3)
    return times


def pass_of(net: Net, data: dict[str, Tensor]) -> Tensor:
    rows: Tensor = net(data)[1]["detection_out"]
    return rows


def part_of(net: Net, names: set[str], data: dict[str, Tensor]) -> Callable[[], object]:
    """A run of the layers of these names alone, on their bottoms in a pass."""
    steps: list[Step] = [step for step in net.inference_steps if step.layer.name in names]
    tops = {top for step in steps for top in step.tops}
    bottoms = {bottom for step in steps for bottom in step.bottoms} - tops
    blobs = net(data, bottoms)[1]
    return lambda: net.run_steps(steps, {name: blobs[name] for name in bottoms}, frozenset(), {})


@torch.inference_mode()
def compare(network: str, batch: int, rounds: int) -> dict[str, Any]:
    """The times of both ways."""
    param = read_deploy(network, batch)
    separate = make_engine(param)
    merged = Net(param, phase=1)
    merged.load_state_dict(separate.state_dict())
    merged.inference_steps = merge(merged.steps)
    together = {step.layer.name for step in merged.inference_steps if isinstance(step.layer, MergedConvolution)}
    alone = {name for names in together for name in names.split(" + ")}
    for net in (separate, merged):
        net.inference_steps = prepack(net)
    data = {"data": torch.randn(separate.blobs["data"].shape, generator=torch.Generator().manual_seed(0)) * 50}
    torch.testing.assert_close(pass_of(merged, data), pass_of(separate, data), rtol=1e-4, atol=1e-4)
    whole = in_turn([partial(pass_of, net, data) for net in (separate, merged)], rounds)
    parts = in_turn([part_of(separate, alone, data), part_of(merged, together, data)], 10 * rounds)
    before, after = (min(times) for times in parts)
    return {
        "these convolutions, separate and merged": [len(alone), len(together)],
        "their ms, separate and merged": [round(before, 2), round(after, 2)],
        "ms of a pass, separate and merged": [round(statistics.median(times), 1) for times in whole],
        "saved, as part of a pass": round((before - after) / min(whole[0]), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["MDSSD300", "SSD300", "MDSSD512"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], help="images in a pass (default: 1 and 8)")
    parser.add_argument("--rounds", type=int, default=16, help="timed passes at batch 1 (default: 16)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    figures: dict[str, Any] = {
        "what": "convolutions of the same blob, separate and as one; processor time of one thread"
    }
    for network in args.networks:
        for batch in args.batches:
            torch.manual_seed(0)
            name = f"{network}, batch {batch}"
            figures[name] = compare(network, batch, max(4, args.rounds // batch))
            print(f"{name}: {figures[name]}", flush=True)
    write_result("cpu_merged", figures)


if __name__ == "__main__":
    main()
