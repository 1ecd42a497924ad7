"""One image and its boxes: everything about them that can be said without the others."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe.data.build.annotated_frame import Frame, frame_of
from caffe.data.images import decode
from caffe.data.jpeg import START, ends_early
from caffe.data.orientation import UPRIGHT, orientation_of, turned_size
from caffe.dataset_check.sets import Item
from caffe.errors import DataError

_COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
#: JPEGs are decoded at an eighth of their size for comparison, which costs two thirds of a full decoding
_SMALL = cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_IGNORE_ORIENTATION
#: the side of the thumbnails that nearly equal images are compared by
THUMBNAIL = 16


@dataclass
class Examined:
    """What was found out about one image. Boxes: n, in units of the image as it goes into a record."""

    name: str
    #: why the image, or its annotation, cannot be used
    image_fault: str = ""
    faults: tuple[str, ...] = ()
    #: height and width as annotated, and as stored; (0, 0) if not known
    size: tuple[int, int] = (0, 0)
    stored: tuple[int, int] = (0, 0)
    orientation: int = UPRIGHT
    frame: Frame = Frame.ONLY
    early: bool = False
    #: whether the annotation gives another size than the image's
    other_size: bool = False
    #: whether every pixel has nearly the same value
    blank: bool = False
    #: equal for equal pixels; equal for nearly equal ones; and what decides about these
    pixels: bytes = b""
    likeness: int = 0
    thumbnail: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    classes: tuple[str | int, ...] = ()
    corners: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 4), np.float32))


def examine(item: Item) -> Examined:
    """Reads an image and its annotation."""
    found = Examined(item.name)
    try:
        data = item.image()
        _look_at(data, found)
    except DataError as error:
        found.image_fault = str(error)
    try:
        drawn = item.boxes()
    except DataError as error:
        found.faults = (str(error),)
        return found
    found.faults, found.classes = drawn.faults, drawn.classes
    if found.orientation != UPRIGHT and drawn.pixels:
        found.frame = frame_of(found.orientation, found.stored, drawn.size)
    found.size = found.stored
    if found.frame in (Frame.TURNED, Frame.UNKNOWN):
        found.size = turned_size(*found.stored, found.orientation)
    found.other_size = drawn.size is not None and found.stored != (0, 0) and drawn.size != found.size
    found.size = found.size if found.size != (0, 0) else drawn.size or (0, 0)
    corners = np.array(drawn.corners, np.float64).reshape(-1, 4)
    if drawn.pixels and len(corners):
        height, width = drawn.size or found.size
        corners = corners / [width or 1, height or 1, width or 1, height or 1]
    found.corners = corners.astype(np.float32)
    return found


def _look_at(data: bytes, found: Examined) -> None:
    found.orientation, found.early = orientation_of(data), ends_early(data)
    values = _gray(data)
    found.stored = _stored_size(data)
    found.blank = int(values.max()) - int(values.min()) <= 4
    digest = hashlib.blake2b(values.tobytes(), digest_size=16)
    digest.update(repr(found.stored).encode())
    found.pixels = digest.digest()
    found.thumbnail = np.asarray(cv2.resize(values, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA), np.uint8)
    # the sign of the differences between neighbors, which brightness and compression hardly change
    coarse = cv2.resize(values, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    bits = np.packbits(coarse[:, 1:] > coarse[:, :-1])
    found.likeness = int.from_bytes(bits.tobytes(), "big")


def _gray(data: bytes) -> NDArray[np.uint8]:
    """An image in gray [H, W], a JPEG at an eighth of its size. Equal for equal pixels, in whatever lossless format."""
    image = decode(data, _SMALL if data.startswith(START) else _COLOR)
    if image is None:
        raise DataError(f"cannot be decoded ({len(data):,} bytes): it is damaged or not an image")
    # decoders of different formats convert to gray in different ways
    gray = image if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return np.asarray(gray, np.uint8).reshape(image.shape[:2])


def _stored_size(data: bytes) -> tuple[int, int]:
    """The height and width from the header, or by decoding if Pillow does not know the format."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            width, height = Image.open(io.BytesIO(data)).size
    except Exception:  # damaged headers raise errors of many classes; OpenCV has read it
        whole = decode(data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
        return (whole.shape[0], whole.shape[1]) if whole is not None else (0, 0)
    return height, width
