"""The file of detections for COCO's evaluation server, checked before it is uploaded.

The server takes a zip archive with one JSON file, `detections_<set>_<algorithm>_results.json`, and scores it hours
later; a file with a fault costs one of the few submissions.
"""

from __future__ import annotations

import json
import re
import zipfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffe.data.image_list import SHOWN_FAULTS, raise_faults
from caffe.detection.coco_files import entries, is_finite, read_json
from caffe.errors import CaffeError, DataError, shown
from caffe.files import replacing

#: how far a box may reach beyond its image, in pixels: results are rounded to hundredths
_TOLERANCE = 0.02
#: detections of an image that the server looks at
_USED = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)


@dataclass(frozen=True)
class Submission:
    """What was written. empty: images without a detection. crowded: images with more than the server looks at."""

    json: Path
    archive: Path
    images: int
    detections: int
    empty: int
    crowded: int


def file_name(subset: str, algorithm: str) -> str:
    """Returns the name that the server wants. Raises CaffeError for a set or an algorithm that cannot be in it."""
    for what, text in (("set", subset), ("algorithm", algorithm)):
        if not _NAME.fullmatch(text):
            raise CaffeError(f"the {what}'s name '{shown(text)}' must consist of letters, digits, '.', '_' and '-'")
    return f"detections_{subset}_{algorithm}_results.json"


def write_submission(
    results: str | Path, image_info: str | Path, folder: str | Path, algorithm: str, subset: str = "test-dev2017"
) -> Submission:
    """Checks a results file and writes it to a directory under the server's name, as JSON and as a zip archive.

    image_info: the set's file with `images` and `categories` (image_info_test-dev2017.json); it has no annotations.
    Raises DataError, with the faults, for ids that are not in the set, boxes that are not finite, empty, or not inside
    their images, and scores that are not from 0 to 1. Nothing is written then.
    """
    name = file_name(subset, algorithm)
    images, categories = _read_info(image_info)
    counts = dict.fromkeys(images, 0)
    faults: list[str] = []
    total = 0
    target = Path(folder) / name
    new = not target.parent.exists()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CaffeError(f"cannot create the directory '{folder}': {error.strerror}") from None
    archive = target.with_suffix(".zip")
    with ExitStack() as files:
        files.callback(_remove_if_empty, target.parent if new else None)
        text, packed = files.enter_context(replacing(target)), files.enter_context(replacing(archive))
        with open(text, "w", encoding="utf-8") as file:
            for total, entry in enumerate(entries(results), 1):
                fault = _fault(entry, images, categories)
                if fault:
                    faults.append(f"detection {total - 1}: {fault}")
                    if len(faults) > SHOWN_FAULTS:
                        break
                if faults:
                    continue
                counts[entry["image_id"]] += 1
                chosen = {key: entry[key] for key in ("image_id", "category_id", "bbox", "score")}
                file.write(("[\n" if total == 1 else ",\n") + json.dumps(chosen))
            file.write("[]\n" if total == 0 else "\n]\n")
        raise_faults(faults, f"results file '{results}'", "Nothing was written.")
        if not total:
            raise DataError(f"results file '{results}' has no detections: there is nothing to submit")
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.write(text, name)
    values = counts.values()
    return Submission(
        target, archive, len(images), total, sum(v == 0 for v in values), sum(v > _USED for v in values)
    )  # fmt: skip


def _remove_if_empty(folder: Path | None) -> None:
    """Removes a directory that was made for files that were not written after all."""
    if folder is not None:
        with suppress(OSError):
            folder.rmdir()


def _read_info(path: str | Path) -> tuple[dict[int, tuple[float, float]], set[int]]:
    """Reads the sizes (width, height) of the images by id, and the ids of the categories."""
    info = read_json(path, "image info file")
    lacking = [k for k in ("images", "categories") if not isinstance(info, dict) or not isinstance(info.get(k), list)]
    if lacking:
        raise DataError(f"image info file '{path}' has no list '{lacking[0]}': is it image_info_test-dev2017.json?")
    try:
        images = {int(i["id"]): (float(i["width"]), float(i["height"])) for i in info["images"]}
        return images, {int(c["id"]) for c in info["categories"]}
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError(f"image info file '{path}': an image lacks id, width or height, or a category its id") from None


def _fault(entry: Any, images: dict[int, tuple[float, float]], categories: set[int]) -> str | None:
    """Returns what the server would refuse about a detection, or None."""
    if not isinstance(entry, dict):
        return "not a JSON object"
    image, category, box, score = (entry.get(key) for key in ("image_id", "category_id", "bbox", "score"))
    if not _is_id(image) or image not in images:
        return f"image_id {shown(repr(image))} is not in the set"
    if not _is_id(category) or category not in categories:
        return f"category_id {shown(repr(category))} is not one of the set's"
    if not (isinstance(box, list) and len(box) == 4 and all(map(is_finite, box))):
        return f"bbox {shown(repr(box))} is not [x, y, width, height] of finite numbers"
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return f"bbox {shown(repr(box))} has no area"
    wide, high = images[image]
    if x < -_TOLERANCE or y < -_TOLERANCE or x + width > wide + _TOLERANCE or y + height > high + _TOLERANCE:
        return f"bbox {shown(repr(box))} is not inside image {image}, which is {wide:g} x {high:g} pixels"
    if not is_finite(score) or not 0 <= score <= 1:
        return f"score {shown(repr(score))} is not a number from 0 to 1"
    return None


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
