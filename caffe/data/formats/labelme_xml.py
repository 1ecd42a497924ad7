"""LabelMe's XML, of its web version: one file per image, with polygons, boxes as polygons, or masks with a box."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from caffe.data.build.xml_tree import text_of
from caffe.data.formats.dataset import Parsed, box_of, number, size_of, truth
from caffe.errors import shown

TITLE = "LabelMe XML"
#: the elements that are read, and those that enclose them, without those that name the image
TAGS = frozenset(
    ("annotation", "imagesize", "nrows", "ncols", "object", "name", "deleted", "attributes", "polygon", "pt", "x", "y",
     "segm", "box", "xmin", "ymin", "xmax", "ymax")
)  # fmt: skip


def is_labelme(root: Element) -> bool:
    """Whether a tree is such a file."""
    return root.tag == "annotation" and (
        root.find("imagesize") is not None or root.find("object/polygon/pt") is not None
    )


def parse(root: Element) -> Parsed:
    """The objects of a tree that `is_labelme`, without those that were deleted in the tool."""
    folder, name = text_of(root, "folder"), text_of(root, "filename")
    result = Parsed(f"{folder}/{name}" if folder and name else name)
    result.size = size_of(text_of(root, "imagesize/nrows"), text_of(root, "imagesize/ncols"))
    for index, element in enumerate(root.findall("object"), 1):
        if truth(text_of(element, "deleted")):
            continue
        name = text_of(element, "name")
        what = f"object {index} ('{shown(name)}')" if name else f"object {index}"
        points = element.findall("polygon/pt")
        if points:
            corners = box_of((number(text_of(point, "x")), number(text_of(point, "y"))) for point in points)
        else:
            corners = [number(text_of(element, f"segm/box/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
        attributes = {word.strip() for word in text_of(element, "attributes").split(",")}
        result.add(what, name, corners, difficult="difficult" in attributes)
    return result
