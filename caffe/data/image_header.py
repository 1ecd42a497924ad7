"""What an encoded image's header claims, read before a decoder trusts it.

A few bytes can claim an image of gigabytes, or a chunk of one, and decoders allocate first. So the size is read here for
every format that OpenCV decodes, and data of any other kind is not given to it.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator

from caffe.errors import CaffeError, DataError

MAX_PIXELS_VARIABLE = "CAFFE_MAX_PIXELS"
MAX_PIXELS = 200_000_000
"""The largest image that is decoded unless CAFFE_MAX_PIXELS, or a command's -max_pixels, says otherwise: 600 MB in
color."""

Size = tuple[int, int]


class Unreadable(Exception):
    """A header that no decoder should see."""


def max_pixels() -> int:
    """The limit. Raises CaffeError if CAFFE_MAX_PIXELS is not a number."""
    text = os.environ.get(MAX_PIXELS_VARIABLE, "")
    if not text:
        return MAX_PIXELS
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:20]) < 1 << 60:
        raise CaffeError(f"{MAX_PIXELS_VARIABLE} is '{text}'; it must be a number of pixels, such as {MAX_PIXELS}")
    return int(text)


def is_decodable(data: bytes) -> bool:
    """Whether `data` may be given to a decoder: it is of a known format, and its header is sound.

    Raises DataError if it claims more pixels than `max_pixels`.
    """
    size = next((read for starts, read in _FORMATS if starts(data)), None)
    if size is None:
        return False
    try:
        width, height = max(size(data), key=lambda found: found[0] * found[1])
    except (Unreadable, struct.error, IndexError, ValueError, OverflowError):
        return False
    limit = max_pixels()
    if width * height > limit:
        raise DataError(
            f"the image claims {width:,} × {height:,} pixels, {width * height:,}; up to {limit:,} are decoded. If it "
            f"really is that large, raise the limit: -max_pixels, or the environment variable {MAX_PIXELS_VARIABLE}"
        )
    return width > 0 and height > 0


# ---- the formats: each yields every (width, height) that its decoder could use

_Read = Callable[[bytes], Iterator[Size]]


def _png(data: bytes) -> Iterator[Size]:
    position = 8
    if data[position + 4 : position + 8] != b"IHDR":
        raise Unreadable
    width, height = struct.unpack_from(">II", data, position + 8)
    yield width, height
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        if position > len(data):
            raise Unreadable  # a chunk that is longer than the data
        if kind == b"IEND":
            return


#: JPEG's frame headers: start-of-frame markers, without the four codes among them that mean something else
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: JPEG's segments before the frame header; real files have tens
_MOST_SEGMENTS = 10_000
#: JPEG's markers without a length
_ALONE = frozenset(range(0xD0, 0xD9)) | {0x01}


def _jpeg(data: bytes) -> Iterator[Size]:
    position = 2
    for _ in range(_MOST_SEGMENTS):
        if data[position] != 0xFF:
            # Decoders search for the next marker; so does this.
            position = data.find(b"\xff", position)
            if position < 0:
                break
            continue
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _ALONE or marker == 0:
            position += 2
        elif marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            yield width, height
            return
        else:
            (length,) = struct.unpack_from(">H", data, position + 2)
            position += 2 + max(2, length)
    raise Unreadable


def _gif(data: bytes) -> Iterator[Size]:
    width, height = struct.unpack_from("<HH", data, 6)
    yield width, height


def _bmp(data: bytes) -> Iterator[Size]:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    yield abs(width), abs(height)


def _webp(data: bytes) -> Iterator[Size]:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise Unreadable
    yield width, height


_TIFF_VALUES = {1: "B", 3: "H", 4: "I", 16: "Q"}
#: width and height of the image, and of its tiles
_TIFF_SIDES = {256: 0, 257: 1, 322: 2, 323: 3}


def _tiff(data: bytes) -> Iterator[Size]:
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    first, entry, value_at = (start + 8, 20, 12) if big else (start + 2, 12, 8)
    sides = [0, 0, 1, 1]
    for position in range(first, first + min(count, 1 << 16) * entry, entry):
        tag, kind = struct.unpack_from(order + "HH", data, position)
        if tag in _TIFF_SIDES and kind in _TIFF_VALUES:
            (value,) = struct.unpack_from(order + _TIFF_VALUES[kind], data, position + value_at)
            sides[_TIFF_SIDES[tag]] = max(sides[_TIFF_SIDES[tag]], value)
    yield sides[0], sides[1]
    yield sides[2], sides[3]


_PNM_TOKEN = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])+(\d+)")


def _pnm(data: bytes) -> Iterator[Size]:
    width = _PNM_TOKEN.match(data, 2)
    height = width and _PNM_TOKEN.match(data, width.end())
    if not width or not height:
        raise Unreadable
    yield _number(width[1]), _number(height[1])


def _pam(data: bytes) -> Iterator[Size]:
    head = data[: data.find(b"ENDHDR")]
    sides = [[_number(found) for found in re.findall(name + rb"\s+(\d+)", head)] for name in (b"WIDTH", b"HEIGHT")]
    yield max(sides[0], default=0), max(sides[1], default=0)


def _hdr(data: bytes) -> Iterator[Size]:
    found = re.search(rb"^-Y\s+(\d+)\s+\+X\s+(\d+)", data, re.MULTILINE)
    if found is None:
        raise Unreadable
    yield _number(found[2]), _number(found[1])


def _number(digits: bytes) -> int:
    if len(digits) > 18:
        raise Unreadable
    return int(digits)


def _sun_raster(data: bytes) -> Iterator[Size]:
    width, height = struct.unpack_from(">II", data, 4)
    yield width, height


_CODESTREAM = b"\xff\x4f\xff\x51"
#: JPEG 2000 decoders make a table with an entry for each component of each tile
_MOST_TILE_COMPONENTS = 1 << 16


def _jpeg2000(data: bytes) -> Iterator[Size]:
    at = data.find(_CODESTREAM)
    if at < 0:
        raise Unreadable
    while at >= 0:
        right, bottom, left, top, width, height, x, y, components = struct.unpack_from(">8IH", data, at + 8)
        if not (width and height and left < right and top < bottom):
            raise Unreadable
        tiles = -(-(right - x) // width) * -(-(bottom - y) // height)
        if components > 4 or tiles * components > _MOST_TILE_COMPONENTS:
            raise Unreadable
        yield right, bottom
        at = data.find(_CODESTREAM, at + 4)


def _avif(data: bytes) -> Iterator[Size]:
    at = data.find(b"ispe")
    if at < 0:
        raise Unreadable
    while at >= 0:
        width, height = struct.unpack_from(">II", data, at + 8)
        yield width, height
        at = data.find(b"ispe", at + 4)


def _starting(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(signatures)


_FORMATS: tuple[tuple[Callable[[bytes], bool], _Read], ...] = (
    (_starting(b"\xff\xd8"), _jpeg),
    (_starting(b"\x89PNG\r\n\x1a\n"), _png),
    (_starting(b"BM"), _bmp),
    (_starting(b"GIF87a", b"GIF89a"), _gif),
    (lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", _webp),
    (_starting(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),
    (_starting(b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"PF", b"Pf"), _pnm),
    (_starting(b"P7"), _pam),
    (_starting(b"#?RGBE", b"#?RADIANCE"), _hdr),
    (_starting(b"\x59\xa6\x6a\x95"), _sun_raster),
    (_starting(b"\0\0\0\x0cjP  \r\n\x87\n", _CODESTREAM), _jpeg2000),
    (lambda data: data[4:8] == b"ftyp" and b"avi" in data[8:64], _avif),
)
