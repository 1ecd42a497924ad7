"""List files: one image per line, with its label or its annotation file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from caffe.errors import DataError, shown
from caffe.files import decoded

T = TypeVar("T")

#: how many faults are shown; the rest are only counted
SHOWN_FAULTS = 50


def read_lines(path: str | Path) -> list[tuple[int, str]]:
    """The lines of a list that are not blank, with their numbers from 1. Any line ending, with or without a BOM."""
    try:
        text = decoded(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"cannot read list '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"list '{path}' is not a text file") from None
    if "\0" in text:
        raise DataError(f"list '{path}' is not a text file")
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise DataError(f"list '{path}' is empty")
    return lines


def read_pairs(path: str | Path) -> list[tuple[str, str]]:
    """Lines of two words: an image, and its annotation file (or label)."""
    pairs, faults = [], []
    for number, line in read_lines(path):
        words = line.split()
        if len(words) == 2:
            pairs.append((words[0], words[1]))
        else:
            why = "one word" if len(words) < 2 else f"{len(words)} words (paths with spaces cannot be listed)"
            faults.append(f"{path}:{number}: expected 'image annotation', found {why}: '{shown(line, 80)}'")
    raise_faults(faults, f"list '{path}'")
    return pairs


def read_labels(path: str | Path) -> list[tuple[str, int]]:
    """Lines of an image and its integer label, separated by the last space; the image's path may have spaces."""
    pairs, faults, annotations = [], [], 0
    for number, line in read_lines(path):
        image, _, label = line.rpartition(" ")
        try:
            value = int(label)
        except ValueError:
            value = None
        if image.strip() and value is not None and abs(value) < 1 << 31:
            pairs.append((image.rstrip(), value))
        else:
            faults.append(f"{path}:{number}: expected 'image label', found '{shown(line, 80)}'")
            annotations += label.lower().endswith((".xml", ".json", ".txt"))
    note = "A label is a number. Annotations are for detection: convert_annoset -anno_type=detection."
    raise_faults(faults, f"list '{path}'", note if annotations else "")
    return pairs


def below(root: str, path: str) -> str:
    """The file that a list names `path`, in the directory `root`.

    The original puts the root before every path, also before one that begins with `/`. If there is no such file, that
    path stands for itself, and one that was written on Windows is tried with `/` for its separators.
    """
    joined = f"{root.rstrip('/')}/{path.lstrip('/')}" if root else path
    if os.path.exists(joined):
        return joined
    if "\\" in path and os.path.exists(other := below(root, path.replace("\\", "/"))):
        return other
    return path if path.startswith("/") else joined


def shuffled(items: Sequence[T], seed: int) -> list[T]:
    """The items in a random order from `seed`."""
    order = np.random.default_rng(seed).permutation(len(items))
    return [items[i] for i in order]


def raise_faults(faults: Sequence[str], what: str, note: str = "") -> None:
    """One DataError for all faults, if there are any; `note` follows them."""
    if faults:
        shown = "\n".join(f"  {fault}" for fault in faults[:SHOWN_FAULTS])
        more = f"\n  … and {len(faults) - SHOWN_FAULTS:,} more" if len(faults) > SHOWN_FAULTS else ""
        noun = "fault" if len(faults) == 1 else "faults"
        raise DataError(f"{len(faults):,} {noun} in {what}:\n{shown}{more}{note and chr(10) + note}")
