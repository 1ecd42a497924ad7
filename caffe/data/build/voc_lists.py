"""Lists of a VOC-like data set: which images are for training and which for testing.

A data set is a folder with JPEGImages, Annotations and ImageSets/Main. The lists in the last name images without
extension.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from caffe.data.image_list import read_lines
from caffe.errors import DataError

#: in any case
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def find_datasets(root: Path) -> list[str]:
    """The data sets in `root`, by their folders' names; '.' if `root` is one itself."""
    if not root.is_dir():
        raise DataError(
            f"no directory '{root}'; it should hold data sets in VOC's layout, such as VOC2007 (scripts/get_voc.sh "
            "downloads it)"
        )
    found = sorted(path.parent.parent.name for path in root.glob("*/ImageSets/Main") if path.is_dir())
    if (root / "ImageSets" / "Main").is_dir():
        return ["."]
    if not found:
        raise DataError(
            f"'{root}' has no data set in VOC's layout: a folder with JPEGImages, Annotations, ImageSets/Main"
        )
    return found


def subset(root: Path, dataset: str, name: str) -> list[str] | None:
    """The lines of the list `name` (trainval or test) of a data set; None if it has no such list.

    Without a trainval list, train and val are joined.
    """
    sets = root / dataset / "ImageSets" / "Main"
    if (sets / f"{name}.txt").is_file():
        return [line for _, line in read_lines(sets / f"{name}.txt")]
    parts = [sets / f"{part}.txt" for part in ("train", "val")]
    if name == "trainval" and any(part.is_file() for part in parts):
        return [image for part in parts if part.is_file() for _, image in read_lines(part)]
    return None


#: the second column of a class's list
_FLAG = re.compile(r"\s+(-1|0|1)$")


def list_lines(root: Path, dataset: str, listed: Sequence[str], faults: list[str]) -> list[str]:
    """Lines `image annotation`, relative to `root`, for the lines of a list; what is missing is added to `faults`.

    Names may have folders (set00/1) and the image's extension. A second column, the ±1 of a class's list, is left out.
    Two images with the same name and different extensions are a fault, because one annotation cannot be of both.
    """
    lines = []
    folder = Path(dataset)
    images = _Files(root / folder / "JPEGImages", _EXTENSIONS)
    annotations = _Files(root / folder / "Annotations", (".xml",))
    for line, count in Counter(listed).items():
        name = line if images.has(line) else _FLAG.sub("", line)
        if count > 1:
            faults.append(f"'{name}' is {count} times in a list of {root / folder}")
            continue
        if name.split() != [name]:
            faults.append(
                f"'{name}' in a list of {root / folder}: names with spaces cannot be listed; rename the image and its "
                "annotation"
            )
            continue
        image, annotation = images.find(name, "image", faults), annotations.find(name, "annotation", faults)
        if image and annotation:
            lines.append(f"{folder / 'JPEGImages' / image} {folder / 'Annotations' / annotation}")
    return lines


class _Files:
    """The files of a folder, and of the folders in it, that have one of some extensions, by their paths without it."""

    def __init__(self, folder: Path, extensions: Sequence[str]) -> None:
        self._folder, self._extensions = folder, extensions
        self._paths: dict[str, list[str]] = {}
        self._others: dict[str, list[str]] = {}
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            known = path.suffix.lower() in extensions
            (self._paths if known else self._others).setdefault(str(inside.with_suffix("")), []).append(str(inside))
        self._all = {path for paths in self._paths.values() for path in paths}

    def has(self, name: str) -> bool:
        """Whether there is a file of this name, given with or without its extension."""
        return name in self._paths or name in self._all

    def find(self, name: str, what: str, faults: list[str]) -> str | None:
        """The path, inside the folder, of the file that a list names; None, and a fault, if it is not there."""
        stem = str(Path(name).with_suffix("")) if Path(name).suffix.lower() in (*_EXTENSIONS, ".xml") else name
        paths = self._paths.get(name) or self._paths.get(stem) or []
        if stem != name and str(Path(name)) in paths:
            return str(Path(name))
        if len(paths) == 1:
            return paths[0]
        if paths:
            faults.append(f"{what} '{name}' in {self._folder} is one of {', '.join(paths)}: keep one of them")
        elif other := self._others.get(stem):
            faults.append(f"no {what} '{name}' in {self._folder}; {other[0]} does not end in {self._known()}")
        else:
            shown = f"{name}.xml" if what == "annotation" else name
            faults.append(f"no {what} '{shown}' in {self._folder}{self._hint(stem)}")
        return None

    def _known(self) -> str:
        return ", ".join(self._extensions)

    def _hint(self, stem: str) -> str:
        """Where a file of this name is instead, if it is in another folder or differs in case."""
        wanted = Path(stem).name.lower()
        for near, paths in self._paths.items():
            if Path(near).name.lower() == wanted:
                return f"; there is {paths[0]}, which the list would have to name '{near}'"
        return ""
