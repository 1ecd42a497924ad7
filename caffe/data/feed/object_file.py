"""Window files of MS-CNN and Cascade R-CNN: images, each with its objects and with regions that are not of interest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffe.errors import DataError, shown
from caffe.files import decoded

Boxes = NDArray[np.float64]
#: no number in such a file is larger
_MOST = 2**31 - 1


@dataclass(frozen=True)
class ListedImage:
    """An image of a window file. Boxes are corners x1, y1, x2, y2 in its pixels."""

    path: str
    height: int
    width: int
    #: N × 4
    boxes: Boxes
    #: N each: class (from 1), whether the object is ignored, whether it is difficult
    label: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    difficult: NDArray[np.bool_]
    #: M × 4: regions that are not of interest
    regions: Boxes


class _Words:
    """The words of a text, with what to say if one is missing or wrong."""

    def __init__(self, path: str, text: str, numbers: str) -> None:
        self._path, self._line = path, 1
        #: for messages: which image the words belong to, and how many numbers its objects have
        self.within, self.numbers = "", numbers
        self._words: Iterator[tuple[int, str | None]] = (
            (number, word) for number, line in enumerate(text.split("\n"), 1) for word in line.split()
        )

    def fail(self, problem: str) -> DataError:
        return DataError(f"window file '{self._path}', line {self._line}{self.within}: {problem}")

    def next(self, what: str) -> str:
        """The next word; `what` it is, for the message if there is none."""
        word = self.next_if_any()
        if word is None:
            raise self.fail(f"the file ends where {what} should follow")
        return word

    def next_if_any(self) -> str | None:
        """The next word; None at the end."""
        self._line, word = next(self._words, (self._line, None))
        return word

    def integer(self, what: str, least: int | None = None) -> int:
        word = self.next(what)
        try:
            value = int(word)
        except ValueError:
            raise self.fail(f"expected {what}, an integer, found '{shown(word)}'{self.numbers}") from None
        if abs(value) > _MOST:
            raise self.fail(f"{what} is {shown(word)}, which is too large")
        if least is not None and value < least:
            raise self.fail(f"{what} is {value}; it must be at least {least}")
        return value

    def corners(self, what: str) -> list[int]:
        return [self.integer(f"{name} of {what}") for name in ("x1", "y1", "x2", "y2")]


def read_objects(path: str, difficult: bool) -> list[ListedImage]:
    """The images of a window file; `difficult`: Cascade R-CNN's form, where objects have one number more.

    For each image: `#`, its number, its path, channels, height, width; the number of objects and, for each, its label,
    whether it is ignored, (whether it is difficult,) x1, y1, x2, y2; the number of regions that are not of interest and
    for each x1, y1, x2, y2. All are separated by white space. The image's number and its channels are not used. Raises
    DataError, with the line, for a file that cannot be read or is different.
    """
    try:
        text = decoded(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"cannot read window file '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"window file '{path}' is not a text file") from None
    numbers = "7 numbers (label, ignored, difficult" if difficult else "6 numbers (label, ignored"
    words = _Words(path, text, f". In this layer's files, an object has {numbers}, x1, y1, x2, y2), a region 4")
    images = [_image(words, mark, difficult) for mark in iter(words.next_if_any, None)]
    if not images:
        raise DataError(f"window file '{path}' is empty")
    return images


def _image(words: _Words, mark: str, with_difficult: bool) -> ListedImage:
    if mark != "#":
        raise words.fail(f"expected '#', which begins an image, found '{shown(mark)}'")
    words.integer("the image's number")
    path = words.next("the image's path")
    words.within = f", image '{shown(path)}'"
    words.integer("the number of channels")
    height, width = (words.integer(f"the image's {side}", 1) for side in ("height", "width"))
    rows, boxes = [], []
    for _ in range(words.integer("the number of objects", 0)):
        label = words.integer("an object's label", 1)
        ignore = words.integer("whether an object is ignored")
        hard = words.integer("whether an object is difficult") if with_difficult else 0
        rows.append((label, ignore, hard))
        boxes.append(words.corners("an object"))
    count = words.integer("the number of regions that are not of interest", 0)
    regions = [words.corners("a region that is not of interest") for _ in range(count)]
    table = np.array(rows, np.int64).reshape(-1, 3)
    return ListedImage(
        path, height, width, _floats(boxes), table[:, 0], table[:, 1] != 0, table[:, 2] != 0, _floats(regions)
    )


def _floats(boxes: list[list[int]]) -> Boxes:
    return np.array(boxes, np.float64).reshape(-1, 4)
