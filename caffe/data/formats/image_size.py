"""The size of an image file, and what an annotation's coordinates refer to.

Annotation tools of today show photographs turned as their orientation tag says; older ones show the stored pixels.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from caffe.data.formats.dataset import Object
from caffe.data.images import ImageFormat, read_image
from caffe.data.orientation import UPRIGHT, swaps_sides
from caffe.errors import DataError

#: the orientation among an image's EXIF tags
_TAG = 0x0112


@dataclass(frozen=True)
class Sides:
    """The (height, width) of an image as it is stored, and as viewers show it: turned as its orientation tag says."""

    stored: tuple[int, int]
    displayed: tuple[int, int]


def sides_of(path: Path) -> Sides | str:
    """The sizes of an image file, or a message. Only its header is read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large images and odd tags
            with Image.open(path) as image:
                width, height = image.size
                turned = swaps_sides(_orientation(image))
                if turned and image.format == "TIFF":  # OpenCV turns these itself, and some versions of Pillow do
                    return _decoded(path)
    except OSError as error:
        if not isinstance(error, UnidentifiedImageError):
            return f"cannot read the image: {error.strerror or error}"
        return _decoded(path)  # a format that only OpenCV knows
    except (ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"cannot read the image: {error}"
    return Sides((height, width), (width, height) if turned else (height, width))


def _decoded(path: Path) -> Sides | str:
    """The size of an image that is decoded as viewers show it."""
    try:
        height, width = read_image(path, ImageFormat())[1].shape[:2]
    except DataError as error:
        return str(error)
    return Sides((height, width), (height, width))


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_TAG, UPRIGHT)
    except Exception:  # a damaged block raises errors of many classes
        return UPRIGHT
    return value if isinstance(value, int) else UPRIGHT


def in_frame(
    objects: list[Object], annotated: tuple[int, int] | None, sides: Sides
) -> tuple[list[Object], tuple[int, int]]:
    """Objects in pixels of the image, and the size that tells whether of the stored or the turned one.

    `annotated` is the size that the annotation gives; None means that of the image as viewers show it. Where it is
    neither of the image's sizes, the image was resized after it was annotated, and the objects are resized too.
    """
    if annotated is None or annotated in (sides.stored, sides.displayed):
        return objects, annotated or sides.displayed
    same_way = (annotated[0] > annotated[1]) == (sides.displayed[0] > sides.displayed[1])
    size = sides.displayed if same_way else sides.stored
    down, across = size[0] / annotated[0], size[1] / annotated[1]
    return [
        replace(each, xmin=each.xmin * across, ymin=each.ymin * down, xmax=each.xmax * across, ymax=each.ymax * down)
        for each in objects
    ], size
