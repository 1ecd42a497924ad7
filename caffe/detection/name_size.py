"""The list that get_image_size writes: `name height width` a line, in the order in which the test set is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from caffe.errors import DataError


@dataclass(frozen=True)
class NameSize:
    """One image of a test set: its name (the image_id of result files) and its size in pixels."""

    name: str
    height: int
    width: int


def read_name_sizes(path: str | Path) -> list[NameSize]:
    """Reads such a list. DataError for a file or line that is none, with its number."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot open name size file '{path}': {error.strerror}; get_image_size writes it") from None
    except UnicodeDecodeError:
        raise DataError(f"name size file '{path}' is no text file") from None
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            name, height, width = line.split()
            entry = NameSize(name, int(height), int(width))
        except ValueError:
            raise DataError(
                f"name size file '{path}', line {number}: '{line.strip()[:80]}' is not `name height width`"
            ) from None
        if entry.height < 1 or entry.width < 1:
            raise DataError(f"name size file '{path}', line {number}: {name} is {height} x {width} pixels")
        entries.append(entry)
    if not entries:
        raise DataError(f"name size file '{path}' lists no image")
    return entries
