"""COCO's annotation file of a whole data set, split into one file per image, as convert_annoset reads them."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from caffe.errors import DataError, shown
from caffe.files import write_text


def split(instances: str | Path, root: Path, images: str, annotations: str) -> tuple[list[str], list[str]]:
    """Writes `root`/`annotations`/<name>.json for every image, with or without objects.

    Returns the lines `image annotation` (images are in `root`/`images`), and lines `id height width`.
    """
    try:
        with open(instances, "rb") as file:
            document = json.load(file)
    except OSError as error:
        raise DataError(f"cannot read '{instances}': {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"'{instances}' is not JSON: {error}") from None
    try:
        entries = [(int(image["id"]), str(image["file_name"]), image) for image in document["images"]]
        objects: dict[int, list[Any]] = defaultdict(list)
        for each in document.get("annotations", []):
            objects[int(each["image_id"])].append({key: each[key] for key in _KEPT if key in each})
        sizes = [f"{number} {int(image['height'])} {int(image['width'])}" for number, _, image in entries]
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:  # 1e999 is an infinity
        raise DataError(
            f"'{instances}' is not a COCO instances file: {type(error).__name__} {shown(str(error))}"
        ) from None
    strangers = objects.keys() - {number for number, _, _ in entries}
    if strangers:
        raise DataError(
            f"'{instances}': has objects in {len(strangers):,} images that it does not list, e.g. {min(strangers)}"
        )
    for number, name, _ in entries:
        if problem := _unusable(name):
            raise DataError(f"'{instances}': file_name '{shown(name)}' of image {number} {problem}")
    lines = []
    for number, name, image in tqdm(entries, desc="splitting", unit=" images", disable=None, leave=False):
        target = Path(annotations) / f"{Path(name).stem}.json"
        write_text(root / target, json.dumps({"image": image, "annotation": objects[number]}))
        lines.append(f"{Path(images) / name} {target}")
    return lines, sizes


def _unusable(name: str) -> str | None:
    """What keeps a file_name from being the name of a file in the images' directory; None for one that can be."""
    if not name or Path(name).name != name or name == "..":
        return "is not a plain name"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "has half of a surrogate pair"
    if "\0" in name or len(name.splitlines()) > 1:
        return "has a character that no list of files can have"
    return f"is longer than {_NAME_BYTES} bytes" if size > _NAME_BYTES else None


#: what file systems allow, less the extension .json
_NAME_BYTES = 250
_KEPT = ("id", "category_id", "bbox", "iscrowd", "area")
