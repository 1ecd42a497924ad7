"""What the anchors of maps are to predict: the label maps of MS-CNN's and Cascade R-CNN's data layers.

A map, 6 × H × W, has for each anchor the class of its object (0: none), the object's center x, center y, width and
height in pixels, and the largest overlap with an object. An overlap of 1 without a class means "do not look here".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe.data.augment.object_view import Boxes, nearest

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class AnchorMap:
    """The anchors of one map: `wide` × `high` pixels, at the centers of cells of `stride` pixels."""

    stride: int
    wide: int
    high: int

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns for an image of this size."""
        return nearest(height / self.stride), nearest(width / self.stride)

    def part(self, start: int, size: int) -> slice:
        """The cells of `size` pixels from `start` on, along one axis."""
        first = nearest(start / self.stride)
        return slice(first, first + nearest(size / self.stride))

    def spans(self, rows: int, columns: int) -> tuple[Boxes, Boxes]:
        """The anchors' ends along x (columns × 2) and along y (rows × 2)."""
        return self._ends(columns, self.wide), self._ends(rows, self.high)

    def _ends(self, cells: int, side: int) -> Boxes:
        center = (np.arange(cells) + 0.5) * self.stride
        return np.stack([center - side / 2, center + side / 2], axis=1)


@dataclass(frozen=True)
class LabelRules:
    """Where MS-CNN and Cascade R-CNN differ, and the options of their layers."""

    #: an anchor that overlaps an object by more has its class
    foreground: float
    #: an anchor whose part in regions without interest is at least this is not looked at
    in_regions: float
    #: an object that no anchor has is given the anchor at its center if some anchor overlaps it by as much
    pickup: float
    #: 1: both border pixels belong to a box (Cascade R-CNN)
    pixel: int = 0
    #: whether objects come before regions without interest
    objects_first: bool = False
    #: how far anchors may reach beyond the image, in parts of half their sides; None: as far as they do
    margin: float | None = None
    #: the least part of an anchor that is in the image
    inside: float | None = None


def _shared(a: Boxes, b: Boxes, pixel: int, touch: bool) -> Boxes:
    """The lengths that intervals A × 2 and B × 2 share, A × B. `touch`: with `pixel`, a single point is a pixel."""
    across = np.minimum(a[:, None, 1], b[None, :, 1]) - np.maximum(a[:, None, 0], b[None, :, 0])
    return np.where(across >= 0 if pixel and touch else across > 0, across + pixel, 0)


class _Grid:
    """The overlaps of a map's anchors with boxes."""

    def __init__(self, of: AnchorMap, rows: int, columns: int, pixel: int) -> None:
        self.x, self.y = of.spans(rows, columns)
        self.pixel = pixel
        self.area = (of.wide + pixel) * (of.high + pixel)

    def shared(self, boxes: Boxes) -> Boxes:
        """The areas that anchors share with boxes G × 4: rows × columns × G. Boxes without area share none."""
        sides = boxes[:, 2:] - boxes[:, :2]
        valid = (sides >= 0 if self.pixel else sides > 0).all(axis=1)
        # Cascade R-CNN's comparisons: boxes that share one column of pixels overlap, those that share one row do not.
        x = _shared(self.x, boxes[:, [0, 2]], self.pixel, touch=True)
        y = _shared(self.y, boxes[:, [1, 3]], self.pixel, touch=False)
        areas: Boxes = y[:, None] * x[None] * valid
        return areas

    def overlaps(self, boxes: Boxes) -> Boxes:
        """Intersection over union."""
        shared = self.shared(boxes)
        sizes = (boxes[:, 2:] - boxes[:, :2] + self.pixel).clip(min=0).prod(axis=1)
        ratios: Boxes = shared / (sizes + self.area - shared)
        return ratios


def label_maps(
    maps: list[AnchorMap], rules: LabelRules, canvas: tuple[int, int], image: tuple[int, int, int, int], boxes: Boxes,
    label: NDArray[np.int64], ignore: NDArray[np.bool_], regions: Boxes,
) -> list[Floats]:  # fmt: skip
    """The label map of each map, for objects G × 4 with their labels, of which some are ignored.

    `canvas`: height and width of the net's input; `image`: left, top, width and height of the part that has pixels.
    """
    made, used = [], np.zeros(len(boxes), bool)
    best, best_map = np.zeros(len(boxes)), np.zeros(len(boxes), np.int64)
    for number, of in enumerate(maps):
        rows, columns = of.shape(*canvas)
        table = np.zeros((6, rows, columns))
        grid = _Grid(of, rows, columns, rules.pixel)
        seen = _looked_at(of, rules, grid, image, rows, columns)
        near = grid.shared(regions).sum(axis=2) / grid.area >= rules.in_regions
        if not rules.objects_first:
            seen &= ~near
        fit = np.where(seen[:, :, None], grid.overlaps(boxes), 0)
        most = fit.max(axis=2, initial=0)
        if len(boxes):
            of_map = fit.max(axis=(0, 1), initial=0)
            best_map[of_map > best] = number
            best = np.maximum(best, of_map)
            match = fit.argmax(axis=2)
            fore = most > rules.foreground
            used[match[fore]] = True
            table[0, fore] = np.where(ignore, 0, label)[match[fore]]
            table[1:5, fore] = _described(boxes, rules.pixel)[match[fore]].T
            if rules.objects_first:
                near &= ~fore
        table[5] = np.where(seen & ~near, most, 1)
        made.append(table)
    for lost in np.flatnonzero(~ignore & ~used & (best >= rules.pickup)) if maps else ():
        table, of = made[best_map[lost]], maps[best_map[lost]]
        if not table.size:
            continue
        described = _described(boxes[lost : lost + 1], rules.pixel)[0]
        column, row = (int(np.clip(described[axis] // of.stride, 0, table.shape[2 - axis] - 1)) for axis in (0, 1))
        if table[0, row, column] > 0:
            continue
        table[0, row, column], table[1:5, row, column] = label[lost], described
        if rules.objects_first:
            table[5, row, column] = best[lost]
    return [table.astype(np.float32) for table in made]


def _described(boxes: Boxes, pixel: int) -> Boxes:
    """Center x, center y, width and height of boxes G × 4."""
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2] + pixel], axis=1)


def _looked_at(
    of: AnchorMap, rules: LabelRules, grid: _Grid, image: tuple[int, int, int, int], rows: int, columns: int
) -> NDArray[np.bool_]:
    """Which anchors are in the image, rows × columns: their centers, and as much of them as the rules want."""
    left, top, width, height = image
    seen = np.zeros((rows, columns), bool)
    seen[of.part(top, height), of.part(left, width)] = True
    if rules.margin is not None:
        for ends, start, size, side, axis in ((grid.x, left, width, of.wide, 0), (grid.y, top, height, of.high, 1)):
            room = rules.margin * side / 2
            fits = (ends[:, 0] >= start - room) & (ends[:, 1] < start + size + room)
            seen &= fits[None, :] if axis == 0 else fits[:, None]
    elif rules.inside is not None:
        whole = np.array([[left, top, left + width, top + height]], np.float64)
        seen &= grid.shared(whole)[:, :, 0] / grid.area >= rules.inside
    return seen
