"""CVAT's own XML, for images and for videos: one file for all images of a task or project."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from caffe.data.build.xml_tree import text_of
from caffe.data.formats.dataset import Parsed, box_of, number, part_of, rotated_box, size_of, truth
from caffe.errors import shown

TITLE = "CVAT XML"
#: the elements that are read, and those that enclose them
TAGS = frozenset(
    ("annotations", "meta", "task", "project", "job", "labels", "label", "name", "original_size", "height", "width",
     "image", "track", "box", "polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton", "tag", "attribute")
)  # fmt: skip
_NO_AREA = frozenset(("polyline", "points", "skeleton", "tag"))


def is_cvat(root: Element) -> bool:
    """Whether a tree is such a file."""
    return root.tag == "annotations" and any(root.find(child) is not None for child in ("meta", "image", "track"))


def class_names(root: Element) -> list[str]:
    """The labels of the task or project, in its order."""
    return [name for label in root.iterfind("meta//labels/label") if (name := text_of(label, "name"))]


def parse(root: Element) -> Iterator[Parsed]:
    """The images of a tree that `is_cvat`. Images of a video's tracks are called `frame_000000`, as CVAT exports them."""
    for image in root.iterfind("image"):
        result = Parsed(image.get("name", ""), size_of(image.get("height"), image.get("width")))
        result.part = part_of([image.get("subset", "")])
        for index, shape in enumerate(image, 1):
            _add(result, f"shape {index}", shape, shape.get("label", ""))
        yield result
    frames: dict[int, Parsed] = {}
    size = size_of(text_of(root, "meta//original_size/height"), text_of(root, "meta//original_size/width"))
    for track in root.iterfind("track"):
        for shape in track:
            frame = shape.get("frame", "")
            if not re.fullmatch(r"[0-9]{1,9}", frame):
                result = frames.setdefault(-1, Parsed())
                result.faults.append(f"track {track.get('id', '?')} has a {shape.tag} with frame '{shown(frame)}'")
                continue
            result = frames.setdefault(int(frame), Parsed(f"frame_{int(frame):06d}", size))
            if not truth(shape.get("outside", "0")):
                _add(result, f"track {track.get('id', '?')}", shape, track.get("label", ""))
    yield from (frames[frame] for frame in sorted(frames))


def _add(result: Parsed, what: str, shape: Element, label: str) -> None:
    if shape.tag in _NO_AREA:
        result.notes[f"shapes without area ({shape.tag}), left out"] += 1
        return
    corners = _corners(shape)
    if corners is None:
        result.notes[f"shapes of a kind that has no box ({shown(shape.tag)}), left out"] += 1
        return
    difficult = any(
        attribute.get("name", "").lower() == "difficult" and truth(attribute.text)
        for attribute in shape.iterfind("attribute")
    )
    result.add(f"{what} ({shape.tag} '{shown(label)}')", label, corners, difficult=difficult)


def _corners(shape: Element) -> list[float | None] | None:
    def values(*names: str) -> list[float | None]:
        return [number(shape.get(name, "")) for name in names]

    if shape.tag == "box":
        corners = values("xtl", "ytl", "xbr", "ybr")
        turned = number(shape.get("rotation", "0"))
        given = [value for value in corners if value is not None]
        if turned and len(given) == 4:
            x1, y1, x2, y2 = given
            return rotated_box((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, math.radians(turned))
        return corners
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in shape.get("points", "").split(";")]
        return box_of((number(pair[0]), number(pair[1])) if len(pair) == 2 else (None, None) for pair in pairs)
    if shape.tag == "cuboid":
        places = ("xtl1", "ytl1"), ("xbr1", "ybr1"), ("xtl2", "ytl2"), ("xbr2", "ybr2")
        return box_of((number(shape.get(x, "")), number(shape.get(y, ""))) for x, y in places)
    if shape.tag in ("ellipse", "mask"):
        names = ("cx", "cy", "rx", "ry") if shape.tag == "ellipse" else ("left", "top", "width", "height")
        given = [value for value in values(*names) if value is not None]
        if len(given) < 4:
            return []
        x, y, width, height = given
        if shape.tag == "mask":
            return [x, y, x + width, y + height]
        turned = number(shape.get("rotation", "0")) or 0.0
        return rotated_box(x, y, 2 * width, 2 * height, math.radians(turned)) if turned else [
            x - width, y - height, x + width, y + height
        ]  # fmt: skip
    return None
