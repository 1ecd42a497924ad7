"""Tables with one object per line: the usual columns `filename,width,height,class,xmin,ymin,xmax,ymax`, in any order.

RetinaNet's form without a header, `path,xmin,ymin,xmax,ymax,class`, is read too.
"""

from __future__ import annotations

import csv
import io
import re

from caffe.data.formats.dataset import Parsed, number, size_of, truth
from caffe.errors import DataError, shown

TITLE = "CSV"

#: what columns are called, in lower case and without other characters than letters and digits
_COLUMNS = {
    "image": ("filename", "imagepath", "imagename", "imageid", "file", "image", "path", "img", "imgname", "name"),
    "width": ("width", "imagewidth", "imgwidth"),
    "height": ("height", "imageheight", "imgheight"),
    "class": ("class", "label", "classname", "category", "labelname", "categoryname", "object"),
    "xmin": ("xmin", "x1", "left", "xtl", "bboxxmin", "x0", "bboxx1"),
    "ymin": ("ymin", "y1", "top", "ytl", "bboxymin", "y0", "bboxy1"),
    "xmax": ("xmax", "x2", "right", "xbr", "bboxxmax", "bboxx2"),
    "ymax": ("ymax", "y2", "bottom", "ybr", "bboxymax", "bboxy2"),
    "difficult": ("difficult",),
}
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_HEADERLESS = ("image", *_SIDES, "class")


def is_table(beginning: str) -> bool:
    """Whether a text begins like such a table."""
    rows = _rows(beginning[:4096].rpartition("\n")[0] or beginning)
    return bool(rows) and (_columns(rows[0]) is not None or _is_headerless(rows[0]))


def why_not(text: str) -> str:
    """What a text that is not `is_table` lacks."""
    columns = ", ".join(shown(field.strip(), 20) for field in (_rows(text[:4096].partition("\n")[0]) or [[]])[0][:10])
    return f"a table needs the columns filename, xmin, ymin, xmax, ymax and class; its first line: {columns or 'empty'}"


def parse(text: str) -> tuple[dict[str, Parsed], list[str]]:
    """The images of a text that `is_table`, by name, and faults that belong to no image.

    A line with an image alone is an image without objects. Coordinates that are all from 0 to 1 are shares of the
    sides.
    """
    rows = _rows(text)
    if not rows:
        raise DataError("not a table: a quotation mark that is not closed, or a field that is too long")
    columns = _columns(rows[0])
    first = 2 if columns is not None else 1
    columns = columns if columns is not None else {key: index for index, key in enumerate(_HEADERLESS)}
    images: dict[str, Parsed] = {}
    faults: list[str] = []
    for line, row in enumerate(rows[first - 1 :], first):
        if not any(field.strip() for field in row):
            continue
        values = {key: row[index].strip() if index < len(row) else "" for key, index in columns.items()}
        name = values["image"]
        if not name:
            faults.append(f"line {line} names no image")
            continue
        result = images.setdefault(name, Parsed(name, size_of(values.get("height"), values.get("width"))))
        corners = [values[side] for side in _SIDES]
        if not any(corners):
            continue
        label = values.get("class", "object")
        what = f"line {line} ('{shown(label)}')"
        bad = [side for side in _SIDES if number(values[side]) is None]
        if bad:
            result.faults.append(f"{what} has {bad[0]} '{shown(values[bad[0]])}', which is not a number")
        else:
            result.add(what, label, [*map(number, corners)], difficult=truth(values.get("difficult", "")))
    objects = [each for result in images.values() for each in result.objects]
    if objects and all(0 <= side <= 1 for each in objects for side in (each.xmin, each.ymin, each.xmax, each.ymax)):
        for result in images.values():
            result.relative = True
    return images, faults


def _rows(text: str) -> list[list[str]]:
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = [*csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)]
    except csv.Error:
        return []
    if delimiter == ",":
        return rows
    return [[re.sub(r"^\s*([+-]?\d+),(\d+)\s*$", r"\1.\2", field) for field in row] for row in rows]  # decimal commas


def _columns(header: list[str]) -> dict[str, int] | None:
    names = [re.sub(r"[^a-z0-9]", "", field.lower()) for field in header]
    found = {
        key: names.index(spelling)
        for key, spellings in _COLUMNS.items()
        for spelling in reversed(spellings)
        if spelling in names
    }
    return found if all(key in found for key in ("image", *_SIDES)) else None


def _is_headerless(row: list[str]) -> bool:
    return len(row) == len(_HEADERLESS) and all(number(value) is not None or not value for value in row[1:5])
