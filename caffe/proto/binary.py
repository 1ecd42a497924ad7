"""Single messages in binary files: mean images (`.binaryproto`), nets, and others that are small enough to be parsed at
once.

Weights and solver states have their own readers, which do not copy the numbers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from caffe.errors import ProtoError
from caffe.files import replacing
from caffe.proto.mapped import describe, map_file

M = TypeVar("M", bound=Message)


def read_binary(path: str | os.PathLike[str], message: M) -> M:
    """Parses the file at `path` into `message` and returns it.

    Raises ProtoError if it is missing, empty or something else; the message says what it looks like.
    """
    path = Path(path)
    name = message.DESCRIPTOR.name
    buffer = map_file(path, f"a binary {name}")
    try:
        message.ParseFromString(bytes(buffer))
        _check_strings(message)
    except (DecodeError, UnicodeDecodeError):
        raise ProtoError(f"{path}: not a binary {name}, or damaged: {describe(buffer)}") from None
    return message


def _check_strings(message: Message) -> None:
    """Raises UnicodeDecodeError for a string that is not UTF-8; protobuf checks strings only when they are used."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in (value,) if isinstance(value, Message) else value:
                _check_strings(item)
        elif field.type == FieldDescriptor.TYPE_STRING:
            for text in (value,) if isinstance(value, str | bytes) else value:
                if isinstance(text, bytes):
                    text.decode("utf-8")


def write_binary(path: str | os.PathLike[str], message: Message) -> None:
    """Writes `message`; the file appears only when it is complete. Raises CaffeError if it cannot be written."""
    data = message.SerializeToString(deterministic=True)
    with replacing(path, len(data)) as temporary:
        temporary.write_bytes(data)
