"""COCO's files: JSON, and the list of detections, which is read one by one so that long lists fit in memory."""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from caffe.errors import DataError, shown

_BLOCK = 1 << 20
#: a detection is some hundred characters, or thousands with a mask; a longer one than this is another kind of file
_LONGEST_ENTRY = 1 << 22
_LARGEST = sys.float_info.max


@dataclass(frozen=True)
class FoundInCoco:
    """K detections: ids of images and categories, [K]; boxes, [K, 4], as x, y, width, height in pixels; scores, [K]."""

    images: NDArray[np.int64]
    categories: NDArray[np.int64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]

    def best(self, count: int) -> FoundInCoco:
        """Returns the best `count` detections of each category in each image, in that order."""
        order = np.lexsort((-self.scores, self.categories, self.images))
        images, categories = self.images[order], self.categories[order]
        starts = np.ones(len(order), bool)
        starts[1:] = (images[1:] != images[:-1]) | (categories[1:] != categories[:-1])
        first = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
        order = order[np.arange(len(order)) - first < count]
        return FoundInCoco(self.images[order], self.categories[order], self.boxes[order], self.scores[order])


def read_json(path: str | Path, what: str) -> Any:
    """Reads a JSON file; raises DataError if it is not one."""
    try:
        with open(path, "rb") as file:
            return json.load(file)  # which knows byte-order marks in bytes
    except OSError as error:
        raise DataError(f"cannot read {what} '{path}': {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what} '{path}' is not JSON: {error}") from None


def read_results(path: str | Path, dataset: dict[str, Any]) -> FoundInCoco:
    """Reads the detections that DetectionOutput (or another detector) wrote, with the ids of the data set.

    Images may be named by id or by file name, with or without its extension; classes by id or by name. Raises DataError
    for what the data set does not have, and for boxes and scores that are not finite numbers.
    """
    images: dict[Any, int] = {image["id"]: image["id"] for image in dataset["images"]}
    for image in dataset["images"]:
        name = str(image.get("file_name", ""))
        images.setdefault(name, image["id"])
        images.setdefault(Path(name).stem, image["id"])
    categories: dict[Any, int] = {c["id"]: c["id"] for c in dataset["categories"]}
    categories.update({c["name"]: c["id"] for c in dataset["categories"]})
    ids, values = array("q"), array("d")
    for number, entry in enumerate(entries(path)):
        where = f"results file '{path}', detection {number}"
        if not isinstance(entry, dict):
            raise DataError(f"{where} is not a JSON object")
        image, category = _look_up(images, entry.get("image_id")), _look_up(categories, entry.get("category_id"))
        if image is None:
            raise DataError(
                f"{where}: image_id {shown(repr(entry.get('image_id')))} is not in the annotations; is it another set?"
            )
        if category is None:
            raise DataError(
                f"{where}: category_id {shown(repr(entry.get('category_id')))} is not in the annotations"
            )  # fmt: skip
        box, score = entry.get("bbox"), entry.get("score")
        if not (isinstance(box, list) and len(box) == 4 and all(map(is_number, box))):
            raise DataError(f"{where}: bbox is not [x, y, width, height]")
        if not is_number(score):
            raise DataError(f"{where} has no score")
        if not all(map(is_finite, (score, *box))):
            raise DataError(f"{where} has a number that is not finite. Did the training diverge?")
        ids.extend((image, category))
        values.extend((*map(float, box), float(score)))
    keys = np.array(ids, np.int64).reshape(-1, 2)
    table = np.array(values, np.float64).reshape(-1, 5)
    return FoundInCoco(keys[:, 0], keys[:, 1], table[:, :4], table[:, 4])


def entries(path: str | Path) -> Iterator[Any]:
    """Yields the entries of a JSON list, one by one. Raises DataError if the file is not one."""
    what = f"results file '{path}'"
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(_BLOCK).lstrip()
            if not text.startswith("["):
                _refuse_other(what, text)
            yield from _entries_after(file, text[1:], what)
    except OSError as error:
        raise DataError(f"cannot read results file '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{what} is not a text file") from None


def _refuse_other(what: str, text: str) -> None:
    """Raises the DataError for a file that does not begin with a list."""
    try:
        json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what} is not JSON: {error}") from None
    raise DataError(f"{what} is not a list of detections")


def _entries_after(file: Any, text: str, what: str) -> Iterator[Any]:
    """Yields the entries that follow the list's opening bracket. text: what has been read of them."""
    decode = json.JSONDecoder().raw_decode
    place, count, ended = 0, 0, False
    while True:
        # what is left may be a part of an entry, so there is always more text than an entry is long
        while not ended and len(text) - place < _LONGEST_ENTRY:
            block = file.read(_BLOCK)
            ended = not block
            text, place = text[place:] + block, 0
        place = _skip_space(text, place)
        if text.startswith("]", place) or place == len(text):
            break
        if count:
            if text[place] != ",":
                raise DataError(f"{what} is not JSON: no comma after detection {count - 1}")
            place = _skip_space(text, place + 1)
        try:
            entry, place = decode(text, place)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise DataError(f"{what} is not JSON: detection {count}: {reason}. Is the file complete?") from None
        yield entry
        count += 1
    if place == len(text):
        raise DataError(f"{what} is not JSON: the list does not end. Is the file complete?")
    if text[place + 1 :].strip() or file.read().strip():
        raise DataError(f"{what} is not JSON: text follows the list")


def _skip_space(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a JSON value is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_finite(value: object) -> TypeGuard[int | float]:
    """Whether a JSON value is a number that a float can hold; JSON's whole numbers have no limit."""
    return is_number(value) and -_LARGEST <= value <= _LARGEST


def _look_up(table: dict[Any, int], key: object) -> int | None:
    if not isinstance(key, int | str) or isinstance(key, bool):
        return None
    if key in table:
        return table[key]
    text = str(key)
    return table.get(int(text)) if text.isascii() and text.isdigit() and len(text) < 19 else None
