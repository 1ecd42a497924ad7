"""`test_name_size.txt`: the name, height and width of each image of a test set, in the order in which it is read.

get_image_size writes the list. Result files are scaled with it, and its names are their image ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from caffe.data.build.spread import spread
from caffe.data.image_list import below, raise_faults, read_lines
from caffe.data.images import ImageFormat, read_image
from caffe.errors import DataError
from caffe.files import write_text


@dataclass(frozen=True)
class NameSize:
    """One image of a test set: its name (the image_id of result files) and its size in pixels."""

    name: str
    height: int
    width: int


def read_name_sizes(path: str | Path) -> list[NameSize]:
    """Reads such a list. Raises DataError, with the line's number, for anything else."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot open name size file '{path}': {error.strerror}; get_image_size writes it") from None
    except UnicodeDecodeError:
        raise DataError(f"name size file '{path}' is not a text file") from None
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            name, height, width = line.split()
            entry = NameSize(name, int(height), int(width))
        except ValueError:
            raise DataError(
                f"name size file '{path}', line {number}: '{line.strip()[:80]}' is not `name height width`; "
                "get_image_size makes the list"
            ) from None
        if entry.height < 1 or entry.width < 1:
            raise DataError(f"name size file '{path}', line {number}: {name} is {height} x {width} pixels")
        entries.append(entry)
    if not entries:
        raise DataError(f"name size file '{path}' lists no images")
    return entries


def image_size(path: str) -> tuple[int, int] | str:
    """(height, width) of an image file, or an error message."""
    try:
        _, image = read_image(path, ImageFormat())
    except DataError as error:
        return f"{path}: {error}"
    return image.shape[0], image.shape[1]


def write_name_sizes(
    root: str, images: Sequence[str], output: str | Path, ids: Mapping[str, int] | None = None
) -> None:
    """Writes a line `name height width` for each image below `root`; the name is the file's without its extension.

    `ids` maps names to the numbers to write instead (COCO, ILSVRC).
    """
    found = list(spread(image_size, [(below(root, image),) for image in images], "measuring"))
    faults = [size for size in found if isinstance(size, str)]
    lines = []
    for image, size in zip(images, found, strict=True):
        name = Path(image).stem
        if ids is not None and name not in ids:
            faults.append(f"{image}: no id for '{name}'")
        elif not isinstance(size, str):
            lines.append(f"{name if ids is None else ids[name]} {size[0]} {size[1]}\n")
    raise_faults(faults, "images; nothing was written")
    write_text(output, "".join(lines))


def read_ids(path: str) -> dict[str, int]:
    """Reads lines of a name and its id."""
    ids: dict[str, int] = {}
    faults = []
    for number, line in read_lines(path):
        words = line.split()
        if len(words) != 2 or not words[1].isdigit():
            faults.append(f"{path}:{number}: expected 'name id', found '{line[:80]}'")
        elif words[0] in ids:
            faults.append(f"{path}:{number}: name '{words[0]}' is repeated")
        else:
            ids[words[0]] = int(words[1])
    raise_faults(faults, f"'{path}'")
    return ids
