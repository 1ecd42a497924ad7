"""COCO's JSON, as COCO and the usual tools write it: one file for all images.

The tools differ in what the format leaves open: identifiers are numbers, floats or text, `file_name` has folders or is
a URL, sizes or boxes are missing. What identifies its entry is read; what does not is a fault with the entry's name.
"""

from __future__ import annotations

from typing import Any

from caffe.data.formats.dataset import Parsed, box_of, number, size_of, truth
from caffe.errors import shown

TITLE = "COCO JSON"


def is_coco(document: object) -> bool:
    """Whether a JSON document is such a file. One with captions only, or without annotations, is not."""
    if not isinstance(document, dict) or not all(isinstance(document.get(key), list) for key in _LISTS):
        return False
    return any(isinstance(each, dict) and "category_id" in each for each in document["annotations"][:100])


def class_names(document: dict[str, Any]) -> list[str]:
    """The names of the categories, in the file's order."""
    return [str(each["name"]) for each in _entries(document, "categories") if each.get("name")]


def parse(document: dict[str, Any]) -> tuple[list[Parsed], list[str]]:
    """The images of a document that `is_coco`, and faults that belong to no image."""
    faults: list[str] = []
    images: dict[str, Parsed] = {}
    for index, image in enumerate(document["images"]):
        key = key_of(image.get("id")) if isinstance(image, dict) else None
        name = image.get("file_name") if isinstance(image, dict) else None
        what = f"images[{index}]" + (f" (id {shown(key)})" if key is not None else "")
        if key is None:
            faults.append(f"{what} has no id, which is a number or a word")
        elif key in images:
            faults.append(f"{what} has the id of an earlier image, '{shown(images[key].reference)}'")
        elif not isinstance(name, str) or not name.strip():
            faults.append(f"{what} has no file_name")
        else:
            images[key] = Parsed(name, size_of(image.get("height"), image.get("width")))
    names = {key: str(each["name"]) for each in _entries(document, "categories")
             if (key := key_of(each.get("id"))) is not None and each.get("name")}  # fmt: skip
    for index, annotation in enumerate(document["annotations"]):
        if isinstance(annotation, dict):
            _add(annotation, f"annotations[{index}]", images, names, faults)
        else:
            faults.append(f"annotations[{index}] is not a JSON object")
    return list(images.values()), faults


def key_of(value: object) -> str | None:
    """An identifier in one spelling: 7, 7.0 and "7" are the same."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


_LISTS = ("images", "annotations", "categories")


def _entries(document: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [each for each in document[kind] if isinstance(each, dict)]


def _add(
    annotation: dict[str, Any], what: str, images: dict[str, Parsed], names: dict[str, str], faults: list[str]
) -> None:
    if (own := key_of(annotation.get("id"))) is not None:
        what += f" (id {shown(own)})"
    image, category = key_of(annotation.get("image_id")), key_of(annotation.get("category_id"))
    if image not in images:
        word = f"image_id {shown(str(annotation['image_id']))}" if "image_id" in annotation else "no image_id"
        faults.append(f"{what} has {word}; no entry of 'images' has this id")
        return
    result = images[image]
    if category not in names:
        word = f"category_id {shown(str(annotation['category_id']))}" if "category_id" in annotation else "no category"
        result.faults.append(f"{what} has {word}; no entry of 'categories' has this id and a name")
        return
    attributes = annotation.get("attributes")
    difficult = truth(annotation.get("iscrowd", 0)) or (
        isinstance(attributes, dict) and truth(attributes.get("difficult"))
    )
    result.add(f"{what}, '{shown(names[category])}',", names[category], _corners(annotation), difficult=difficult)


def _corners(annotation: dict[str, Any]) -> list[float | None]:
    bbox, outline = annotation.get("bbox"), annotation.get("segmentation")
    if isinstance(bbox, list) and bbox:
        values = [number(value) for value in bbox]
        given = [value for value in values if value is not None]
        if len(values) != 4 or len(given) != 4:
            return []
        x, y, width, height = given
        return [x, y, x + width, y + height] if width >= 0 and height >= 0 else []
    if isinstance(outline, list):
        flat = [number(value) for polygon in outline if isinstance(polygon, list) for value in polygon]
        return box_of(zip(flat[::2], flat[1::2], strict=False))
    if isinstance(outline, dict):
        return _mask_box(outline)
    return []


def _mask_box(outline: dict[str, Any]) -> list[float | None]:
    from pycocotools import mask

    try:
        height, width = outline["size"]
        counts = outline["counts"]
        encoded = outline if isinstance(counts, str | bytes) else mask.frPyObjects(outline, height, width)
        x, y, box_width, box_height = (float(value) for value in mask.toBbox(encoded))
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        return []
    return [x, y, x + box_width, y + box_height]
