"""JPEG files that end early: an interrupted download or copy, or a camera's empty battery."""

from __future__ import annotations

import re

START = b"\xff\xd8"
END = b"\xff\xd9"
#: the next marker in compressed data, where a stuffed byte, a restart or padding follows 0xFF otherwise
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SCAN = 0xDA
#: markers without a length
_ALONE = frozenset(range(0xD0, 0xD9)) | {0x01}


def ends_early(data: bytes) -> bool:
    """Returns whether JPEG data ends before its end marker. Bytes behind the marker do not matter; other data: False."""
    if not data.startswith(START) or data.endswith(END):
        return False
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            # Decoders search for the next marker; so does this.
            position = data.find(b"\xff", position)
            if position < 0:
                return True
            continue
        marker = data[position + 1]
        if marker == END[1]:
            return False
        if marker == 0xFF:
            position += 1
        elif marker in _ALONE or marker == 0:
            position += 2
        else:
            position += 2 + max(2, int.from_bytes(data[position + 2 : position + 4], "big"))
            if marker == _SCAN:
                found = _MARKER.search(data, position)
                if found is None:
                    return True
                position = found.start()
    return data[position : position + 2] != END


def completed(data: bytes) -> bytes:
    """Returns JPEG data with an end marker, so that every decoder reads it as far as it goes; other data unchanged."""
    return data + END if data.startswith(START) and not data.endswith(END) else data
