"""LabelMe's JSON, which AnyLabeling and X-AnyLabeling write too: one file per image, with shapes of points."""

from __future__ import annotations

import math
from typing import Any

from caffe.data.formats.dataset import Parsed, box_of, number, size_of, truth
from caffe.errors import shown

TITLE = "LabelMe JSON"
_NO_AREA = frozenset(("point", "points", "line", "linestrip"))


def is_labelme(document: object) -> bool:
    """Whether a JSON document is such a file."""
    return isinstance(document, dict) and isinstance(document.get("shapes"), list)


def parse(document: dict[str, Any]) -> Parsed:
    """The objects of a document that `is_labelme`. Polygons, circles and masks count with the box around them."""
    result = Parsed(str(document.get("imagePath") or ""))
    result.size = size_of(document.get("imageHeight"), document.get("imageWidth"))
    for index, shape in enumerate(document["shapes"], 1):
        if not isinstance(shape, dict):
            result.faults.append(f"shape {index} is not a JSON object")
            continue
        kind, label = str(shape.get("shape_type") or "polygon"), str(shape.get("label") or "")
        if kind in _NO_AREA:
            result.notes[f"shapes without area ({kind}), left out"] += 1
            continue
        flags = shape.get("flags")
        difficult = truth(shape.get("difficult")) or (isinstance(flags, dict) and truth(flags.get("difficult")))
        what = f"shape {index} ({shown(kind)} '{shown(label)}')"
        result.add(what, label, _corners(kind, shape.get("points")), difficult=difficult)
    return result


def _corners(kind: str, points: object) -> list[float | None]:
    if not isinstance(points, list):
        return []
    pairs = [
        (number(point[0]), number(point[1])) if isinstance(point, list) and len(point) >= 2 else (None, None)
        for point in points
    ]
    if kind == "circle" and len(pairs) == 2:  # its center, and a point of its edge
        given = [value for pair in pairs for value in pair if value is not None]
        if len(given) < 4:
            return []
        x, y, edge_x, edge_y = given
        radius = math.hypot(edge_x - x, edge_y - y)
        return [x - radius, y - radius, x + radius, y + radius]
    return box_of(pairs) if len(pairs) > 1 else []
