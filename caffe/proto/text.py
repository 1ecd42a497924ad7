"""Prototxts: reading, with errors that say where and what to write instead, and writing as Caffe prints messages.

Protobuf does the parsing. Its errors are completed with the file, line and column, the line itself, and similar names.
"""

from __future__ import annotations

import difflib
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, cast

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from caffe import log
from caffe.errors import ProtoError
from caffe.files import replacing
from caffe.proto import caffe_pb2
from caffe.proto.print import to_text
from caffe.proto.sniff import folder_looks_like, is_text, looks_like
from caffe.proto.text_blocks import field_end, outermost_names, with_further_resizes
from caffe.proto.text_errors import SLIP, UNKNOWN_FIELD, Problems, either, explain
from caffe.proto.upgrade import upgrade_net, upgrade_solver

__all__ = ["MAX_BYTES", "known_part", "parse_text", "read_net", "read_solver", "read_text", "to_text", "write_text"]

MAX_BYTES = 64 << 20
"""The longest text that is parsed. Nets take kilobytes; weights belong in a .caffemodel."""

_RESIZES_AGAIN = '"caffe.TransformationParameter" should not have multiple "resize_param" fields'
_MAX_UNKNOWN = 1000
_MOST_LOOKED_AT = 1_200_000
"""Each unknown field makes the parser begin again, so this many characters are read again: about half a second."""

M = TypeVar("M", bound=Message)


def read_net(path: str | os.PathLike[str]) -> caffe_pb2.NetParameter:
    """A net's prototxt, upgraded to the current format. Raises ProtoError as `parse_text` does."""
    net = read_text(path, caffe_pb2.NetParameter())
    upgrade_net(net, str(path))
    return net


def read_solver(path: str | os.PathLike[str]) -> caffe_pb2.SolverParameter:
    """A solver's prototxt, upgraded to the current format.

    Fields that other forks of Caffe added are dropped with a warning in the log: they seldom change what the
    training does, and the rest of the file is valid. Fields that look like a misspelled known one are errors.
    """
    solver = parse_text(_load(path), caffe_pb2.SolverParameter(), str(path), drop_unknown=True)
    upgrade_solver(solver, str(path))
    return solver


def read_text(path: str | os.PathLike[str], message: M) -> M:
    """Merges the prototxt at `path` into `message` and returns it. Raises ProtoError as `parse_text` does."""
    return parse_text(_load(path), message, str(path))


def known_part(path: str | os.PathLike[str], message: M) -> M:
    """What `message` has fields for in the prototxt at `path`; `message` as it was if it cannot be read then either."""
    try:
        found = text_format.Parse(with_further_resizes(_load(path)), type(message)(), allow_unknown_field=True)
    except (text_format.ParseError, ProtoError, RecursionError, ValueError, OverflowError):
        return message
    message.MergeFrom(found)
    return message


def write_text(path: str | os.PathLike[str], message: Message) -> None:
    """Writes `message` as a prototxt; the file appears when complete. Raises CaffeError if it cannot be written."""
    text = to_text(message).encode("utf-8")
    with replacing(path, len(text)) as temporary:
        temporary.write_bytes(text)


def parse_text(text: str, message: M, where: str, drop_unknown: bool = False) -> M:
    """Merges `text` into `message` and returns it; `where` names the text in errors.

    Raises ProtoError with line, column, the problem and, for misspelled names, similar ones; all unknown fields are
    named at once. With `drop_unknown`, fields of the outermost message that resemble no known field are dropped with a
    warning instead.
    """
    original, problems, looked_at = text, Problems(), 0
    if len(text) > MAX_BYTES:
        raise ProtoError(f"{where}: {len(text):,} characters; prototxts of more than {MAX_BYTES:,} are not read")
    for _ in range(_MAX_UNKNOWN):
        message_so_far = type(message)()
        try:
            text_format.Parse(text, message_so_far)
        except text_format.ParseError as error:
            if _RESIZES_AGAIN in str(error) and (renamed := with_further_resizes(text)) != text:
                text = renamed
                continue
            offset = _offset(text, error)
            unknown = UNKNOWN_FIELD.search(str(error))
            end = field_end(text, offset + len(unknown[2])) if unknown else None
            known = [f.name for f in message.DESCRIPTOR.fields]
            if not looked_at and unknown and unknown[1] == message.DESCRIPTOR.full_name:
                _refuse_another_kind(text, message, where)
            foreign = drop_unknown and unknown is not None and unknown[1] == message.DESCRIPTOR.full_name
            if unknown and end and foreign and not difflib.get_close_matches(unknown[2], known, 1, SLIP):
                log.warning(log.here(), f"{where}:{error.GetLine()}: unknown field '{unknown[2]}' is ignored")
            else:
                key = (unknown[1], unknown[2]) if unknown else None
                if not problems.repeats(key, error.GetLine() or 1):
                    descriptor = cast(Descriptor, message.DESCRIPTOR)
                    problems.add(key, explain(original, text, error, offset, descriptor, where))
                if end is None:
                    raise problems.error() from None
            assert end is not None
            text = text[:offset] + re.sub(r"[^\n]", " ", text[offset:end]) + text[end:]
            looked_at += offset
            if looked_at > _MOST_LOOKED_AT:
                break
            continue
        except RecursionError:
            raise ProtoError(f"{where}: nested too deeply") from None
        except (ValueError, OverflowError) as error:
            # Values that the tokenizer accepts but the message refuses, such as ill-formed Unicode.
            raise ProtoError(f"{where}: {error}") from None
        if problems:
            raise problems.error()
        message.MergeFrom(message_so_far)
        return message
    many = f"{where}: too many unknown fields to go on; not a {message.DESCRIPTOR.name}"
    raise ProtoError(f"{many}\n{problems.text()}" if problems else many)


#: what a prototxt may be, by its message, and what to do about one that is given in place of another
_KINDS = {
    caffe_pb2.NetParameter: "a net",
    caffe_pb2.SolverParameter: "a solver",
    caffe_pb2.LabelMap: "a label map",
}
_INSTEAD = {
    ("a solver", "a net"): ": give the solver.prototxt whose 'net', or 'train_net', names it",
    ("a net", "a solver"): ": give the prototxt that its 'net', 'train_net' or 'test_net' names",
}


def _refuse_another_kind(text: str, message: Message, where: str) -> None:
    """Raises ProtoError if `text` is a prototxt of another kind than `message`, by the names of its outermost fields."""
    names = outermost_names(text)

    def known(kind: type[Message]) -> int:
        return len(names & set(kind.DESCRIPTOR.fields_by_name))

    wanted = type(message)
    kind = max(_KINDS, key=known)
    if wanted in _KINDS and known(kind) > known(wanted):
        raise ProtoError(
            f"{where}: {_KINDS[kind]}'s prototxt where {_KINDS[wanted]}'s should be"
            f"{_INSTEAD.get((_KINDS[wanted], _KINDS[kind]), '')}"
        )


#: a string, which may contain #, or a comment
_STRING_OR_COMMENT = re.compile(rb"""\"(?:\\.|[^"\\\n])*\"|'(?:\\.|[^'\\\n])*'|#[^\n]*""")


def _comment_in_utf8(match: re.Match[bytes]) -> bytes:
    """A comment without the bytes of other encodings: the original looks at no comment. Strings stay as they are."""
    found = match[0]
    return found.decode(errors="replace").encode() if found.startswith(b"#") else found


def _load(path: str | os.PathLike[str]) -> str:
    """The file's text. Raises ProtoError if it is missing, a directory, too large or not UTF-8 text, comments apart."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ProtoError(f"{path}: no such file{_similar_files(Path(path))}") from None
    except IsADirectoryError:
        raise ProtoError(f"{path}: {folder_looks_like(path)} where a prototxt should be") from None
    except OSError as error:
        raise ProtoError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not is_text(data[:512]) and data[:512]:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ProtoError(f"{path}: text in UTF-16; save it as UTF-8")
        kind = looks_like(data[:512])
        if kind is not None or b"\0" in data[:512]:
            weights = (
                "; are the prototxt and the weights exchanged?" if kind is not None and "NetParameter" in kind else ""
            )
            found = f"it looks like {kind}" if kind is not None else "it holds binary data"
            raise ProtoError(f"{path}: not a prototxt, {found}{weights}")
    if len(data) > MAX_BYTES:
        raise ProtoError(f"{path}: {size:,} bytes; prototxts of more than {MAX_BYTES:,} are not read")
    with suppress(UnicodeDecodeError):
        return data.decode("utf-8-sig")
    try:
        return _STRING_OR_COMMENT.sub(_comment_in_utf8, data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        read: bytes = error.object
        line = read.count(b"\n", 0, error.start) + 1
        column = error.start - read.rfind(b"\n", 0, error.start)
        byte = f"byte 0x{read[error.start]:02x}"
        raise ProtoError(f"{path}:{line}:{column}: not UTF-8 text ({byte}); save the file as UTF-8") from None


def _similar_files(path: Path) -> str:
    if not path.parent.is_dir():
        return f", and there is no directory {path.parent}"
    near = difflib.get_close_matches(path.name, (entry.name for entry in path.parent.iterdir()), 3)
    return f"; did you mean {either([str(path.parent / name) for name in near])}?" if near else ""


def _offset(text: str, error: text_format.ParseError) -> int:
    """Where in `text` the parser stopped."""
    line, column = error.GetLine() or 1, error.GetColumn() or 1
    start = 0
    for _ in range(line - 1):
        start = text.find("\n", start) + 1
    return min(len(text), start + column - 1)
