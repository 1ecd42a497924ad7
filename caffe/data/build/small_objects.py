"""Gives training data more small objects: repeats images that contain some, and pastes copies of the objects into them.

The method is that of "Augmentation for small object detection" (Kisantal et al. 2019). The paper cuts objects out by
their masks. Here there are only boxes, so a copy includes some of its surroundings, and its edges are blended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe.data.augment.boxes import Boxes, Corners, areas, intersections
from caffe.data.build.small_settings import SmallObjects
from caffe.data.images import Image, deep

#: range of the size of a copy relative to its object
SCALES = (0.8, 1.2)
#: number of random places to try for each copy
TRIALS = 50
#: an object is not copied if another box covers more of it: the copy would show part of the other object without a box
COVERED = 0.25


@dataclass(frozen=True)
class Copy:
    """A pasted copy: its label, its box, and the box of the original object, as corners in pixels of the image."""

    label: int
    box: tuple[float, float, float, float]
    source: tuple[float, float, float, float]


@dataclass
class Pasting:
    """The copies pasted into an image, and the number of copies for which there was no free place."""

    copies: list[Copy] = field(default_factory=list)
    unplaced: int = 0


def arrange(small: Sequence[bool], repeats: int) -> list[tuple[int, int]]:
    """Returns the records as (image, repeat), with `repeats` records per image with small objects.

    The repeats of an image are far apart and spread evenly, because training reads records in order.
    """
    count = len(small)
    places = [
        ((image + repeat * count / repeats) % count, repeat, image)
        for image in range(count)
        for repeat in range(repeats if small[image] else 1)
    ]
    return [(image, repeat) for _, repeat, image in sorted(places)]


def copyable(boxes: Boxes, height: int, width: int, small: SmallObjects) -> NDArray[np.int64]:
    """Returns the indices of the boxes that can be copied: small, whole, not difficult, and not covered by others."""
    corners = boxes.corners * np.array([width, height, width, height], np.float32)
    # the first pixel is 0 or, in VOC's files, 1
    whole = (corners[:, :2] > 1).all(1) & (corners[:, 2] < width - 1) & (corners[:, 3] < height - 1)
    shared = intersections(corners[:, None], corners[None])
    np.fill_diagonal(shared, 0)
    free = shared.max(1, initial=0) <= COVERED * areas(corners)
    return np.flatnonzero(small.are_small(boxes.corners) & whole & free & ~boxes.difficult)


def paste(image: Image, record: Any, small: SmallObjects, rng: np.random.Generator) -> tuple[Image, Pasting]:
    """Pastes copies of an image's small objects into it, and adds their boxes to the AnnotatedDatum `record`.

    Objects are copied in turn, in random order. A place is free if it contains no box of an object or an earlier copy.
    Returns the new image, uint8 [H, W, C], and what was pasted.
    """
    height, width = image.shape[:2]
    boxes = Boxes.of(record)
    candidates = copyable(boxes, height, width, small)
    if not len(candidates):
        return image, Pasting()
    turns = np.concatenate([rng.permutation(candidates) for _ in range(-(-small.copies // len(candidates)))])
    scale = np.array([width, height, width, height], np.float32)
    taken = boxes.corners * scale
    groups = {group.group_label: group for group in record.annotation_group}
    result, pasting = image.copy(), Pasting()
    for index in turns[: small.copies].tolist():
        source = boxes.corners[index].astype(np.float64) * scale
        patch, core, box = _cut(image, source, rng.uniform(*SCALES), small.soft_edge)
        place = _place(patch.shape[:2], (height, width), taken, small.overlap, rng)
        if place is None:
            pasting.unplaced += 1
            continue
        _blend(result, patch, core, place, small.soft_edge)
        corners = (box + np.array([place[0], place[1], place[0], place[1]])).astype(np.float32)
        taken = np.concatenate([taken, corners[None]])
        label = int(boxes.labels[index, 0])
        annotation = groups[label].annotation.add(instance_id=len(groups[label].annotation))
        target = annotation.bbox
        target.xmin, target.ymin, target.xmax, target.ymax = (corners / scale).tolist()
        target.difficult = False
        pasting.copies.append(Copy(label, _four(corners), _four(source)))
    return result, pasting


def _four(corners: NDArray[Any]) -> tuple[float, float, float, float]:
    xmin, ymin, xmax, ymax = (round(float(value), 2) for value in corners)
    return xmin, ymin, xmax, ymax


def _cut(
    image: Image, source: NDArray[np.float64], scale: float, soft_edge: int
) -> tuple[Image, tuple[int, int, int, int], NDArray[np.float64]]:
    """Cuts out an object with `soft_edge` pixels around it and scales it.

    Returns the patch, the corners of the object's pixels in the patch, and the corners of its box in the patch.
    """
    height, width = image.shape[:2]
    # one more pixel at the left and the top, for boxes whose coordinates start at 1
    core = np.array([*np.floor(source[:2]) - 1, *np.ceil(source[2:])]).astype(int)
    limits = [0, 0, width, height]
    outer = np.clip(core + np.array([-soft_edge, -soft_edge, soft_edge, soft_edge]), 0, limits[2:] * 2)
    core = np.clip(core, 0, limits[2:] * 2)
    patch = image[outer[1] : outer[3], outer[0] : outer[2]]
    rows, columns = (max(1, round(side * scale)) for side in patch.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = deep(cv2.resize(patch, (columns, rows), interpolation=how))
    ratio = np.array([columns / patch.shape[1], rows / patch.shape[0]] * 2)
    origin = np.array([outer[0], outer[1]] * 2)
    inner = np.round((core - origin) * ratio).astype(int).tolist()
    return resized.astype(np.uint8), (inner[0], inner[1], inner[2], inner[3]), (source - origin) * ratio


def _place(
    size: tuple[int, int], within: tuple[int, int], taken: Corners, overlap: float, rng: np.random.Generator
) -> tuple[int, int] | None:
    """Finds a place for a patch that overlaps no box by more than `overlap`.

    size, within: (height, width) of the patch and of the image. Returns left and top of the place, or None.
    """
    room = within[1] - size[1], within[0] - size[0]
    if min(room) < 0:
        return None
    lefts, tops = (rng.integers(0, most + 1, TRIALS) for most in room)
    patches = np.stack([lefts, tops, lefts + size[1], tops + size[0]], 1).astype(np.float32)
    shared = intersections(patches[:, None], taken[None])
    least = np.minimum(areas(taken), np.float32(size[0] * size[1]))
    fits = np.flatnonzero((shared <= overlap * least).all(1))
    return (int(lefts[fits[0]]), int(tops[fits[0]])) if len(fits) else None


def _blend(image: Image, patch: Image, core: tuple[int, int, int, int], place: tuple[int, int], soft_edge: int) -> None:
    """Pastes a patch into the image: opaque inside `core`, fading out toward the edges of the patch."""
    rows, columns = patch.shape[:2]
    x, y = np.arange(columns), np.arange(rows)
    beyond_x = np.maximum(core[0] - x, x - (core[2] - 1)).clip(0)
    beyond_y = np.maximum(core[1] - y, y - (core[3] - 1)).clip(0)
    beyond = np.maximum(beyond_y[:, None], beyond_x[None])
    alpha = (1 - beyond / (soft_edge + 1)).clip(0).astype(np.float32)[..., None]
    under = image[place[1] : place[1] + rows, place[0] : place[0] + columns]
    under[:] = np.round(under + (patch.astype(np.float32) - under) * alpha).astype(np.uint8)
