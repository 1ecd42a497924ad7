"""DetectionOutput on a GPU, eager and as a graph: MDSSD300, 21 classes, about 81,000 scores per image."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch
from detection_scene import CANDIDATES, CLASSES, PRIORS, SETTINGS, scene
from report import time_in_turn, write_result

from caffe.ops.detection_output import detection_output_static


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32], help="images (default: 1 8 32)")
    parser.add_argument("--rounds", type=int, default=50, help="measured rounds (default: 50)")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this benchmark needs a GPU")
    figures: dict[str, object] = {
        "priors": PRIORS,
        "classes": CLASSES,
        "scores over the threshold an image": CANDIDATES,
    }
    for batch in args.batches:
        *inputs, threshold = scene(batch)
        loc, conf, prior = (t.cuda() for t in inputs)

        def run(inputs: tuple[torch.Tensor, ...] = (loc, conf, prior), threshold: float = threshold) -> None:
            detection_output_static(*inputs, confidence_threshold=threshold, **SETTINGS)

        def eager(run: Callable[[], None] = run) -> None:
            run()
            torch.cuda.synchronize()

        eager()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()

        def replay(graph: torch.cuda.CUDAGraph = graph) -> None:
            graph.replay()
            torch.cuda.synchronize()

        figures[f"batch {batch}"] = time_in_turn({"eager": eager, "CUDA graph": replay}, args.rounds)
    write_result("gpu_detection_output", figures)


if __name__ == "__main__":
    main()
