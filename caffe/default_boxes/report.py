"""The objects that default boxes reach, as text tables and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe.default_boxes.layout import Layout
from caffe.default_boxes.objects import Objects
from caffe.default_boxes.reach import THRESHOLD, Reach
from caffe.detection.report import percent, table
from caffe.errors import counted

#: the ranges of size in the tables, in pixels; an object's size is the square root of its area
SIZE_EDGES = (0, 8, 16, 32, 64, 128, math.inf)
#: limits of "objects under", in pixels
UNDER = (8, 16, 32)


def size_names() -> list[str]:
    """Returns the names of the ranges of size."""
    names = [f"under {SIZE_EDGES[1]:g}"]
    names += [f"{low:g} to {high:g}" for low, high in pairwise(SIZE_EDGES[1:-1])]
    return [*names, f"{SIZE_EDGES[-2]:g} and over"]


def groups(objects: Objects) -> dict[str, NDArray[np.bool_]]:
    """Returns which objects are in each range of size: a mask, [n], by the range's name."""
    rows: dict[str, NDArray[np.bool_]] = {}
    for name, low, high in zip(size_names(), SIZE_EDGES[:-1], SIZE_EDGES[1:], strict=True):
        rows[name] = (objects.size >= low) & (objects.size < high)
    return rows


def _classes(objects: Objects) -> dict[str, NDArray[np.bool_]]:
    return {objects.names[label]: objects.labels == label for label in np.unique(objects.labels).tolist()}


def _share(values: NDArray[np.float64], chosen: NDArray[np.bool_]) -> float:
    return float((values[chosen] >= THRESHOLD).mean()) if chosen.any() else math.nan


def _mean(values: NDArray[Any], chosen: NDArray[np.bool_]) -> float:
    return float(values[chosen].mean()) if chosen.any() else math.nan


def text(objects: Objects, layouts: Mapping[str, Layout], reaches: Mapping[str, Reach]) -> str:
    """Returns the tables as text: objects by size and by class, and the boxes."""
    layout = next(iter(layouts.values()))
    under = ", ".join(f"{int((objects.size < limit).sum()):,} under {limit}" for limit in UNDER)
    left_out = f"; boxes without area left out: {objects.without_area:,}" if objects.without_area else ""
    head = (
        f"{layout.network}: {layout.width} x {layout.height} input\n"
        f"{counted(len(objects), 'object')} in {counted(objects.num_images, 'image')}, resized to the input{left_out}\n"
        f"size: the square root of the area, in pixels of the input; {under}\n"
        f"reached: the box that is matched to the object overlaps it by {THRESHOLD} or more\n"
        f"boxes over {THRESHOLD}: the average number of default boxes that overlap the object by that much\n"
    )
    everything = {"all": np.ones(len(objects), bool)}
    sizes = _reach_table("size", groups(objects) | everything, reaches)
    classes = _reach_table("class", _classes(objects), reaches)
    by_class = "\n".join(_class_by_size(objects, name, reach) for name, reach in reaches.items())
    boxes = "\n".join(_boxes_table(name, each) for name, each in layouts.items())
    return "\n".join((head, sizes, classes, by_class, boxes))


def _reach_table(what: str, rows: Mapping[str, NDArray[np.bool_]], reaches: Mapping[str, Reach]) -> str:
    heading = [what, "objects"]
    for name in reaches:
        heading += [f"{name}: reached %", "mean overlap", "boxes over 0.5"]
    lines = []
    for row, chosen in rows.items():
        line = [row, f"{int(chosen.sum()):,}"]
        for reach in reaches.values():
            mean = _mean(reach.matched, chosen)
            over = _mean(reach.positives.sum(axis=1), chosen)
            line += [percent(_share(reach.matched, chosen))]
            line += [
                "-" if math.isnan(value) else text for value, text in ((mean, f"{mean:.2f}"), (over, f"{over:.1f}"))
            ]
        lines.append(line)
    total = lines.pop() if "all" in rows else None
    return table(heading, lines, total)


def _class_by_size(objects: Objects, name: str, reach: Reach) -> str:
    sizes = groups(objects)
    rows = [
        [each, *(f"{percent(_share(reach.matched, of & chosen))} of {int((of & chosen).sum()):,}" if (of & chosen).any()
                 else "-" for chosen in sizes.values())]
        for each, of in _classes(objects).items()
    ]  # fmt: skip
    return table([f"{name}: reached %", *sizes], rows)


def _boxes_table(name: str, layout: Layout) -> str:
    rows = []
    for source in layout.sources:
        shapes = source.shapes
        rows.append(
            [source.name, f"{source.step:g}", _list(shapes.min_sizes), _list(shapes.max_sizes),
             _list(shapes.aspect_ratios) + ("" if shapes.flip or not shapes.aspect_ratios else " (no flip)"),
             str(shapes.count), f"{source.count:,}"]
        )  # fmt: skip
    heading = [f"boxes: {name}", "step", "min sizes", "max sizes", "ratios", "per cell", "boxes"]
    return table(heading, rows, ["all", "", "", "", "", "", f"{layout.count:,}"])


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "-"


def values(objects: Objects, layouts: Mapping[str, Layout], reaches: Mapping[str, Reach]) -> dict[str, Any]:
    """Returns the numbers of the tables for JSON. Shares and overlaps are from 0 to 1, or null without an object."""
    rows = groups(objects)
    result: dict[str, Any] = {
        "objects": len(objects),
        "images": objects.num_images,
        "boxes without area": objects.without_area,
        "objects under": {str(limit): int((objects.size < limit).sum()) for limit in UNDER},
        "objects by size": {name: int(chosen.sum()) for name, chosen in rows.items()},
        "objects by class": {name: int(chosen.sum()) for name, chosen in _classes(objects).items()},
        "threshold": THRESHOLD,
    }
    for name, layout in layouts.items():
        reach = reaches[name]
        result[name] = {
            "default boxes": layout.count,
            "all": _values(reach, np.ones(len(objects), bool)),
            "boxes over 0.5 by source": {
                source.name: int(count)
                for source, count in zip(layout.sources, reach.positives.sum(axis=0), strict=True)
            },
            "under": {str(limit): _values(reach, objects.size < limit) for limit in UNDER},
            "by size": {row: _values(reach, chosen) for row, chosen in rows.items()},
            "by class": {
                label: {"all": _values(reach, of)} | {row: _values(reach, of & chosen) for row, chosen in rows.items()}
                for label, of in _classes(objects).items()
            },
        }
    return result


def _values(reach: Reach, chosen: NDArray[np.bool_]) -> dict[str, float | int | None]:
    numbers = {
        "reached": _share(reach.matched, chosen),
        "mean overlap": _mean(reach.matched, chosen),
        "mean best overlap": _mean(reach.best, chosen),
        "boxes over 0.5 for an object": _mean(reach.positives.sum(axis=1), chosen),
    }
    counted: dict[str, float | int | None] = {"objects": int(chosen.sum())}
    return counted | {name: None if math.isnan(value) else round(value, 5) for name, value in numbers.items()}
