"""Writes a data set of synthetic scenes in the layout of PASCAL VOC: images, annotations, train and test lists.

Each picture has a textured background with clutter and one to eight objects of the six kinds in objects.py, from under
16 pixels to half the picture, shaded, with shadows, overlapping and cut off at the border. Picture `index` of a split
depends only on (seed, split, index), so a larger data set with the same seed starts with the smaller one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

# first, because demo.py beside this program would be taken for the package
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from demo.objects import PAINTERS

#: the lists of ImageSets/Main, with VOC's names
SPLITS = ("trainval", "test")
#: objects of which less than the first share is visible are not annotated; below the second they are difficult
HIDDEN, HARD_TO_SEE = 0.25, 0.5
#: objects with both sides shorter than this, in pixels, are marked difficult
TINY = 10


@dataclass
class Thing:
    """One annotated object: its box in pixels (0-based, end exclusive), where it is visible, whether it is cut off."""

    name: str
    box: tuple[int, int, int, int]
    visible: np.ndarray
    pixels: int
    truncated: bool

    @property
    def shown(self) -> float:
        return float(self.visible.sum()) / self.pixels

    @property
    def difficult(self) -> bool:
        width, height = self.box[2] - self.box[0], self.box[3] - self.box[1]
        return self.shown < HARD_TO_SEE or max(width, height) < TINY


def noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth random texture of several scales, height × width, about −1 to 1."""
    total = np.zeros((height, width), np.float32)
    for cells, weight in ((3, 0.5), (8, 0.3), (24, 0.2), (80, 0.15)):
        coarse = rng.standard_normal((cells, cells)).astype(np.float32)
        total += weight * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return total


def background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Two colors mixed by texture, stripes or tiles, with specks, lines and grain."""
    # Grayish colors, like those of ground, walls and sky.
    gray, tint = rng.uniform(50, 205, (2, 1)), rng.uniform(-35, 35, (2, 3))
    first, second = (gray + tint).astype(np.float32)
    mix = 0.5 + 0.45 * noise(rng, height, width)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    style = rng.integers(4)
    if style == 1:
        angle, period = rng.uniform(0, np.pi), rng.uniform(12, 60)
        mix += 0.25 * np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period)
    elif style == 2:
        side = rng.uniform(14, 50)
        mix += 0.2 * (((x // side + y // side) % 2) - 0.5)
    elif style == 3:
        mix += (y / height - 0.5) * rng.choice([-1, 1])
    image: np.ndarray = first + (second - first) * np.clip(mix, 0, 1)[..., None]
    for _ in range(rng.integers(0, 12)):  # clutter: specks and lines
        color = rng.uniform(30, 225, 3).tolist()
        a, b = (rng.integers(0, (width, height)) for _ in range(2))
        if rng.random() < 0.5:
            cv2.line(image, a.tolist(), (a + (b - a) // 3).tolist(), color, int(rng.integers(1, 4)), cv2.LINE_AA)
        else:
            cv2.ellipse(image, a.tolist(), rng.integers(1, 9, 2).tolist(), 0, 0, 360, color, -1, cv2.LINE_AA)
    image += rng.normal(0, rng.uniform(1, 6), image.shape).astype(np.float32)
    return image


def paint(rng: np.random.Generator, image: np.ndarray, things: list[Thing], name: str, side: int) -> None:
    """Puts one object of `side` pixels on the image, over the others."""
    height, width = image.shape[:2]
    # Drawn large and shrunk, so that edges are smooth at every size.
    large = max(48, 2 * side)
    picture, mask = PAINTERS[name](rng, large)
    picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    mask = cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA)
    light: float = rng.uniform(0.8, 1.15)
    picture = picture * (light * (1 + 0.12 * noise(rng, side, side)[..., None]))
    # Up to a quarter of the square may be outside the image.
    left = int(rng.integers(-side // 4, max(width - 3 * side // 4, 0) + 1))
    top = int(rng.integers(-side // 4, max(height - 3 * side // 4, 0) + 1))
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    full = int((mask > 0.5).sum())
    inside = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    picture, mask = picture[inside], mask[inside]
    solid = mask > 0.5
    if solid.sum() < HIDDEN * full or solid.sum() < 9:
        return

    blur = 2 * (side // 12) + 1
    shift = max(1, side // 20)
    shadow: np.ndarray = np.zeros((height, width), np.float32)
    shadow[y0:y1, x0:x1] = mask
    fall = np.array([[1, 0, shift], [0, 1, shift]], np.float32)
    shadow = cv2.GaussianBlur(cv2.warpAffine(shadow, fall, (width, height)), (blur, blur), 0)
    image *= 1 - 0.45 * shadow[..., None]
    image[y0:y1, x0:x1] += (picture - image[y0:y1, x0:x1]) * mask[..., None]

    covered = np.zeros((height, width), bool)
    covered[y0:y1, x0:x1] = solid
    for other in things:
        other.visible &= ~covered
    rows, columns = np.flatnonzero(solid.any(1)).tolist(), np.flatnonzero(solid.any(0)).tolist()
    box = (x0 + columns[0], y0 + rows[0], x0 + columns[-1] + 1, y0 + rows[-1] + 1)
    things.append(Thing(name, box, covered, full, bool(solid.sum() < 0.95 * full)))


def scene(seed: int, split: str, index: int) -> tuple[np.ndarray, list[Thing]]:
    """Picture (H×W×3, BGR, uint8) and annotated objects of one place in the data set."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    width, height = ((300, 300), (320, 240), (240, 320), (360, 270))[rng.integers(4)]
    image, things = background(rng, height, width), list[Thing]()
    count = int(rng.integers(1, 9))
    # From 12 pixels to half the picture, by octaves, somewhat more of the larger ones, which are at the back.
    largest = 0.55 * max(width, height)
    sides = (12 * (largest / 12) ** (rng.uniform(0, 1, count) ** 0.6)).astype(int)
    for side in sorted(sides.tolist(), reverse=True):
        paint(rng, image, things, str(rng.choice(list(PAINTERS))), side)
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (3, 3), 0)
    image = np.clip(image * rng.uniform(0.75, 1.15) + rng.uniform(-12, 12), 0, 255).astype(np.uint8)
    return image, [thing for thing in things if thing.shown >= HIDDEN]


def annotation(name: str, image: np.ndarray, things: list[Thing]) -> str:
    """The VOC XML of one picture; its boxes are 1-based with the last pixel included."""
    height, width = image.shape[:2]
    objects = "".join(
        f"""  <object>
    <name>{t.name}</name>
    <pose>Unspecified</pose>
    <truncated>{int(t.truncated)}</truncated>
    <difficult>{int(t.difficult)}</difficult>
    <bndbox>
      <xmin>{t.box[0] + 1}</xmin>
      <ymin>{t.box[1] + 1}</ymin>
      <xmax>{t.box[2]}</xmax>
      <ymax>{t.box[3]}</ymax>
    </bndbox>
  </object>
"""
        for t in things
    )
    return f"""<annotation>
  <folder>scenes</folder>
  <filename>{name}.jpg</filename>
  <size>
    <width>{width}</width>
    <height>{height}</height>
    <depth>3</depth>
  </size>
  <segmented>0</segmented>
{objects}</annotation>
"""


def write_one(folder: Path, seed: int, task: tuple[str, int]) -> tuple[str, list[tuple[str, bool]]]:
    """Writes one picture and its annotation; returns its name and what is in it."""
    cv2.setNumThreads(1)
    split, index = task
    name = f"{split}_{index:05d}"
    image, things = scene(seed, split, index)
    if not cv2.imwrite(str(folder / "JPEGImages" / f"{name}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 92]):
        raise OSError(f"cannot write {folder / 'JPEGImages' / name}.jpg")
    (folder / "Annotations" / f"{name}.xml").write_text(annotation(name, image, things))
    return name, [(thing.name, thing.difficult) for thing in things]


def label_map() -> str:
    """The LabelMap prototxt of the six kinds, background first."""
    names = ["none_of_the_above", *PAINTERS]
    shown = ["background", *PAINTERS]
    return "".join(
        f'item {{\n  name: "{name}"\n  label: {label}\n  display_name: "{display}"\n}}\n'
        for label, (name, display) in enumerate(zip(names, shown, strict=True))
    )


def write(folder: Path, seed: int, counts: dict[str, int]) -> None:
    """Writes the data set: `counts` pictures of each split."""
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    with multiprocessing.Pool() as pool:
        for split, count in counts.items():
            tasks = [(split, index) for index in range(count)]
            written = pool.imap(partial(write_one, folder, seed), tasks, chunksize=16)
            results = list(tqdm(written, f"{split} scenes", count, unit="image"))
            (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name, _ in results))
            things = [thing for _, found in results for thing in found]
            each = ", ".join(f"{sum(n == name for n, _ in things)} {name}" for name in PAINTERS)
            print(f"{split}: {count} images, {len(things)} objects ({sum(d for _, d in things)} difficult): {each}")
    (folder / "labelmap.prototxt").write_text(label_map())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog="example: python demo/scenes.py --output scenes --train 600 --test 200 --seed 1",
    )
    parser.add_argument("--output", type=Path, required=True, help="directory to write, e.g. scenes")
    parser.add_argument("--train", type=int, default=600, help="training images (default: %(default)s)")
    parser.add_argument("--test", type=int, default=200, help="test images (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other pictures (default: %(default)s)")
    options = parser.parse_args()
    write(options.output, options.seed, {"trainval": options.train, "test": options.test})


if __name__ == "__main__":
    main()
