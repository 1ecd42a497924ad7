"""Writes small pictures of one object each, or of none, with labels, to pretrain the backbone on.

They take the place that ImageNet has for SSD: pictures of single things are cheaper to learn from than whole scenes.
Writes OUTPUT/images/*.jpg and OUTPUT/list.txt, `path label` a line, label 0 for a picture of nothing.

    python demo/pretrain/crops.py --output crops --count 24000 --seed 1001
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

sys.path.append(str(Path(__file__).resolve().parent.parent.parent))

from demo.objects import PAINTERS
from demo.scenes import Thing, background, paint

SIDE = 64


def crop(seed: int, index: int) -> tuple[np.ndarray, int]:
    """Picture (64×64×3, BGR, uint8) and label of one place in the list."""
    rng = np.random.default_rng([seed, index])
    names = list(PAINTERS)
    image, things = background(rng, SIDE, SIDE), list[Thing]()
    if rng.random() < 0.5:  # something smaller, of any kind, behind or next to it
        paint(rng, image, [], str(rng.choice(names)), int(rng.integers(10, 30)))
    label = int(rng.integers(len(names) + 1))
    if label > 0:
        side = int(np.exp(rng.uniform(np.log(20), np.log(72))))
        while not things:  # too little of it may be inside
            paint(rng, image, things, names[label - 1], side)
    image = image * rng.uniform(0.75, 1.15) + rng.uniform(-12, 12)
    return np.clip(image, 0, 255).astype(np.uint8), label


def write_one(folder: Path, seed: int, index: int) -> str:
    cv2.setNumThreads(1)
    image, label = crop(seed, index)
    name = f"images/{index:06d}.jpg"
    if not cv2.imwrite(str(folder / name), image):
        raise OSError(f"cannot write {folder / name}")
    return f"{name} {label}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="directory to write")
    parser.add_argument("--count", type=int, default=20000, help="pictures (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other pictures (default: %(default)s)")
    options = parser.parse_args()
    (options.output / "images").mkdir(parents=True, exist_ok=True)
    with multiprocessing.Pool() as pool:
        lines = pool.imap(partial(write_one, options.output, options.seed), range(options.count), chunksize=64)
        (options.output / "list.txt").write_text("".join(tqdm(lines, "crops", options.count, unit="image")))


if __name__ == "__main__":
    main()
