"""VOC's XML: one file per image, with objects that have a name and a bndbox."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from caffe.data.build.xml_tree import text_of
from caffe.data.formats.dataset import Parsed, number, rotated_box, size_of, truth
from caffe.errors import shown

TITLE = "VOC XML"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
#: the elements that are read, and those that enclose them. The file name is only a hint, so it may be in any encoding
TAGS = frozenset(
    ("annotation", "size", "height", "width", "object", "name", "difficult", "bndbox", *_CORNERS, "robndbox", "cx", "cy",
     "w", "h", "angle")
)  # fmt: skip


def is_voc(root: Element) -> bool:
    """Whether a tree is such a file. One without objects counts, unless it is LabelMe's, which is as empty."""
    return root.tag == "annotation" and root.find("imagesize") is None and root.find("object/polygon/pt") is None


def parse(root: Element) -> Parsed:
    """The objects of a tree that `is_voc`. A robndbox (roLabelImg) counts with the upright box around it."""
    result = Parsed(text_of(root, "filename"), size_of(text_of(root, "size/height"), text_of(root, "size/width")))
    for index, element in enumerate(root.findall("object"), 1):
        name = text_of(element, "name")
        what = f"object {index} ('{shown(name)}')" if name else f"object {index}"
        corners = _corners(element, what, result)
        if corners is not None:
            result.add(what, name, corners, difficult=truth(text_of(element, "difficult")))
    return result


def _corners(element: Element, what: str, result: Parsed) -> list[float | None] | None:
    turned = element.find("robndbox")
    if turned is not None:
        sides = [number(text_of(turned, side)) for side in ("cx", "cy", "w", "h", "angle")]
        given = [side for side in sides if side is not None]
        if len(given) < len(sides):
            result.faults.append(f"{what} has a robndbox without five numbers cx, cy, w, h, angle")
            return None
        cx, cy, width, height, angle = given
        return rotated_box(cx, cy, width, height, angle)
    bndbox = element.find("bndbox")
    if bndbox is None:
        result.faults.append(f"{what} has no bndbox")
        return None
    values = [number(text_of(bndbox, side)) for side in _CORNERS]
    for side, value in zip(_CORNERS, values, strict=True):
        if value is None:
            written = text_of(bndbox, side)
            why = f"{side} '{shown(written)}', which is not a number" if written else f"no {side}"
            result.faults.append(f"{what} has {why}")
    return None if None in values else values
