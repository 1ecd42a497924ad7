"""Box annotations of one image: VOC XML, COCO JSON, plain text, read into AnnotationGroups as Caffe stores them.

Readers are strict about faults that make a box meaningless (an unknown name, a coordinate that is not a number), and
collect them all instead of stopping at the first. Oddities (a box that reaches beyond the image or has no area, a size
that differs from the image's) are kept, as in Caffe, and counted.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from caffe.data.build import xml_tree
from caffe.data.label_map import LabelMap
from caffe.errors import DataError, shown
from caffe.files import decoded
from caffe.proto import caffe_pb2

#: an annotation of one image is a few kilobytes; something far larger is another file by mistake
MAX_BYTES = 32 << 20


@dataclass
class Box:
    """An object in pixels of an image: corners, label, and whether it is difficult (VOC) or a crowd (COCO)."""

    label: int
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    difficult: bool


@dataclass
class Annotations:
    """The content of one file. `faults` are errors, each naming its object; `oddities` counts what is kept but odd."""

    boxes: list[Box] = field(default_factory=list)
    #: (height, width) that the file gives for its image, or None
    size: tuple[int, int] | None = None
    faults: list[str] = field(default_factory=list)
    oddities: Counter[str] = field(default_factory=Counter)

    def groups(self, height: int, width: int) -> Any:
        """An AnnotatedDatum with these boxes by label in order of appearance, coordinates divided by the size.

        The size is the file's own if it gives one, else the image's, `height` × `width`.
        """
        if self.size is None:
            self.oddities["without an image size"] += 1
        elif self.size != (height, width):
            self.oddities["with another size than the image's"] += 1
        height, width = self.size or (height, width)
        record = caffe_pb2.AnnotatedDatum()
        record.type = caffe_pb2.AnnotatedDatum.BBOX
        groups: dict[int, Any] = {}
        scale = np.array([width, height, width, height], np.float32)
        for box in self.boxes:
            if box.label not in groups:
                groups[box.label] = record.annotation_group.add(group_label=box.label)
            annotation = groups[box.label].annotation.add()
            annotation.instance_id = len(groups[box.label].annotation) - 1
            corners = np.array([box.xmin, box.ymin, box.xmax, box.ymax], np.float32)
            if corners[2] <= corners[0] or corners[3] <= corners[1]:
                self.oddities["boxes without area"] += 1
            elif (corners < 0).any() or (corners > scale).any():
                self.oddities["boxes that reach beyond the image"] += 1
            xmin, ymin, xmax, ymax = (corners / scale).tolist()
            target = annotation.bbox
            target.xmin, target.ymin, target.xmax, target.ymax = xmin, ymin, xmax, ymax
            target.difficult = box.difficult
        return record


def read_annotations(path: str | Path, kind: str, label_map: LabelMap) -> Annotations:
    """Reads the annotation file of one image (`kind`: xml, json or txt); DataError if it cannot be read at all."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise DataError(f"over {MAX_BYTES >> 20} MB: not an annotation of one image")
    return PARSERS[kind](data, label_map)


# ---- VOC XML


#: the elements that are read, and those that enclose them
_VOC_TAGS = frozenset(
    ("annotation", "size", "height", "width", "object", "name", "difficult", "bndbox", "xmin", "ymin", "xmax", "ymax")
)


def parse_xml(data: bytes, label_map: LabelMap) -> Annotations:
    """VOC's XML: size, and objects with name, difficult, bndbox. Entities and document types are refused."""
    root = xml_tree.parse(data, _VOC_TAGS)
    if root.tag != "annotation":
        raise DataError(f"not a VOC annotation: its root is <{shown(root.tag)}>, not <annotation>")
    result = Annotations(size=_xml_size(root))
    for number, element in enumerate(root.findall("object"), 1):
        name = (element.findtext("name") or "").strip()
        what = f"object {number} ('{shown(name)}')" if name else f"object {number}"
        label = _known(name, label_map, what, result) if name else None
        if not name:
            result.faults.append(f"{what} has no name")
        bndbox = element.find("bndbox")
        if bndbox is None:
            result.faults.append(f"{what} has no bndbox")
            continue
        corners: list[float] = []
        for side in ("xmin", "ymin", "xmax", "ymax"):
            text = bndbox.findtext(side)
            if text is None:
                result.faults.append(f"{what} has no {side}")
            elif (value := _number(text)) is None:
                result.faults.append(f"{what} has {side} '{shown(text.strip())}', which is not a number")
            else:
                corners.append(value)
        if label is not None and len(corners) == 4:
            difficult = (element.findtext("difficult") or "").strip() == "1"
            xmin, ymin, xmax, ymax = corners
            result.boxes.append(Box(label, xmin, ymin, xmax, ymax, difficult))
    return result


def _xml_size(root: Element) -> tuple[int, int] | None:
    height, width = (_number(root.findtext(f"size/{side}") or "") for side in ("height", "width"))
    return _size(height, width)


# ---- COCO JSON, one file per image


def parse_json(data: bytes, label_map: LabelMap) -> Annotations:
    """COCO's JSON of one image: `image` (height, width) and `annotation`, a list of category_id, bbox, iscrowd."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}") from None
    if isinstance(document, dict) and "annotations" in document and "images" in document:
        raise DataError(
            "this is COCO's file for all images; 'create_list --coco_instances' splits it into one per image"
        )
    if not isinstance(document, dict) or not isinstance(document.get("annotation"), list):
        raise DataError("not a COCO annotation of one image: it needs 'image' and a list 'annotation'")
    image = document.get("image")
    sides = [image.get(side) for side in ("height", "width")] if isinstance(image, dict) else [None, None]
    result = Annotations(size=_size(*(_json_number(side) for side in sides)))
    for number, entry in enumerate(document["annotation"], 1):
        if not isinstance(entry, dict):
            result.faults.append(f"object {number} is not a JSON object")
            continue
        name = entry.get("category_id")
        what = f"object {number} (category_id {shown(str(name))})"
        label = None
        if not isinstance(name, int | str) or isinstance(name, bool):
            result.faults.append(f"object {number} has no category_id")
        else:
            label = _known(str(name), label_map, what, result)
        bbox = entry.get("bbox")
        corners = [_json_number(value) for value in bbox] if isinstance(bbox, list) else []
        if len(corners) != 4 or None in corners:
            result.faults.append(f"{what} has no bbox of four numbers [x, y, width, height]")
            continue
        if label is not None:
            x, y, width, height = (np.float32(value) for value in corners)
            crowd = _json_number(entry.get("iscrowd", 0))
            result.boxes.append(Box(label, float(x), float(y), float(x + width), float(y + height), bool(crowd)))
    return result


# ---- plain text


def parse_txt(data: bytes, label_map: LabelMap) -> Annotations:
    """Lines of `label xmin ymin xmax ymax`, in pixels."""
    try:
        text = decoded(data)
    except UnicodeDecodeError:
        raise DataError("not a text file") from None
    if "\0" in text:
        raise DataError("not a text file")
    result = Annotations()
    lines = [line.split() for line in text.splitlines()]
    if _are_shares(lines):
        raise DataError(
            "all coordinates are between 0 and 1: these are shares of the image's sides, as in YOLO's "
            "'class cx cy width height', not pixels, 'label xmin ymin xmax ymax'. import_annotations reads YOLO's files"
        )
    for number, (fields, line) in enumerate(zip(lines, text.splitlines(), strict=True), 1):
        if not fields:
            continue
        values = [_number(value) for value in fields]
        if len(fields) != 5 or None in values:
            result.faults.append(f"line {number}: expected 'label xmin ymin xmax ymax', found '{shown(line)}'")
            continue
        label, xmin, ymin, xmax, ymax = (value for value in values if value is not None)
        if label != int(label) or int(label) not in label_map:
            result.faults.append(f"line {number}: label {shown(fields[0])} is not in the label map")
            continue
        result.boxes.append(Box(int(label), xmin, ymin, xmax, ymax, difficult=False))
    return result


def _are_shares(lines: Sequence[Sequence[str]]) -> bool:
    """Whether lines have coordinates between 0 and 1 alone. In pixels, that would be no more than one pixel each."""
    coordinates = [_number(field) for fields in lines for field in fields[1:]]
    return bool(coordinates) and all(value is not None and 0 <= value <= 1 for value in coordinates)


# ---- shared parts


def _known(name: str, label_map: LabelMap, what: str, result: Annotations) -> int | None:
    label = label_map.label_of(name)
    if label is None:
        result.faults.append(f"{what}: unknown name '{shown(name)}'")
    return label


# float() would take underscores, 'nan' and digits of other scripts as well
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_LARGEST = 1e9


def _number(text: str) -> float | None:
    text = text.strip()
    if len(text) > 64 or not _NUMBER.fullmatch(text):
        return None
    return _finite(float(text))


def _json_number(value: object) -> float | None:
    if isinstance(value, str):
        return _number(value)
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int):
        return float(value) if abs(value) <= _LARGEST else None
    return _finite(value) if isinstance(value, float) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) and abs(value) <= _LARGEST else None


def _size(height: float | None, width: float | None) -> tuple[int, int] | None:
    """None for a size of 0, which some tools write."""
    if height is None or width is None or height < 1 or width < 1:
        return None
    return int(height), int(width)


def describe(oddities: Counter[str], annotations: int) -> Iterator[str]:
    """The oddities, one line each."""
    for what, count in sorted(oddities.items()):
        yield f"{what}: {count:,}" if what.startswith("boxes") else f"{count:,} of {annotations:,} annotations {what}"


PARSERS: dict[str, Callable[[bytes, LabelMap], Annotations]] = {"xml": parse_xml, "json": parse_json, "txt": parse_txt}
