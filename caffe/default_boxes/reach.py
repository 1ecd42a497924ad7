"""Measures how much each object overlaps the default box that training matches to it.

An object's overlap (intersection over union, Jaccard) with boxes of one shape on a grid is largest at one of a few
cells, so only these are evaluated. If boxes are not clipped to the image, the overlap along each axis falls with the
distance between the centers, so the best cell is the nearest one. `_clipped_overlap` has the candidates for clipped
boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from caffe.default_boxes.layout import Layout, Source
from caffe.default_boxes.objects import Objects

#: the overlap at which a box is a positive for an object (overlap_threshold of MultiBoxLoss in SSD)
THRESHOLD = 0.5
#: overlaps up to this do not match (layers/matching.h)
LEAST_OVERLAP = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reach:
    """How well default boxes cover each of n objects.

    best: the object's largest overlap with any default box, [n]. matched: its overlap with the box that bipartite
    matching assigns to it, [n]. This is `best`, unless another object of the image overlaps that box more. source: the
    index of the source of its best box, or −1 if it overlaps no box, [n]. positives: the number of boxes of each source
    that overlap it by THRESHOLD or more, [n, sources].
    """

    best: Floats
    matched: Floats
    source: NDArray[np.int64]
    positives: NDArray[np.int64]


def axis_overlap(distance: Floats, object_side: Floats, box_side: float) -> Floats:
    """Returns the length that two intervals share, given the distance between their centers; 0 if they do not meet."""
    shared = np.minimum(np.minimum(object_side, box_side), (object_side + box_side) / 2 - distance)
    return np.maximum(shared, 0.0)


def nearest_distance(source: Source, corners: Floats) -> tuple[Floats, Floats]:
    """Returns the distances of the objects' centers from the nearest column and row, [n] each, in pixels."""
    centers = (corners[:, :2] + corners[:, 2:]) / 2
    steps, counts = np.array([source.step_w, source.step_h]), np.array([source.columns, source.rows])
    cells = np.clip(np.round(centers / steps - source.offset), 0, counts - 1)
    distance = np.abs((cells + source.offset) * steps - centers)
    return distance[:, 0], distance[:, 1]


def shape_overlap(source: Source, corners: Floats, width: float, height: float, image: tuple[int, int]) -> Floats:
    """Returns each object's largest overlap with a source's boxes of `width` × `height` pixels over all cells, [n].

    corners: [n, 4] in pixels. image: height and width of the input, to which boxes of a source with `clip` are clipped.
    """
    sides = corners[:, 2:] - corners[:, :2]
    areas = sides[:, 0] * sides[:, 1]
    if source.clip:
        return _clipped_overlap(source, corners, areas, (width, height), (image[1], image[0]))
    x, y = nearest_distance(source, corners)
    shared = axis_overlap(x, sides[:, 0], width) * axis_overlap(y, sides[:, 1], height)
    return shared / (areas + width * height - shared)


def _clipped_overlap(
    source: Source, corners: Floats, areas: Floats, sides: tuple[float, float], image: tuple[float, float]
) -> Floats:
    """`shape_overlap` for boxes that are clipped to the image, which makes them smaller.

    Along an axis, the best cell is one of these candidates: the cell nearest to the object's center, one of the two
    cells next to the place where an edge of the box meets that of the object, or the outermost cell whose box is not
    clipped. The overlap depends on both axes, so all pairs of candidates are evaluated.
    """
    axes = []
    for axis, (step, count) in enumerate(((source.step_w, source.columns), (source.step_h, source.rows))):
        low, high = corners[:, axis], corners[:, axis + 2]
        half, end = sides[axis] / 2, image[axis]
        places = ((low + high) / 2, high - half, low + half, np.full_like(low, half), np.full_like(low, end - half))
        candidates = []
        for place, rounded in product(places, (np.floor, np.ceil)):
            cell = np.clip(rounded(place / step - source.offset), 0, count - 1)
            center = (cell + source.offset) * step
            first, last = np.clip(center - half, 0, end), np.clip(center + half, 0, end)
            shared = np.maximum(np.minimum(last, high) - np.maximum(first, low), 0.0)
            candidates.append((shared, last - first))
        axes.append(candidates)
    best = np.zeros_like(areas)
    for (shared_x, box_width), (shared_y, box_height) in product(*axes):
        shared = shared_x * shared_y
        np.maximum(best, shared / (areas + box_width * box_height - shared), out=best)
    return best


def source_overlap(source: Source, corners: Floats, image: tuple[int, int]) -> Floats:
    """Returns each object's largest overlap with the boxes of each shape of a source, [n, shapes]."""
    sizes = source.shapes.sizes()
    return np.stack([shape_overlap(source, corners, width, height, image) for width, height in sizes], axis=1)


def measure(layout: Layout, objects: Objects) -> Reach:
    """Measures how well a net's default boxes cover each object."""
    image = (layout.height, layout.width)
    overlaps = [source_overlap(source, objects.corners, image) for source in layout.sources]
    table = np.concatenate(overlaps, axis=1)
    owner = np.repeat(np.arange(len(overlaps)), [o.shape[1] for o in overlaps])
    first = table.argmax(axis=1)
    best = table[np.arange(len(table)), first]
    best[best <= LEAST_OVERLAP] = 0
    matched = best.copy()
    contested = _contested(layout, objects, table >= best[:, None] - 1e-9)
    boxes = np.concatenate([boxes for _, boxes in layout.boxes()]) if contested else np.empty((0, 4))
    for group in contested:
        matched[group] = _bipartite(boxes, objects.corners[group])
    return Reach(best, matched, np.where(best > 0, owner[first], -1), positives(layout, objects))


def _contested(layout: Layout, objects: Objects, wants: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Returns the objects of each image in which two objects may have their largest overlap with the same box.

    wants: which shapes are best for each object, [n, shapes].
    """
    sides, centers = objects.sides, (objects.corners[:, :2] + objects.corners[:, 2:]) / 2
    # the largest distance from an object's center at which a box of each shape can overlap it most
    spread = np.concatenate([_spread(source, objects.corners, sides) for source in layout.sources], axis=1)
    groups = []
    for group in np.split(np.arange(len(objects)), np.flatnonzero(np.diff(objects.images)) + 1):
        if len(group) < 2:
            continue
        apart = np.abs(centers[group, None] - centers[None, group])
        shared = wants[group, None] & wants[None, group]
        for axis in range(2):
            far = spread[group, :, axis]
            shared &= apart[:, :, None, axis] <= far[:, None] + far[None] + 1e-6
        if shared.any(axis=2).sum() > len(group):
            groups.append(group)
    return groups


def _spread(source: Source, corners: Floats, sides: Floats) -> Floats:
    """Returns the largest distance between the centers of an object and a box that is best for it, [n, shapes, 2].

    Along each axis this is the distance of the nearest cell, or the distance by which the smaller of the two can move
    within the larger.
    """
    sizes = source.shapes.sizes()
    if source.clip:
        return (sides[:, None] + sizes[None]) / 2
    nearest = np.stack(nearest_distance(source, corners), axis=1)
    return np.maximum(nearest[:, None], np.abs(sides[:, None] - sizes[None]) / 2)


def _bipartite(boxes: Floats, corners: Floats) -> Floats:
    """Returns each object's overlap with the box that bipartite matching assigns to it, [n], for one image.

    Matching repeatedly takes the pair of a free box and a free object with the largest overlap (layers/matching.h).
    """
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    near = (boxes[:, 0] < high[0]) & (boxes[:, 1] < high[1]) & (boxes[:, 2] > low[0]) & (boxes[:, 3] > low[1])
    table = box_overlaps(corners, boxes[near])
    table[table <= LEAST_OVERLAP] = 0
    result = np.zeros(len(corners))
    for _ in range(len(corners) if table.size else 0):
        row, column = np.unravel_index(table.argmax(), table.shape)
        if table[row, column] <= 0:
            break
        result[row] = table[row, column]
        table[row], table[:, column] = 0, 0
    return result


def box_overlaps(objects: Floats, boxes: Floats) -> Floats:
    """Returns the overlaps of n objects with m boxes, [n, m]. Both are given by their corners, [n, 4] and [m, 4]."""
    columns = np.ascontiguousarray(boxes.T)
    areas = (columns[2] - columns[0]) * (columns[3] - columns[1])
    result = np.empty((len(objects), len(boxes)))
    for row, (xmin, ymin, xmax, ymax) in zip(result, objects, strict=True):
        width = np.minimum(columns[2], xmax) - np.maximum(columns[0], xmin)
        height = np.minimum(columns[3], ymax) - np.maximum(columns[1], ymin)
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        row[:] = shared / (areas + (xmax - xmin) * (ymax - ymin) - shared)
    return result


def positives(layout: Layout, objects: Objects) -> NDArray[np.int64]:
    """Returns how many boxes of each source overlap each object by THRESHOLD or more, [n, sources].

    Training assigns a box to the object that it overlaps most, so not all of them become positives of this object.
    """
    result = np.zeros((len(objects), len(layout.sources)), np.int64)
    sides = objects.sides
    areas = sides.prod(axis=1)
    for number, source in enumerate(layout.sources):
        x, y = source.centers()
        for width, height in source.shapes.sizes():
            across, box_width = _along(x, width, objects.corners[:, [0, 2]], layout.width if source.clip else None)
            down, box_height = _along(y, height, objects.corners[:, [1, 3]], layout.height if source.clip else None)
            for row in range(source.rows):
                near = np.flatnonzero(down[:, row] > 0)
                shared = across[near] * down[near, row, None]
                least = THRESHOLD * (areas[near, None] + box_width * box_height[row] - shared)
                result[near, number] += (shared >= least).sum(axis=1)
    return result


def _along(centers: Floats, side: float, intervals: Floats, end: float | None) -> tuple[Floats, Floats]:
    """Returns the length that each object's interval shares with the box at each center, and the boxes' lengths.

    Their shapes are [n, cells] and [cells]. end: the side of the image if boxes are clipped to it.
    """
    first, last = centers - side / 2, centers + side / 2
    if end is not None:
        first, last = np.clip(first, 0, end), np.clip(last, 0, end)
    shared = np.minimum(last, intervals[:, 1, None]) - np.maximum(first, intervals[:, 0, None])
    return np.maximum(shared, 0), last - first
