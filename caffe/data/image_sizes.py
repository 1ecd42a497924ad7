"""`test_name_size.txt`: the name, height and width of each image of a list, which result files are scaled with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from caffe.data.image_list import raise_faults, read_lines
from caffe.data.images import ImageFormat, read_image
from caffe.data.spread import spread
from caffe.errors import DataError


def image_size(path: str) -> tuple[int, int] | str:
    """(height, width) of an image file, or what is wrong with it."""
    try:
        _, image = read_image(path, ImageFormat())
    except DataError as error:
        return f"{path}: {error}"
    return image.shape[0], image.shape[1]


def write_sizes(root: str, images: Sequence[str], output: str | Path, ids: Mapping[str, int] | None = None) -> None:
    """Writes a line `name height width` for each image below `root`, the name being the file's without its extension.

    `ids` gives names the numbers to write in their place (COCO, ILSVRC).
    """
    found = list(spread(image_size, [(os.path.join(root, image),) for image in images], "measuring"))
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
    """Lines of a name and its id."""
    ids: dict[str, int] = {}
    faults = []
    for number, line in read_lines(path):
        words = line.split()
        if len(words) != 2 or not words[1].isdigit():
            faults.append(f"{path}:{number}: expected 'name id', found '{line[:80]}'")
        elif words[0] in ids:
            faults.append(f"{path}:{number}: name '{words[0]}' comes twice")
        else:
            ids[words[0]] = int(words[1])
    raise_faults(faults, f"'{path}'")
    return ids


def write_text(path: str | Path, text: str) -> None:
    """Writes a file whole or not at all."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.writing-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"cannot write '{path}': {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
