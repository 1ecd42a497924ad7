"""DetectionOutput on the CPU: MDSSD300, batch 8, 21 classes, about 81,000 scores per image over the threshold.

Compared with a plain PyTorch version and OpenCV's suppression (with NumPy before and after it), which give the same
detections.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from detection_scene import CANDIDATES, CLASSES, PRIORS, SETTINGS, scene
from report import time_in_turn, write_result
from torch import Tensor

from caffe.ops.detection_output import detection_output

NMS, TOP_K, KEEP = SETTINGS["nms_threshold"], SETTINGS["top_k"], SETTINGS["keep_top_k"]


def decoded(loc: Tensor, prior: Tensor) -> Tensor:
    """Every box of a batch, N×P×4."""
    box, variance = prior.reshape(2, -1, 4)
    size, center = box[:, 2:] - box[:, :2], (box[:, :2] + box[:, 2:]) / 2
    code = loc.reshape(len(loc), -1, 4) * variance
    center, half = center + code[..., :2] * size, code[..., 2:].exp() * size / 2
    return torch.cat([center - half, center + half], -1)


def in_torch(loc: Tensor, conf: Tensor, prior: Tensor, threshold: float) -> int:
    """Top-k per class, the matrix of overlaps, greedy suppression over its rows. Returns the number of boxes kept."""
    total = 0
    for boxes, scores in zip(decoded(loc, prior), conf.reshape(len(conf), -1, CLASSES), strict=True):
        kept_scores = []
        for c in range(1, CLASSES):
            candidates = (scores[:, c] > threshold).nonzero()[:, 0]
            values, order = scores[candidates, c].topk(min(TOP_K, len(candidates)))
            b = boxes[candidates[order]]
            area = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
            sides = (
                torch.minimum(b[:, None, 2:], b[None, :, 2:]) - torch.maximum(b[:, None, :2], b[None, :, :2])
            ).clamp(0)
            shared = sides[..., 0] * sides[..., 1]
            over = (shared / (area[:, None] + area[None] - shared) > NMS).numpy()
            gone = np.zeros(len(b), bool)
            for i in range(len(b)):
                if not gone[i]:
                    gone[i + 1 :] |= over[i, i + 1 :]
            kept_scores.append(values[torch.from_numpy(~gone)])
        total += min(KEEP, sum(map(len, kept_scores)))
        torch.cat(kept_scores).topk(min(KEEP, sum(map(len, kept_scores))))
    return total


def in_opencv(loc: Tensor, conf: Tensor, prior: Tensor, threshold: float) -> int:
    """cv2.dnn.NMSBoxes per class, as a detector around OpenCV would use it. Returns the number of boxes kept."""
    total = 0
    for boxes, scores in zip(decoded(loc, prior).numpy(), conf.reshape(len(conf), -1, CLASSES).numpy(), strict=True):
        rectangles: Any = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
        found = []
        for c in range(1, CLASSES):
            candidates = np.flatnonzero(scores[:, c] > threshold)
            of_class = scores[candidates, c]
            kept = cv2.dnn.NMSBoxes(rectangles[candidates], of_class, threshold, NMS, top_k=TOP_K)
            found.append(of_class[np.asarray(kept, int)])
        total += len(np.sort(np.concatenate(found))[::-1][:KEEP])
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8, help="images (default: 8)")
    parser.add_argument("--rounds", type=int, default=10, help="measured rounds (default: 10)")
    parser.add_argument("--threads", type=int, default=2, help="threads (default: 2)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    loc, conf, prior, threshold = scene(args.batch)

    def ours() -> int:
        return len(detection_output(loc, conf, prior, confidence_threshold=threshold, **SETTINGS))

    candidates: dict[str, Callable[[], int]] = {
        "this project": ours,
        "plain PyTorch": lambda: in_torch(loc, conf, prior, threshold),
        "NumPy and OpenCV's NMSBoxes": lambda: in_opencv(loc, conf, prior, threshold),
    }

    def on_threads(count: int) -> Callable[[], int]:
        def run() -> int:
            torch.set_num_threads(count)
            return ours()

        return run

    ours()
    start = time.process_time()
    for _ in range(args.rounds):
        ours()
    cpu_ms = (time.process_time() - start) * 1e3 / args.rounds
    kept = {name: run() for name, run in candidates.items()}
    assert len(set(kept.values())) == 1, f"they keep different numbers of boxes: {kept}"
    figures = {
        "load of the machine before": os.getloadavg()[0],
        "batch": args.batch,
        "priors": PRIORS,
        "classes": CLASSES,
        "scores over the threshold an image": CANDIDATES,
        "detections": kept["this project"],
        "this project, processor time of all threads, ms": cpu_ms,
        "alone": time_in_turn({f"{n} threads": on_threads(n) for n in (1, args.threads)}, 30 * args.rounds),
        "in turn, on all threads": time_in_turn(candidates, args.rounds, warmup=0),
    }
    write_result("cpu_detection_output", figures)


if __name__ == "__main__":
    main()
