"""COCO's annotation file of a whole data set, split into one file per image, as convert_annoset reads them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from caffe.data.formats.coco import key_of
from caffe.data.formats.dataset import size_of
from caffe.data.formats.image_size import sides_of
from caffe.data.image_list import raise_faults
from caffe.data.label_map import LabelMap, LabelMapItem
from caffe.errors import DataError, shown
from caffe.files import write_text

#: what file systems allow, less the extension .json
_NAME_BYTES = 250
_KEPT = ("id", "category_id", "bbox", "iscrowd", "area")
_INSTEAD = "import_annotations reads other forms"


@dataclass
class Split:
    """The lines `image annotation` and `id height width` of every image, and the categories."""

    lines: list[str]
    sizes: list[str]
    #: the categories by number, as convert_annoset -label_type=json names them; None if the file has none
    label_map: LabelMap | None


def split(instances: str | Path, root: Path, images: str, annotations: str) -> Split:
    """Writes `root`/`annotations`/<name>.json for every image, with or without objects.

    Images are in `root`/`images`. Raises DataError with all faults of the file, each with its entry.
    """
    document = _read(instances)
    faults: list[str] = []
    entries = _images(document["images"], root / images, faults)
    # those of images that have faults as well, which are told already
    known = {_whole(key_of(each.get("id"))) for each in document["images"] if isinstance(each, dict)}
    objects = _objects(document.get("annotations", []), known, faults)
    raise_faults(faults, f"'{instances}'; nothing was written")
    stems = Counter(PurePosixPath(name).with_suffix("") for _, name, _ in entries)
    lines, sizes = [], []
    for number, name, size in tqdm(entries, desc="splitting", unit=" images", disable=None, leave=False):
        path = PurePosixPath(name)
        # 1.jpg and 1.png have their own files; elsewhere the ending is left out
        plain = path.with_suffix("") if stems[path.with_suffix("")] == 1 else path
        target = Path(annotations) / f"{plain}.json"
        image = {"id": number, "file_name": name, "height": size[0], "width": size[1]}
        write_text(root / target, json.dumps({"image": image, "annotation": objects[number]}))
        lines.append(f"{Path(images) / name} {target}")
        sizes.append(f"{number} {size[0]} {size[1]}")
    return Split(lines, sizes, _label_map(document.get("categories")))


def _read(instances: str | Path) -> dict[str, Any]:
    try:
        with open(instances, "rb") as file:
            document = json.load(file)
    except OSError as error:
        raise DataError(f"cannot read '{instances}': {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"'{instances}' is not JSON: {error}") from None
    lists = [document.get(kind, []) for kind in ("images", "annotations")] if isinstance(document, dict) else [None]
    if not all(isinstance(each, list) for each in lists) or not lists[0]:
        raise DataError(
            f"'{instances}' is not a COCO instances file: it needs a list 'images', and a list 'annotations'"
        )
    return dict(document)


def _images(listed: list[Any], folder: Path, faults: list[str]) -> list[tuple[int, str, tuple[int, int]]]:
    """The number, file name and (height, width) of each image."""
    entries = []
    seen: dict[int, str] = {}
    for index, image in enumerate(listed):
        key = key_of(image.get("id")) if isinstance(image, dict) else None
        name = image.get("file_name") if isinstance(image, dict) else None
        what = f"images[{index}]" + (f" (id {shown(key)})" if key else "")
        number = _whole(key)
        if number is None:
            faults.append(f"{what} has no number as id, which COCO's results need; {_INSTEAD}")
        elif number in seen:
            faults.append(f"{what} has the id of an earlier image, '{shown(seen[number])}'")
        elif not isinstance(name, str) or not name:
            faults.append(f"{what} has no file_name")
        elif problem := _unusable(name):
            faults.append(f"{what}: file_name '{shown(name)}' {problem}; {_INSTEAD}")
        else:
            seen[number] = name
            size = size_of(image.get("height"), image.get("width"))
            if size is None:
                sides = sides_of(folder / name)
                if isinstance(sides, str):
                    faults.append(f"{what} has no height and width, and '{folder / name}' does not tell: {sides}")
                    continue
                size = sides.stored
            entries.append((number, name, size))
    return entries


def _unusable(name: str) -> str | None:
    """What keeps a file_name from being a path in the images' directory and in lists; None for one that can be."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.name in ("", "."):
        return "is not a path inside the directory of images"
    try:
        longest = max(len(part.encode()) for part in path.parts)
    except UnicodeEncodeError:
        return "has half of a surrogate pair"
    if "\0" in name or len(name.split()) != 1:
        return "has a blank or another character that a list cannot have"
    return f"is longer than {_NAME_BYTES} bytes" if longest > _NAME_BYTES else None


def _objects(listed: list[Any], known: set[int | None], faults: list[str]) -> dict[int, list[dict[str, Any]]]:
    """What is kept of the objects, by the number of their image."""
    objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for index, each in enumerate(listed):
        number = _whole(key_of(each.get("image_id"))) if isinstance(each, dict) else None
        if number is None:
            faults.append(f"annotations[{index}] has no number as image_id")
        elif number not in known:
            faults.append(f"annotations[{index}] has image_id {number}, which no entry of 'images' has")
        else:
            kept = {key: each[key] for key in _KEPT if key in each}
            if (category := key_of(kept.get("category_id"))) is not None:
                kept["category_id"] = _whole(category) if _whole(category) is not None else category
            objects[number].append(kept)
    return objects


def _whole(key: str | None) -> int | None:
    return int(key) if key is not None and key.isascii() and key.isdigit() and len(key) < 19 else None


def _label_map(categories: object) -> LabelMap | None:
    items = [LabelMapItem("none_of_the_above", 0, "background")]
    for each in categories if isinstance(categories, list) else []:
        key = key_of(each.get("id")) if isinstance(each, dict) else None
        if key is not None and all(item.name != key for item in items):
            items.append(LabelMapItem(key, len(items), str(each.get("name") or key)))
    return LabelMap(items) if len(items) > 1 else None
