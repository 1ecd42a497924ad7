"""Messages as text, as Caffe's log and files show them: the style of protobuf's C++ DebugString."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from google.protobuf import text_encoding
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

#: fields that text calls by another name: the reader puts the further `resize_param` of a layer into a field of its own
_IN_TEXT = {"caffe.TransformationParameter.more_resizes": "resize_param"}


def to_text(message: Message) -> str:
    """`message` as a prototxt: fields by number, two spaces per indent, floats in six digits or, if those do
    not read back as the same number, nine."""
    lines: list[str] = []
    _print(message, "", lines)
    return "".join(lines)


def _print(message: Message, indent: str, lines: list[str]) -> None:
    for field, value in message.ListFields():
        # Releases of protobuf disagree on how a descriptor says that its field is repeated, but the value's type shows
        # it.
        repeated = not isinstance(value, str | bytes | bool | int | float | Message)
        name = _IN_TEXT.get(field.full_name, field.name)
        for item in value if repeated else (value,):
            if field.message_type is not None:
                lines.append(f"{indent}{name} {{\n")
                _print(item, indent + "  ", lines)
                lines.append(f"{indent}}}\n")
            else:
                lines.append(f"{indent}{name}: {_scalar(field, item)}\n")


def _scalar(field: FieldDescriptor, value: Any) -> str:
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return named.name if named is not None else str(value)
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        return f'"{text_encoding.CEscape(data, as_utf8=False)}"'
    if field.type == FieldDescriptor.TYPE_BOOL:
        return "true" if value else "false"
    if field.type == FieldDescriptor.TYPE_FLOAT:
        return float_text(value)
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return _shortest(value, 15, 17, float)
    return str(value)


def float_text(value: float) -> str:
    """A float32 as C++ protobuf and Caffe's log print it."""
    return _shortest(value, 6, 9, np.float32)


def _shortest(value: float, digits: int, more: int, kind: Any) -> str:
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    text = f"{value:.{digits}g}"
    return text if kind(text) == kind(value) else f"{value:.{more}g}"
