"""Lists of the training and test images that a data set brings, such as VOC's ImageSets/Main."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from caffe.data.formats.dataset import PARTS, text_of_people
from caffe.data.formats.folder import Folder
from caffe.data.formats.yolo import is_labels


def listed_parts(folder: Folder, notes: Counter[str]) -> dict[Path, str]:
    """The part of each image in text files called train, val, test and the like; their lines are names or paths.

    What is in a test list is for testing, whatever other lists say.
    """
    parts: dict[Path, str] = {}
    found = [(PARTS[path.stem.lower()], path) for path in folder.with_suffix(".txt") if path.stem.lower() in PARTS]
    for part, path in sorted(found, key=lambda each: ("train", "val", "test").index(each[0])):
        data = path.read_bytes()
        if data.strip() and is_labels(data):
            continue  # the labels of an image called test
        lines = [line.strip() for line in text_of_people(data).splitlines()]
        images = [_image(folder, line, path) for line in lines if line]
        known = [image for image in images if image is not None]
        if known and len(known) < len(images):
            notes[f"lines of '{folder.shown(path)}' without an image, not used"] = len(images) - len(known)
        parts |= dict.fromkeys(known, part)
    return parts


def _image(folder: Folder, line: str, path: Path) -> Path | None:
    for reference in dict.fromkeys((line, line.split()[0])):
        image = folder.image_named(reference, path)
        if isinstance(image, Path):
            return image
    return None
