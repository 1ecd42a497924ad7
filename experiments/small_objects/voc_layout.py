"""Converts published data sets to the layout of PASCAL VOC, with no scene in both the test and the training list.

Each function reads the directory of an unpacked data set and writes JPEGImages, Annotations, ImageSets/Main and
classes.txt. Coordinates stay as published. Nothing here is random, so every machine gets the same lists.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tqdm import tqdm

from caffe.data.image_list import read_lines
from caffe.errors import DataError

#: the lists of ImageSets/Main
TRAINING, TEST = "trainval", "test"


class Item(NamedTuple):
    """An object: its class, and its corners in pixels (xmin, ymin, xmax, ymax) as published."""

    name: str
    corners: tuple[float, float, float, float]


@dataclass(frozen=True)
class Picture:
    """An annotated image: its name in the new layout, its file, its size in pixels, its objects."""

    name: str
    file: Path
    width: int
    height: int
    items: Sequence[Item]


def annotation(picture: Picture) -> str:
    """Returns the picture's annotation as VOC XML."""
    lines = [
        "<annotation>",
        f"  <filename>{escape(picture.name + picture.file.suffix)}</filename>",
        f"  <size><width>{picture.width}</width><height>{picture.height}</height><depth>3</depth></size>",
    ]
    for item in picture.items:
        corners = zip(("xmin", "ymin", "xmax", "ymax"), item.corners, strict=True)
        box = "".join(f"<{side}>{value:g}</{side}>" for side, value in corners)
        lines.append(
            f"  <object><name>{escape(item.name)}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"
        )
    return "\n".join([*lines, "</annotation>", ""])


def write(target: Path, classes: Sequence[str], lists: dict[str, Iterable[Picture]]) -> None:
    """Writes the data set. classes.txt is written last, so it marks a complete data set."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    for name, pictures in lists.items():
        written = []
        for picture in tqdm(pictures, desc=f"{target.name} {name}", unit="image", disable=None, leave=False):
            shutil.copyfile(picture.file, target / "JPEGImages" / f"{picture.name}{picture.file.suffix}")
            (target / "Annotations" / f"{picture.name}.xml").write_text(annotation(picture), encoding="utf-8")
            written.append(picture.name)
        (target / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{n}\n" for n in written))
    (target / "classes.txt").write_text("".join(f"{name}\n" for name in classes))


def _voc_objects(path: Path, rename: Callable[[str], str]) -> tuple[int, int, list[Item]]:
    """Reads width, height and objects of a VOC annotation."""
    root = ElementTree.parse(path).getroot()
    items = []
    for element in root.iter("object"):
        x0, y0, x1, y1 = (float(element.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))
        items.append(Item(rename(element.findtext("name", "")), (x0, y0, x1, y1)))
    return int(root.findtext("size/width", "")), int(root.findtext("size/height", "")), items


# ---- BCCD

BCCD_CLASSES = ("RBC", "WBC", "Platelets")


def bccd(source: Path, target: Path) -> None:
    """BCCD (Shenggan): 364 photographs of blood cells, including platelets, with its own lists, already in this layout."""
    for folder in ("Annotations", "ImageSets", "JPEGImages"):
        shutil.copytree(source / "BCCD" / folder, target / folder)
    (target / "classes.txt").write_text("".join(f"{name}\n" for name in BCCD_CLASSES))


# ---- DeepPCB

#: in the order of the numbers 1 to 6 in its annotations
DEEPPCB_CLASSES = ("open", "short", "mousebite", "spur", "copper", "pin-hole")


def deeppcb(source: Path, target: Path) -> None:
    """DeepPCB (Tang et al.): 640 x 640 circuit boards with six kinds of defects, and its own lists.

    Only the tested images are used, not the templates. The lists have 1,000 and 500 images. An annotation has
    `x1 y1 x2 y2 type` on each line.
    """

    def pictures(image_list: str) -> Iterable[Picture]:
        for _, line in read_lines(source / "PCBData" / image_list):
            image, boxes = (source / "PCBData" / part for part in line.split())
            items = []
            for _, row in read_lines(boxes):
                x0, y0, x1, y1, kind = map(int, row.split())
                items.append(Item(DEEPPCB_CLASSES[kind - 1], (x0, y0, x1, y1)))
            yield Picture(image.stem, image.with_name(f"{image.stem}_test.jpg"), 640, 640, items)

    write(target, DEEPPCB_CLASSES, {TRAINING: pictures("trainval.txt"), TEST: pictures("test.txt")})


# ---- Cell-Dataset

CELL_CLASSES = ("living_cell", "dead_cell")
_CELL_NAMES = {"Living Cell": "living_cell", "Dead Cell": "dead_cell"}
#: consecutive images that stay together, because they show the same culture; every fifth block is for testing
CELL_BLOCK = 20


def cells(source: Path, target: Path) -> None:
    """Cell-Dataset (Okerulu): 2,500 micrographs of living and dead cells, without lists of its own.

    Images are ordered by series and number. About 70 copies of earlier images, some with other names, are left out.
    """
    folder = source / "Original Dataset"

    def place(path: Path) -> tuple[str, int]:
        name = re.fullmatch(r"([a-z]+)[ _]*\(?(\d+)\)?", path.stem, re.IGNORECASE)
        if name is None:
            raise DataError(
                f"{path}: the images of Cell-Dataset are named after a series and a number: Cancer (12).png"
            )
        return name[1], int(name[2])

    seen: set[bytes] = set()
    pictures = []
    for path in sorted(folder.glob("*.png"), key=place):
        digest = hashlib.sha256(path.read_bytes()).digest()
        if digest in seen:
            continue
        seen.add(digest)
        width, height, items = _voc_objects(path.with_suffix(".xml"), _CELL_NAMES.__getitem__)
        series, number = place(path)
        pictures.append(Picture(f"{series}_{number:04}", path, width, height, items))
    training, test = by_blocks(pictures, CELL_BLOCK, gap=0)
    write(target, CELL_CLASSES, {TRAINING: training, TEST: test})


# ---- FOD-A

#: frames that stay together; every fifth block is for testing
FOD_BLOCK = 200
#: frames on each side of a test block that are not used, because a video continues across the border of a block
FOD_GAP = 20


def fod(source: Path, target: Path) -> None:
    """FOD-A (Munyer et al.): 300 x 300 frames of debris on runways, 31 classes.

    In the published lists, neighboring frames of a video are in both training and test. Here, whole blocks are.
    """
    pictures = []
    for path in tqdm(sorted((source / "Annotations").glob("*.xml")), desc="reading", disable=None, leave=False):
        width, height, items = _voc_objects(path, str)
        pictures.append(Picture(path.stem, source / "JPEGImages" / f"{path.stem}.jpg", width, height, items))
    training, test = by_blocks(pictures, FOD_BLOCK, FOD_GAP)
    classes = sorted({item.name for picture in pictures for item in picture.items})
    write(target, classes, {TRAINING: training, TEST: test})


def by_blocks(pictures: Sequence[Picture], block: int, gap: int) -> tuple[list[Picture], list[Picture]]:
    """Splits sorted images into training and test: every fifth block is for testing.

    Images within `gap` places of a test block are in neither list.
    """

    def is_test(i: int) -> bool:
        return 0 <= i < len(pictures) and i // block % 5 == 4

    places = range(len(pictures))
    test = [pictures[i] for i in places if is_test(i)]
    training = [pictures[i] for i in places if not any(map(is_test, (i - gap, i, i + gap)))]
    return training, test


#: the converter of each published data set
CONVERTERS: dict[str, Callable[[Path, Path], None]] = {"bccd": bccd, "deeppcb": deeppcb, "cells": cells, "fod": fod}


def convert(name: str, source: Path, target: Path) -> None:
    """Converts a data set. Raises DataError if `source` is not the published data set."""
    try:
        CONVERTERS[name](source, target)
    except (OSError, ValueError, KeyError, AttributeError, ElementTree.ParseError) as error:
        raise DataError(f"'{source}' is not the published data set '{name}': {error}") from None
