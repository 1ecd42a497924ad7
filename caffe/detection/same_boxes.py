"""Notices a detector that ignores its image: its best box is the same in every one.

Such a detector can score well where objects fill their images, so the score does not show it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

#: how many images are compared; detectors that do look at images agree this often only by their data
IMAGES = 20
#: the overlap with the typical box that counts as the same, and the share of images that must reach it
_OVERLAP = 0.9
_SHARE = 0.95


def are_same(boxes: Floats) -> bool:
    """Returns whether nearly all boxes [n, 4] (corners) are where their median is; False for fewer than IMAGES."""
    if len(boxes) < IMAGES:
        return False
    typical = np.median(boxes, axis=0)
    sides = np.minimum(boxes[:, 2:], typical[2:]) - np.maximum(boxes[:, :2], typical[:2])
    shared = np.maximum(sides, 0).prod(axis=1)
    both = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (typical[2:] - typical[:2]).prod()
    with np.errstate(divide="ignore", invalid="ignore"):
        overlap = shared / (both - shared)
    return bool((overlap >= _OVERLAP).mean() >= _SHARE)


class SameBoxes:
    """Collects one box per image, in units of the image, and the largest object of each where they are known."""

    def __init__(self) -> None:
        self._found: list[Floats] = []
        self._objects: list[Floats] = []
        self._said = False

    def see(self, box: Floats, objects: Floats | None = None) -> None:
        """Takes an image's best detection [4] and its objects [n, 4]."""
        if self._said:
            return
        self._found.append(np.asarray(box, np.float32))
        if objects is not None and len(objects):
            areas = (objects[:, 2:] - objects[:, :2]).prod(axis=1)
            self._objects.append(objects[areas.argmax()])

    def warning(self) -> str | None:
        """Returns a warning, once, if the boxes of the last images are the same and those of their objects are not."""
        if self._said or len(self._found) < IMAGES:
            return None
        found = np.array(self._found, np.float32)
        alike = are_same(found) and not are_same(np.array(self._objects, np.float32).reshape(-1, 4))
        where = ", ".join(f"{value:.2f}" for value in np.median(found, axis=0))
        count, known = len(self._found), bool(self._objects)
        self._found, self._objects = [], []
        if not alike:
            return None
        self._said = True
        unless = "" if known else " Unless the objects really are in the same place: "
        return (
            f"The best box is the same in each of {count} images, about ({where}) of the image: the detector seems to "
            f"ignore what it sees.{unless or ' '}Train longer, start from pretrained weights, or check that images are "
            "prepared as in training (mean, scale, channel order)"
        )
