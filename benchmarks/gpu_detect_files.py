"""ImageDetector with MDSSD300 on a GPU, bf16: images a second from JPEG files to boxes, and from memory, as arrays.

Threads decode and resize files of 640 × 480 while the device works on earlier ones. For comparison: the threads alone,
and the same images already decoded in memory, one batch after another (`detect_arrays`).
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from on_gpu import MODELS, deploy_net, need_gpu
from report import write_result

from caffe.engine import acceleration
from caffe.engine.weights import save
from caffe.image_detector import Image, ImageDetector

#: images a second to reach on an H200, with all boxes of each image
GOAL = 2500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3000, help="number of files (default: 3000)")
    parser.add_argument("--batch", type=int, default=32, help="images per batch (default: 32)")
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 8, 16], help="numbers of threads")
    parser.add_argument("--rounds", type=int, default=200, help="timed runs from memory of one image (default: 200)")
    args = parser.parse_args()
    need_gpu()
    figures: dict[str, Any] = {
        "what": f"ImageDetector, MDSSD300, bf16, files of 640 x 480, batch {args.batch}, boxes as arrays",
        "goal with all boxes, images a second": GOAL,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(deploy_net("MDSSD300"), folder / "net.caffemodel")
        acceleration.use("bf16")
        detector = ImageDetector(MODELS / "MDSSD300" / "VOC" / "deploy.prototxt", folder / "net.caffemodel")
        pictures = write_pictures(folder)
        paths = list(itertools.islice(itertools.cycle(pictures), args.images))
        image = read(pictures[0])
        # random weights find 200 boxes in every image; in a photograph only a few are wanted
        thresholds = {"all boxes": 0.0, "a few boxes": detector.detect([image])[0][9].score}
        for workers in args.workers:
            figure = {"threads alone": round(threads_alone(paths, workers), 1)}
            list(detector.detect_files_arrays(paths[: 4 * args.batch], args.batch, workers=workers))
            for name, threshold in thresholds.items():
                start = time.perf_counter()
                found = detector.detect_files_arrays(paths, args.batch, workers=workers, threshold=threshold)
                boxes = sum(len(each) for *_, each in found) / len(paths)
                figure[name] = round(len(paths) / (time.perf_counter() - start), 1)
                print(
                    f"{workers} threads, {name} ({boxes:.0f} an image): {figure[name]:.0f} images a second "
                    f"(goal with all boxes on an H200: over {GOAL})",
                    flush=True,
                )
            print(f"{workers} threads alone: {figure['threads alone']:.0f}", flush=True)
            figures[f"{workers} threads"] = figure
        decoded = [read(path) for path in itertools.islice(itertools.cycle(pictures), args.batch)]
        for name, threshold in thresholds.items():
            rate = from_memory(detector, decoded, threshold, max(1, args.rounds // 4))
            print(f"decoded images in memory, {name}: {rate:.0f} images a second", flush=True)
            figures[f"in memory, {name}"] = round(rate, 1)
        took = one_image(detector, image, args.rounds)
        print(f"one image in memory, resizing and boxes in pixels included: {took:.2f} ms")
        figures["one image in memory, ms"] = round(took, 3)
    write_result("gpu_detect_files", figures)


def write_pictures(folder: Path, count: int = 100) -> list[Path]:
    """JPEGs of smooth noise, whose decoding takes about as long as a photograph's."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{i}.jpg" for i in range(count)]
    for path in paths:
        noise = cv2.GaussianBlur(rng.integers(0, 256, (480, 640, 3), np.uint8), (0, 0), 2)
        cv2.imwrite(str(path), cv2.convertScaleAbs(noise, alpha=4, beta=-380))
    return paths


def read(path: Path) -> Image:
    """H×W×3, uint8."""
    image = cv2.imread(str(path))
    assert image is not None
    return image.astype(np.uint8)


def from_memory(detector: ImageDetector, batch: list[Image], threshold: float, rounds: int) -> float:
    """Images a second from decoded images to their boxes in pixels; each batch is waited for."""
    times = []
    warm_up = rounds // 10
    for i in range(rounds + warm_up):
        start = time.perf_counter()
        detector.detect_arrays(batch, threshold)
        if i >= warm_up:
            times.append(time.perf_counter() - start)
    return len(batch) / statistics.median(times)


def threads_alone(paths: list[Path], workers: int) -> float:
    """Images a second of decoding and resizing alone."""
    cv2.setNumThreads(1 if workers > 1 else os.cpu_count() or 1)

    with ThreadPoolExecutor(workers) as pool:
        start = time.perf_counter()
        for _ in pool.map(lambda path: cv2.resize(read(path), (300, 300)), paths):
            pass
        return len(paths) / (time.perf_counter() - start)


def one_image(detector: ImageDetector, image: Image, rounds: int) -> float:
    """Milliseconds from an image in the host's memory to its boxes."""
    times = []
    warm_up = rounds // 10
    for i in range(rounds + warm_up):
        start = time.perf_counter()
        detector.detect([image])
        if i >= warm_up:
            times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


if __name__ == "__main__":
    main()
