"""Photographs that a camera stored sideways or upside down, with an EXIF tag that says how to turn them."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

UPRIGHT = 1
#: an EXIF block is among a file's first segments; a file without one is not parsed
_HEADER_BYTES = 1 << 18
_TAG = 0x0112
_NAMES = (b"Exif", b"eXIf", b"EXIF")


def orientation_of(data: bytes) -> int:
    """Returns the EXIF orientation of an encoded image, from 1 (upright) to 8; 1 if it has none or a damaged one."""
    head = data[:_HEADER_BYTES]
    if not any(name in head for name in _NAMES):
        return UPRIGHT
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about images that are large or have odd tags
            block = Image.open(io.BytesIO(data)).info.get("exif")
            if not isinstance(block, bytes):
                return UPRIGHT
            exif = Image.Exif()
            exif.load(block)
            value = exif.get(_TAG)
    except Exception:  # a damaged block raises errors of many classes
        return UPRIGHT
    return value if isinstance(value, int) and 1 <= value <= 8 else UPRIGHT


def swaps_sides(orientation: int) -> bool:
    """Returns whether turning an image of this orientation exchanges its height and width."""
    return orientation >= 5


def turned(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Returns an image [H, W, C] as a viewer shows it: turned and mirrored as its orientation says."""
    if swaps_sides(orientation):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def turned_size(height: int, width: int, orientation: int) -> tuple[int, int]:
    """Returns the height and width of an image after turning."""
    return (width, height) if swaps_sides(orientation) else (height, width)
