"""Images on disk and in records: reading, decoding, and their Datum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe.data.image_header import is_decodable
from caffe.data.jpeg import completed
from caffe.data.orientation import orientation_of, turned
from caffe.errors import DataError
from caffe.proto import caffe_pb2

#: H×W×C, uint8, channels in the order blue, green, red
Image = NDArray[Any]

#: The pixels as they are stored. Whether a camera's orientation tag applies depends on how the boxes were annotated, and
#: decoders disagree about it, so `caffe.data.orientation` turns images where that is wanted.
_COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_GRAY = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION


def deep(image: Any) -> Image:
    """The image H×W×C; OpenCV drops the axis of a single channel."""
    result: Image = image if image.ndim == 3 else image[:, :, None]
    return result


def fill(height: int, width: int, ground: tuple[int, ...]) -> Image:
    """An image of one color."""
    return np.broadcast_to(np.array(ground, np.uint8), (height, width, len(ground))).copy()


def decode(data: bytes, flags: int) -> Image | None:
    """The decoded image, H×W×C with C 1, 3 or 4, BGR; None if `data` is not an image that OpenCV knows.

    A JPEG that ends early is decoded as far as it goes; the rest is gray. Raises DataError if an image claims more
    pixels than `caffe.data.image_header.max_pixels`.
    """
    if not data or not is_decodable(data):
        return None
    try:
        image = cv2.imdecode(np.frombuffer(completed(data), np.uint8), flags)
    except cv2.error:
        return None  # a header that claims more pixels than OpenCV allows
    if image is None:
        return None
    return deep(image)


def decode_datum(datum: Any, where: str, *, force_color: bool = False, force_gray: bool = False) -> NDArray[Any]:
    """The image of a Datum as H×W×C, uint8 (float32 if the Datum holds float_data).

    Encoded images come with as many channels as the record says (3: color, 1: gray), or unchanged if it does not say.
    `where` names the record in messages.
    """
    if not datum.encoded:
        return _raw(datum, where)
    if force_color or (datum.channels == 3 and not force_gray):
        flags = _COLOR
    elif force_gray or datum.channels == 1:
        flags = _GRAY
    else:
        flags = cv2.IMREAD_UNCHANGED
    try:
        image = decode(datum.data, flags)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    if image is None:
        raise DataError(f"{where}: cannot decode the image ({len(datum.data):,} bytes). It is damaged or not an image")
    if image.dtype != np.uint8:
        raise DataError(f"{where}: the image has {image.dtype.itemsize * 8} bits per channel; Caffe reads 8")
    return image


def _raw(datum: Any, where: str) -> NDArray[Any]:
    channels, height, width = datum.channels, datum.height, datum.width
    count = len(datum.data) or len(datum.float_data)
    if min(channels, height, width) < 1 or channels * height * width != count:
        raise DataError(f"{where}: {count:,} values for an image of {channels} × {height} × {width}")
    values: NDArray[Any] = (
        np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, dtype=np.float32)
    )
    return values.reshape(channels, height, width).transpose(1, 2, 0)


@dataclass(frozen=True)
class ImageFormat:
    """How images go into records: the flags that convert_annoset and convert_imageset share."""

    gray: bool = False
    #: minimum of the smaller side, maximum of the larger; 0: no limit
    min_dim: int = 0
    max_dim: int = 0
    #: if both are over 0, images are warped to this size
    resize_height: int = 0
    resize_width: int = 0
    #: keep images compressed; encode_type (jpg, png, …) chooses the format, else the file's own is kept
    encoded: bool = False
    encode_type: str = ""

    @property
    def resizes(self) -> bool:
        return bool(self.min_dim or self.max_dim or (self.resize_height and self.resize_width))


def read_bytes(path: str | Path) -> bytes:
    """A file's bytes; raises DataError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the image: {error.strerror}") from None


def read_image(path: str | Path, image_format: ImageFormat, *, turn: bool = False) -> tuple[bytes, Image]:
    """A file's bytes and its image, resized as the format says; raises DataError if it cannot be read.

    `turn`: turned as the file's orientation tag says, before it is resized.
    """
    data = read_bytes(path)
    image = decode(data, _GRAY if image_format.gray else _COLOR)
    if image is None:
        raise DataError(f"cannot decode the image ({len(data):,} bytes): it is damaged or not an image")
    if turn:
        image = turned(image, orientation_of(data))
    return data, _resize(image, image_format)


def _resize(image: Image, wanted: ImageFormat) -> Image:
    height, width = image.shape[:2]
    if wanted.min_dim or wanted.max_dim:
        scale = np.float32(1)
        if wanted.min_dim and min(height, width) < wanted.min_dim:
            scale = np.float32(wanted.min_dim) / np.float32(min(height, width))
        if wanted.max_dim and int(scale * np.float32(max(height, width))) > wanted.max_dim:
            scale = np.float32(wanted.max_dim) / np.float32(max(height, width))
        if scale == 1:
            return image
        resized = cv2.resize(image, None, fx=float(scale), fy=float(scale))
    elif wanted.resize_height and wanted.resize_width:
        resized = cv2.resize(image, (wanted.resize_width, wanted.resize_height))
    else:
        return image
    return deep(resized)


def encoding_of(path: str | Path, wanted: ImageFormat) -> str:
    """The format an image is stored in ('jpg', 'png', …), '' for raw pixels."""
    if wanted.encode_type:
        return wanted.encode_type.lower().lstrip(".")
    return Path(path).suffix.lower().lstrip(".") if wanted.encoded else ""


def copies_file(path: str | Path, wanted: ImageFormat) -> bool:
    """Whether a file goes into its record byte by byte: it needs no resizing and no other format."""
    encoding, suffix = encoding_of(path, wanted), Path(path).suffix.lower().lstrip(".")
    return bool(encoding) and not wanted.resizes and (suffix == encoding or (suffix, encoding) == ("jpeg", "jpg"))


def to_datum(
    path: str | Path, data: bytes, image: Image | None, size: tuple[int, int, int], wanted: ImageFormat, label: int
) -> Any:
    """The Datum of an image of `size` (height, width, channels): `image`, encoded or as raw pixels by channel; None for
    `data`, the file's bytes, as they are (see `copies_file`)."""
    height, width, channels = size
    datum = caffe_pb2.Datum(channels=channels, height=height, width=width, label=label)
    encoding = encoding_of(path, wanted)
    datum.encoded = bool(encoding)
    if image is None:
        datum.data = data
        return datum
    if not encoding:
        datum.data = np.ascontiguousarray(image.transpose(2, 0, 1)).tobytes()
        return datum
    try:
        encodes, buffer = cv2.imencode("." + encoding, image)
    except cv2.error:
        encodes, buffer = False, np.empty(0, np.uint8)
    if not encodes:
        raise DataError(f"{path}: cannot encode as '{encoding}': use jpg or png")
    datum.data = buffer.tobytes()
    return datum


def through_jpeg(image: Image) -> Image:
    """The image [H, W, C] as it comes back from JPEG at OpenCV's default quality."""
    encoded = cv2.imencode(".jpg", image)[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR if image.shape[2] == 3 else cv2.IMREAD_GRAYSCALE)
    assert decoded is not None
    return decoded.reshape(image.shape)


def decode_size(data: bytes) -> tuple[int, int] | None:
    """The height and width of an encoded image as it is stored; None if it cannot be decoded."""
    image = decode(data, _GRAY)
    return None if image is None else (image.shape[0], image.shape[1])
