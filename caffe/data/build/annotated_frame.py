"""Whether boxes were drawn on a photograph as it is stored or as its orientation tag turns it.

Older annotation tools show the stored pixels, today's turn them, and an annotation says neither. It often gives the
size of the image, though. If turning exchanges the sides, this size tells which of the two it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from pathlib import Path

from caffe.data.build.annotations import PARSERS, read_annotations
from caffe.data.label_map import LabelMap
from caffe.data.orientation import UPRIGHT, swaps_sides
from caffe.errors import DataError


class Frame(Enum):
    """What the boxes of an image refer to."""

    #: the image has no orientation tag that changes it, so there is only one frame
    ONLY = "only"
    STORED = "stored"
    TURNED = "turned"
    #: the annotation does not tell
    UNKNOWN = "unknown"


def frame_of(orientation: int, stored: tuple[int, int], annotated: tuple[int, int] | None) -> Frame:
    """Returns the frame of an image of `stored` height and width whose annotation gives the size `annotated`."""
    if orientation == UPRIGHT:
        return Frame.ONLY
    if annotated is None or not swaps_sides(orientation) or stored[0] == stored[1] or annotated[0] == annotated[1]:
        return Frame.UNKNOWN
    # not the sizes themselves, because an image may have been resized after it was annotated
    return Frame.STORED if (stored[0] > stored[1]) == (annotated[0] > annotated[1]) else Frame.TURNED


def turns_undecided(frames: Iterable[Frame]) -> bool:
    """Returns whether images whose frame is unknown are turned: as most of the others, and turned if they do not tell."""
    known = [frame for frame in frames if frame in (Frame.STORED, Frame.TURNED)]
    return known.count(Frame.TURNED) * 2 >= len(known)


def is_annotation(path: str) -> bool:
    """Returns whether a path in a list names a file with boxes; in classification there is a label in its place."""
    return _kind(path) in PARSERS


def annotated_size(path: str) -> tuple[int, int] | None:
    """Returns the height and width that an annotation file gives for its image; None if it gives none."""
    try:
        return read_annotations(path, _kind(path), LabelMap(())).size
    except DataError:
        return None


def _kind(path: str) -> str:
    return Path(path).suffix.lower().lstrip(".")
