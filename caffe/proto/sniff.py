"""What a file is, by its first bytes: for messages that say what was given instead of what was expected."""

from __future__ import annotations

import os
from pathlib import Path

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

_SIGNATURES = (
    (HDF5_SIGNATURE, "an HDF5 file"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive (such as a PyTorch or NumPy file)"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"BZh", "a bzip2 archive; unpack it first"),
    (b"\xfd7zXZ\x00", "an xz archive; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it first"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x7fELF", "a program"),
    (b"version https://git-lfs", "a Git LFS pointer instead of the file; run 'git lfs pull'"),
    (b"\x80\x02", "a Python pickle, which is never opened here"),
    (b"\x80\x03", "a Python pickle, which is never opened here"),
    (b"\x80\x04", "a Python pickle, which is never opened here"),
    (b"\x80\x05", "a Python pickle, which is never opened here"),
    (b"\x08\x00\x12", "an ONNX model"),
)


def looks_like(head: bytes) -> str | None:
    """A noun phrase for the file that starts with `head` (512 bytes are enough), or None if the bytes do not show it.

    Protobuf has no signature: Caffe's own files are distinguished by their first field.
    """
    if not head:
        return "an empty file"
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[16:20] == b"\xde\xc0\xef\xbe":
        return "an LMDB's data file"
    if b"ftyp" in head[4:12]:
        return "a video"
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, perhaps from a failed download"
    if start.startswith(b"<?xml"):
        return "an XML file"
    if not any(head):
        return "a file of zeros"
    if is_text(head):
        return "text (a prototxt?)"
    if head.startswith(b"\x08"):
        return _by_second_field(head)
    # A NetParameter starts with its name, followed by inputs or layers; without a name, with a layer.
    if head.startswith(b"\xa2\x06") or (head[0] == 0x0A and _after_name(head).startswith(_NET_TAGS)):
        return "a binary NetParameter (.caffemodel)"
    return None


_NET_TAGS = (b"\x12", b"\x1a", b"\x28", b"\x32", b"\x38", b"\xa2\x06")


def _after_name(head: bytes) -> bytes:
    """What follows a first field of up to 16,383 bytes."""
    if len(head) < 3:
        return b""
    if head[1] < 0x80:
        return head[2 + head[1] :]
    return head[3 + (head[1] & 0x7F | head[2] << 7) :]


def _by_second_field(head: bytes) -> str | None:
    """SolverState and BlobProto both start with a varint, field 1."""
    end = next((i for i in range(1, min(11, len(head))) if head[i] < 0x80), None)
    if end is None or end + 1 >= len(head):
        return None
    if head[end + 1] in (0x12, 0x1A):
        return "a binary SolverState (.solverstate)"
    if head[end + 1] in (0x10, 0x2A):
        return "a binary BlobProto (a mean image, .binaryproto)"
    return None


def is_text(head: bytes) -> bool:
    """Whether `head` reads as UTF-8 without control characters; it may end within a character."""
    if any(byte < 0x20 and byte not in b"\t\n\r\f\v" for byte in head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4
    return True


def folder_looks_like(path: str | os.PathLike[str]) -> str:
    """The same for a directory."""
    if (Path(path) / "data.mdb").exists():
        return "the directory of an LMDB"
    return "a directory"
