"""Protobuf's wire format, as far as weights need it: fields as spans of a buffer, blobs as views of it.

A caffemodel is nearly all packed floats, and packed floats are little-endian bytes: they are viewed in place instead of
being parsed into a second copy. Every length is checked against the span that contains it before it is used, so a
hostile length costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

from caffe.errors import ProtoError

FloatArray = npt.NDArray[np.float32]

VARINT, FIXED64, LENGTH, START_GROUP, END_GROUP, FIXED32 = range(6)
MAX_FIELDS = 500_000
"""The most fields in one file, apart from its blobs' numbers. The largest nets have some ten thousand."""
MAX_AXES = 32
"""Caffe's largest number of axes of a blob."""
MAX_PIECES = 1000
"""The most pieces that the numbers of one blob may come in. Protobuf writes one."""


class WireError(ProtoError):
    """Bytes that are not a message; `offset` is where. Readers turn it into an error that names the file."""

    def __init__(self, offset: int, problem: str, truncated: bool = False) -> None:
        super().__init__(f"at byte {offset}: {problem}")
        self.offset = offset
        self.truncated = truncated


class Field(NamedTuple):
    """One field: its number, wire type, and the span of its value; `value` is a varint's number, otherwise 0."""

    number: int
    wire_type: int
    start: int
    end: int
    value: int


def read_varint(buffer: memoryview, position: int, end: int) -> tuple[int, int]:
    """The unsigned varint at `position`, and the position after it."""
    result = 0
    for index in range(position, min(end, position + 10)):
        byte = buffer[index]
        result |= (byte & 0x7F) << (7 * (index - position))
        if byte < 0x80:
            return result & 0xFFFF_FFFF_FFFF_FFFF, index + 1
    if end - position < 10:
        raise WireError(position, "the data ends within a number", truncated=True)
    raise WireError(position, "a number of more than ten bytes")


def signed(value: int) -> int:
    """An int32 or int64 field's varint as a number."""
    return value - (1 << 64) if value >> 63 else value


def read_field(buffer: memoryview, position: int, end: int) -> Field:
    """The field that starts at `position`; its span's end is where the next one starts."""
    tag, start = read_varint(buffer, position, end)
    number, wire_type = tag >> 3, tag & 7
    if not 0 < number < 1 << 29 or start - position > 5:
        raise WireError(position, f"{number} is not a field number")
    if wire_type == VARINT:
        value, stop = read_varint(buffer, start, end)
        return Field(number, wire_type, start, stop, value)
    if wire_type == LENGTH:
        size, start = read_varint(buffer, start, end)
    elif wire_type == FIXED32:
        size = 4
    elif wire_type == FIXED64:
        size = 8
    else:
        raise WireError(position, f"wire type {wire_type}, which Caffe's files do not use")
    if size > end - start:
        raise WireError(position, f"field {number} claims {size:,} bytes, but {end - start:,} are left", truncated=True)
    return Field(number, wire_type, start, start + size, 0)


class Budget:
    """How many more fields a file may have. One is shared by all messages of a file, however they are nested."""

    def __init__(self, fields: int = MAX_FIELDS) -> None:
        self.left = fields

    def spend(self, offset: int) -> None:
        """Counts a field; raises WireError when there are too many."""
        self.left -= 1
        if self.left < 0:
            raise WireError(offset, f"over {MAX_FIELDS:,} fields in one file")


def fields(buffer: memoryview, start: int, end: int, budget: Budget) -> Iterator[Field]:
    """The fields of the message in `buffer[start:end]`, in their order."""
    while start < end:
        budget.spend(start)
        field = read_field(buffer, start, end)
        yield field
        start = field.end


class BlobArrays(NamedTuple):
    """A BlobProto as arrays: `data`, and `diff` if the file has one. Views of the file if they are packed."""

    data: FloatArray
    diff: FloatArray | None


def _run(buffer: memoryview, field: Field, end: int, kind: str) -> tuple[npt.NDArray[np.generic], int]:
    """Unpacked numbers from `field` on, each under a one-byte tag: as an array, and the end of the run."""
    record = np.dtype([("tag", "u1"), ("value", kind)])
    first = field.start - 1
    records = np.frombuffer(buffer, record, (end - first) // record.itemsize, first)
    # Piece by piece, each as long as all before it: many short runs must not look through the whole rest each.
    count, piece = 0, 64
    while count < len(records):
        others = np.flatnonzero(records["tag"][count : count + piece] != buffer[first])
        if others.size:
            count += int(others[0])
            break
        count, piece = min(count + piece, len(records)), 2 * piece
    return records["value"][:count], first + count * record.itemsize


def _dims(buffer: memoryview, start: int, end: int, budget: Budget) -> list[int]:
    """BlobShape.dim, packed or not."""
    dims: list[int] = []
    for field in fields(buffer, start, end, budget):
        if field.number != 1:
            continue
        if field.wire_type == VARINT:
            dims.append(signed(field.value))
        elif field.wire_type == LENGTH:
            position = field.start
            while position < field.end and len(dims) <= MAX_AXES:
                value, position = read_varint(buffer, position, field.end)
                dims.append(signed(value))
        if len(dims) > MAX_AXES:
            raise WireError(start, f"a blob with more than {MAX_AXES} axes, Caffe's maximum")
    return dims


_FLOATS, _FLOAT_DIFFS, _DOUBLES, _DOUBLE_DIFFS = 5, 6, 8, 9


def read_blob(buffer: memoryview, start: int, end: int, budget: Budget) -> BlobArrays:
    """The BlobProto in `buffer[start:end]`.

    Shapes come as `shape` or as the older num, channels, height, width, which take precedence, as in Caffe. Doubles
    become floats. Raises WireError if a shape and its data disagree.
    """
    legacy: dict[int, int] = {}
    dims: list[int] = []
    chunks: dict[int, list[npt.NDArray[np.generic]]] = {}
    position = start
    while position < end:
        budget.spend(position)
        field = read_field(buffer, position, end)
        position = field.end
        number, wire_type = field.number, field.wire_type
        if number <= 4 and wire_type == VARINT:
            legacy[number] = signed(field.value)
        elif number == 7 and wire_type == LENGTH:
            dims += _dims(buffer, field.start, field.end, budget)
            if len(dims) > MAX_AXES:
                raise WireError(field.start, f"a blob with more than {MAX_AXES} axes, Caffe's maximum")
        elif number in (_FLOATS, _FLOAT_DIFFS, _DOUBLES, _DOUBLE_DIFFS):
            kind, fixed = ("<f4", FIXED32) if number < _DOUBLES else ("<f8", FIXED64)
            if wire_type == LENGTH:
                count, rest = divmod(field.end - field.start, int(kind[2]))
                if rest:
                    raise WireError(field.start, f"a blob's numbers take {field.end - field.start:,} bytes")
                values: npt.NDArray[np.generic] = np.frombuffer(buffer, kind, count, field.start)
            elif wire_type == fixed:
                values, position = _run(buffer, field, end, kind)
            else:
                raise WireError(field.start, f"a blob's numbers under wire type {wire_type}")
            pieces = chunks.setdefault(number, [])
            if len(pieces) == MAX_PIECES:
                raise WireError(field.start, f"a blob's numbers in over {MAX_PIECES:,} pieces")
            pieces.append(values)
    shape = [legacy.get(number, 0) for number in (1, 2, 3, 4)] if legacy else dims
    data = _joined(start, chunks, shape, _DOUBLES, _FLOATS)
    diff = _joined(start, chunks, shape, _DOUBLE_DIFFS, _FLOAT_DIFFS) if chunks.keys() & {6, 9} else None
    return BlobArrays(data, diff)


def _joined(
    start: int, chunks: dict[int, list[npt.NDArray[np.generic]]], shape: list[int], doubles: int, floats: int
) -> FloatArray:
    parts = chunks.get(doubles) or chunks.get(floats) or [np.empty(0, "<f4")]
    values = (parts[0] if len(parts) == 1 else np.concatenate(parts)).astype(np.float32, copy=False)
    if any(not 0 <= extent < 1 << 31 for extent in shape) or math.prod(shape) != values.size:
        raise WireError(start, f"a blob of shape {tuple(shape)} with {values.size:,} numbers")
    return values.reshape(shape)


def varint(value: int) -> bytes:
    """`value`, an int64, as protobuf writes it."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def header(number: int, size: int) -> bytes:
    """The tag and length in front of a length-delimited field."""
    return varint(number << 3 | LENGTH) + varint(size)


class BlobWriter:
    """A BlobProto to be written: `size` is known in advance, and `write` streams the array without a copy.

    Writes what Caffe's Blob::ToProto does: packed `data`, packed `diff` if given, then `shape`.
    """

    def __init__(self, data: npt.NDArray[np.generic], diff: npt.NDArray[np.generic] | None = None) -> None:
        if diff is not None and diff.shape != data.shape:
            raise ValueError(f"a diff of shape {diff.shape} beside data of shape {data.shape}")
        self._parts: list[tuple[bytes, npt.NDArray[np.generic]]] = []
        for number, array in ((_FLOATS, data), (_FLOAT_DIFFS, diff)):
            if array is not None and array.size:
                self._parts.append((header(number, 4 * array.size), array))
        dims = b"".join(varint(extent) for extent in data.shape)
        shape = header(1, len(dims)) + dims if dims else b""
        self._shape = header(7, len(shape)) + shape if dims else b""
        self.size = sum(len(head) + 4 * array.size for head, array in self._parts) + len(self._shape)

    def write(self, file: IO[bytes]) -> None:
        for head, array in self._parts:
            file.write(head)
            # One blob at a time is converted if necessary; contiguous float32 is written as it is.
            flat = np.ascontiguousarray(array, "<f4").reshape(-1)
            file.write(flat.data.cast("B"))
        file.write(self._shape)


def split_fields(message: bytes) -> list[tuple[int, bytes]]:
    """The complete fields of a serialized message with their numbers, in ascending order."""
    view = memoryview(message)
    found, start = [], 0
    for field in fields(view, 0, len(message), Budget(len(message))):
        found.append((field.number, message[start : field.end]))
        start = field.end
    return sorted(found, key=lambda item: item[0])


def write_blobs(file: IO[bytes], number: int, blobs: Sequence[BlobWriter]) -> None:
    """`blobs` as the repeated field `number`."""
    for blob in blobs:
        file.write(header(number, blob.size))
        blob.write(file)


def blobs_size(number: int, blobs: Sequence[BlobWriter]) -> int:
    """The bytes that `write_blobs` writes."""
    return sum(len(header(number, blob.size)) + blob.size for blob in blobs)
