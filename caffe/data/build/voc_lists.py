"""Lists of a VOC-like data set: which images are for training and which for testing.

A data set is a folder with JPEGImages, Annotations and ImageSets/Main. The lists in the last name images without
extension.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from caffe.data.image_list import read_lines
from caffe.errors import DataError

_EXTENSIONS = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")


def find_datasets(root: Path) -> list[str]:
    """The data sets in `root`, by their folders' names; '.' if `root` is one itself."""
    if not root.is_dir():
        raise DataError(f"no directory '{root}'")
    found = sorted(path.parent.parent.name for path in root.glob("*/ImageSets/Main") if path.is_dir())
    if (root / "ImageSets" / "Main").is_dir():
        return ["."]
    if not found:
        raise DataError(
            f"'{root}' has no data set in VOC's layout: a folder with JPEGImages, Annotations, ImageSets/Main"
        )
    return found


def subset(root: Path, dataset: str, name: str) -> list[str] | None:
    """The image names of `name` (trainval or test) of a data set; None if it has no such list.

    Without a trainval list, train and val are joined.
    """
    sets = root / dataset / "ImageSets" / "Main"
    if (sets / f"{name}.txt").is_file():
        return [line.split()[0] for _, line in read_lines(sets / f"{name}.txt")]
    parts = [sets / f"{part}.txt" for part in ("train", "val")]
    if name == "trainval" and any(part.is_file() for part in parts):
        return [line.split()[0] for part in parts if part.is_file() for _, line in read_lines(part)]
    return None


def list_lines(root: Path, dataset: str, names: Sequence[str], faults: list[str]) -> list[str]:
    """Lines `image annotation`, relative to `root`; what is missing is added to `faults`."""
    lines = []
    folder = Path(dataset)
    images = {path.stem: path.name for path in (root / folder / "JPEGImages").glob("*") if path.suffix in _EXTENSIONS}
    annotations = {path.stem for path in (root / folder / "Annotations").glob("*.xml")}
    for name in names:
        if name not in images:
            faults.append(f"no image '{name}' in {root / folder / 'JPEGImages'}")
        if name not in annotations:
            faults.append(f"no annotation '{name}.xml' in {root / folder / 'Annotations'}")
        if name in images and name in annotations:
            lines.append(f"{folder / 'JPEGImages' / images[name]} {folder / 'Annotations' / name}.xml")
    return lines
