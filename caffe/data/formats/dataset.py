"""The common form of a data set: images with objects, whatever format they were read from."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from caffe.errors import shown
from caffe.files import decoded

#: the parts of a data set, as a folder or file names them
PARTS = {
    "train": "train", "training": "train", "trainval": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Object:
    """An object of an image: its class, its corners in pixels, and whether it is difficult (VOC) or a crowd (COCO)."""

    name: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    difficult: bool = False


@dataclass
class AnnotatedImage:
    """An image and its objects."""

    path: Path
    objects: list[Object]
    #: (height, width) of the image that the coordinates refer to
    size: tuple[int, int]
    #: "train", "val" or "test" if the data set says so
    part: str = ""


@dataclass
class Dataset:
    """What was read from a folder. Images whose annotations have faults are not in `images`."""

    format: str
    images: list[AnnotatedImage] = field(default_factory=list)
    #: all classes in the order that the data set gives them; empty if it gives none
    class_names: list[str] = field(default_factory=list)
    #: errors, each with the file and the entry
    faults: list[str] = field(default_factory=list)
    #: what was left out or is odd, counted
    notes: Counter[str] = field(default_factory=Counter)
    #: what else is worth knowing, a sentence each
    remarks: list[str] = field(default_factory=list)


@dataclass
class Parsed:
    """What one annotation file, or one entry of a file for many images, says about one image."""

    #: how the file names its image; "" if it does not
    reference: str = ""
    size: tuple[int, int] | None = None
    part: str = ""
    #: whether the coordinates are shares of the image's sides instead of pixels
    relative: bool = False
    objects: list[Object] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    def add(self, what: str, name: str, corners: Sequence[float | None], *, difficult: bool = False) -> None:
        """Adds an object, or a fault that names it as `what`. `corners`: xmin, ymin, xmax, ymax; None: not a number."""
        name = unicodedata.normalize("NFC", " ".join(name.split()))
        if not name:
            self.faults.append(f"{what} has no class name")
        elif any(unicodedata.category(each) in ("Cc", "Cs") for each in name):
            self.faults.append(f"{what} has a class name with characters that are not text: '{shown(name)}'")
        elif len(corners) != 4 or any(value is None for value in corners):
            self.faults.append(f"{what} has no box of four numbers")
        else:
            x1, y1, x2, y2 = (float(value) for value in corners if value is not None)
            if x1 == x2 or y1 == y2:
                self.notes["boxes without area, left out"] += 1
                return
            if x1 > x2 or y1 > y2:
                self.notes["boxes with exchanged corners, put in order"] += 1
            self.objects.append(Object(name, min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2), difficult))

    def merge(self, other: Parsed) -> None:
        """Adds what another entry for the same image says. Objects that are exactly the same are the same object."""
        new = [each for each in other.objects if each not in self.objects]
        if len(new) < len(other.objects):
            self.notes["objects given more than once, used once"] += len(other.objects) - len(new)
        self.objects += new
        self.size = self.size or other.size
        self.part = self.part or other.part
        self.faults += other.faults
        self.notes += other.notes


def text_of_people(data: bytes) -> str:
    """Text as people's programs write it: in Unicode or else, as a spreadsheet on Windows does, in Windows-1252."""
    try:
        return decoded(data)
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


# float() would take underscores, 'nan' and digits of other scripts as well
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_LARGEST = 1e9


def number(value: object) -> float | None:
    """A number, or text that is one, of a size that a coordinate can have; None for anything else."""
    if isinstance(value, str):
        value = value.strip()
        if len(value) > 64 or not _NUMBER.fullmatch(value):
            return None
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= _LARGEST and math.isfinite(value) else None


def truth(value: object) -> bool:
    """A flag as the formats write it: 1, "1", true, "True", "yes"."""
    return str(value).strip().lower() in ("1", "1.0", "true", "yes")


def size_of(height: object, width: object) -> tuple[int, int] | None:
    """A size; None for what is not one, such as the 0 that some tools write."""
    sides = number(height), number(width)
    if any(side is None or side < 1 for side in sides):
        return None
    return int(sides[0] or 0), int(sides[1] or 0)


def box_of(points: Iterable[tuple[float | None, float | None]]) -> list[float | None]:
    """The smallest box around some points; empty if there are none or one is not a pair of numbers."""
    xs, ys = [], []
    for x, y in points:
        if x is None or y is None:
            return []
        xs.append(x)
        ys.append(y)
    return [min(xs), min(ys), max(xs), max(ys)] if xs else []


def rotated_box(cx: float, cy: float, width: float, height: float, radians: float) -> list[float | None]:
    """The smallest upright box around a box that is turned around its center."""
    cos, sin = abs(math.cos(radians)), abs(math.sin(radians))
    half_width, half_height = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    return [cx - half_width, cy - half_height, cx + half_width, cy + half_height]


def in_pixels(objects: Iterable[Object], size: tuple[int, int]) -> list[Object]:
    """Objects whose coordinates are shares of an image's sides, in pixels; cut at its border, where rounding ends."""
    height, width = size

    def scaled(share: float, side: int) -> float:
        return round(min(max(share, 0.0), 1.0) * side, 3)

    return [
        replace(each, xmin=scaled(each.xmin, width), ymin=scaled(each.ymin, height),
                xmax=scaled(each.xmax, width), ymax=scaled(each.ymax, height))
        for each in objects
    ]  # fmt: skip


def part_of(words: Iterable[str]) -> str:
    """The part that the last of some folders' or files' names tells, as `train2017` or `my_test_labels`; "" if none."""
    for word in reversed(list(words)):
        for token in reversed(re.split(r"[^a-z]+", word.lower())):
            if token in PARTS:
                return PARTS[token]
    return ""
