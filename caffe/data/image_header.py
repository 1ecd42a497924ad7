"""What an encoded image's header claims, checked before a decoder trusts it.

A few bytes can claim an image of gigabytes, or a chunk of one, and decoders allocate first. PNG and JPEG, the usual
formats of records, are checked here; other formats are left to OpenCV's own limit.
"""

from __future__ import annotations

import struct

MAX_PIXELS = 1 << 26
"""The largest image that is decoded: 67 million pixels, 200 MB in color."""

_PNG = b"\x89PNG\r\n\x1a\n"
#: JPEG's frame headers: start-of-frame markers, without the four codes among them that mean something else
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: JPEG's markers without a length
_ALONE = frozenset(range(0xD0, 0xD9)) | {0x01}


def is_believable(data: bytes) -> bool:
    """Whether an encoded image claims at most MAX_PIXELS and, if it is a PNG, no chunk longer than the data."""
    if data.startswith(_PNG):
        return _png(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    return True


def _png(data: bytes) -> bool:
    position = len(_PNG)
    if data[position + 4 : position + 8] != b"IHDR" or len(data) < position + 16:
        return False
    width, height = struct.unpack_from(">II", data, position + 8)
    if width * height > MAX_PIXELS:
        return False
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        if position > len(data):
            return False
        if kind == b"IEND":
            break
    return True


def _jpeg(data: bytes) -> bool:
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            # Decoders search for the next marker; so does this.
            position = data.find(b"\xff", position)
            if position < 0:
                return True
            continue
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _ALONE or marker == 0:
            position += 2
        elif marker in _FRAMES and position + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, position + 5)
            return bool(height * width <= MAX_PIXELS)
        else:
            (length,) = struct.unpack_from(">H", data, position + 2)
            position += 2 + max(2, length)
    return True
