"""Prototxts: reading, with errors that say where and what to write instead, and writing as Caffe prints messages.

Protobuf does the parsing. Its errors are completed with the file, line and column, the line itself, and similar names.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from caffe import log
from caffe.errors import ProtoError, shown
from caffe.files import replacing
from caffe.proto import caffe_pb2
from caffe.proto.forks import FORK_OF_TYPE, fork_of_field
from caffe.proto.print import to_text
from caffe.proto.sniff import folder_looks_like, is_text, looks_like
from caffe.proto.upgrade import upgrade_net, upgrade_solver

__all__ = ["MAX_BYTES", "known_part", "parse_text", "read_net", "read_solver", "read_text", "to_text", "write_text"]

MAX_BYTES = 64 << 20
"""The longest text that is parsed. Nets take kilobytes; weights belong in a .caffemodel."""

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
        found = text_format.Parse(_with_further_resizes(_load(path)), type(message)(), allow_unknown_field=True)
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
    original, problems, looked_at = text, _Problems(), 0
    if len(text) > MAX_BYTES:
        raise ProtoError(f"{where}: {len(text):,} characters; prototxts of more than {MAX_BYTES:,} are not read")
    for _ in range(_MAX_UNKNOWN):
        message_so_far = type(message)()
        try:
            text_format.Parse(text, message_so_far)
        except text_format.ParseError as error:
            if _RESIZES_AGAIN in str(error) and (renamed := _with_further_resizes(text)) != text:
                text = renamed
                continue
            offset = _offset(text, error)
            unknown = _UNKNOWN_FIELD.search(str(error))
            end = _field_end(text, offset + len(unknown[2])) if unknown else None
            known = [f.name for f in message.DESCRIPTOR.fields]
            foreign = drop_unknown and unknown is not None and unknown[1] == message.DESCRIPTOR.full_name
            if unknown and end and foreign and not difflib.get_close_matches(unknown[2], known, 1, _SLIP):
                log.warning(log.here(), f"{where}:{error.GetLine()}: unknown field '{unknown[2]}' is ignored")
            else:
                key = (unknown[1], unknown[2]) if unknown else None
                if not problems.repeats(key, error.GetLine() or 1):
                    descriptor = cast(Descriptor, message.DESCRIPTOR)
                    problems.add(key, _explain(original, text, error, offset, descriptor, where))
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


class _Problems:
    """What is wrong with a text, in its order; a field that is unknown in many places is one problem."""

    def __init__(self) -> None:
        self._messages: list[str] = []
        self._lines: list[list[int]] = []
        self._index: dict[tuple[str, str], int] = {}

    def __bool__(self) -> bool:
        return bool(self._messages)

    def repeats(self, key: tuple[str, str] | None, line: int) -> bool:
        """Whether the field (its message and name) was unknown before; notes the line if so."""
        if key not in self._index:
            return False
        self._lines[self._index[key]].append(line)
        return True

    def add(self, key: tuple[str, str] | None, message: str) -> None:
        if key is not None:
            self._index[key] = len(self._messages)
        self._messages.append(message)
        self._lines.append([])

    def error(self) -> ProtoError:
        """The error to raise."""
        error = ProtoError(self.text())
        if len(self._index) == len(self._messages):
            error.unknown_fields = tuple(f"{owner.removeprefix('caffe.')}.{name}" for owner, name in self._index)
        return error

    def text(self) -> str:
        """All messages, each with the other lines that it is about."""
        parts = []
        for message, lines in zip(self._messages[:_MAX_SHOWN], self._lines, strict=False):
            listed = ", ".join(map(str, lines[:_MAX_SHOWN])) + (", …" if len(lines) > _MAX_SHOWN else "")
            parts.append(message + (f"\n    also in line{'s' * (len(lines) > 1)} {listed}" if lines else ""))
        if len(self._messages) > _MAX_SHOWN:
            parts.append(f"and {len(self._messages) - _MAX_SHOWN} more")
        return "\n".join(parts)


_RESIZES_AGAIN = '"caffe.TransformationParameter" should not have multiple "resize_param" fields'
_FURTHER_RESIZE = "more_resizes"


def _with_further_resizes(text: str) -> str:
    """Every `resize_param` of a transform_param but its first, under the name of the field that holds them.

    That name is as long, so that places in the text stay what they are.
    """
    counts: list[list[Any]] = []  # of each open block: the field's name, and how many resize_param it has had
    parts, done, previous = [], 0, (0, "")
    for offset, token in _tokens(text):
        if token in _CLOSES:
            if previous[1] == "resize_param" and counts and counts[-1][0] == "transform_param":
                counts[-1][1] += 1
                if counts[-1][1] > 1:
                    parts += [text[done : previous[0]], _FURTHER_RESIZE]
                    done = previous[0] + len(_FURTHER_RESIZE)
            counts.append([previous[1], 0])
        elif token in _CLOSES.values() and counts:
            counts.pop()
        if token not in (":", ",", ";"):
            previous = (offset, token)
    return "".join([*parts, text[done:]])


_MAX_UNKNOWN = 1000
_MOST_LOOKED_AT = 1_200_000
"""Each unknown field makes the parser begin again, so this many characters are read again: about half a second."""
_MAX_SHOWN = 20
_SLIP = 0.84
"""Similarity from which an unknown solver field counts as misspelled rather than foreign."""
_UNKNOWN_FIELD = re.compile(r'Message type "([\w.]+)" has no field named "([^"]*)"')
_UNKNOWN_VALUE = re.compile(r'Enum type "([\w.]+)" has no value (?:named (\S+?)|with number (\S+?))\.$')


def _load(path: str | os.PathLike[str]) -> str:
    """The file's text. Raises ProtoError if it is missing, a directory, too large or not UTF-8 text."""
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
            weights = "; give weights with -weights" if kind is not None and "NetParameter" in kind else ""
            found = f"it looks like {kind}" if kind is not None else "it holds binary data"
            raise ProtoError(f"{path}: not a prototxt, {found}{weights}")
    if len(data) > MAX_BYTES:
        raise ProtoError(f"{path}: {size:,} bytes; prototxts of more than {MAX_BYTES:,} are not read")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        byte = f"byte 0x{data[error.start]:02x}"
        raise ProtoError(f"{path}:{line}:{column}: not UTF-8 text ({byte}); save the file as UTF-8") from None


def _similar_files(path: Path) -> str:
    if not path.parent.is_dir():
        return f", and there is no directory {path.parent}"
    near = difflib.get_close_matches(path.name, (entry.name for entry in path.parent.iterdir()), 3)
    return f"; did you mean {_either([str(path.parent / name) for name in near])}?" if near else ""


def _either(names: list[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _offset(text: str, error: text_format.ParseError) -> int:
    """Where in `text` the parser stopped."""
    line, column = error.GetLine() or 1, error.GetColumn() or 1
    start = 0
    for _ in range(line - 1):
        start = text.find("\n", start) + 1
    return min(len(text), start + column - 1)


_TOKEN = re.compile(
    r"""\s+ | \#[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' | [{}<>\[\]:;,] | [^\s\#"'{}<>\[\]:;,]+ | .""",
    re.VERBOSE | re.DOTALL,
)
_CLOSES = {"{": "}", "<": ">", "[": "]"}


def _tokens(text: str, start: int = 0) -> Iterator[tuple[int, str]]:
    """Tokens of text format with their offsets, without white space and comments."""
    for match in _TOKEN.finditer(text, start):
        if not match[0][0].isspace() and match[0][0] != "#":
            yield match.start(), match[0]


def _field_end(text: str, start: int) -> int | None:
    """Where the value that begins after a field's name, at `start`, ends; None if it is missing or never does."""
    depth, end, scalar = 0, start, False
    for offset, token in _tokens(text, start):
        if depth == 0 and token == ":" and not scalar:
            end = offset + 1
        elif token in _CLOSES:
            if depth == 0 and scalar:
                break
            depth += 1
        elif token in _CLOSES.values():
            if depth == 0:
                break
            depth -= 1
            if depth == 0:
                return offset + 1
        elif depth == 0:
            # Adjacent strings are one value.
            if scalar and token[0] not in "\"'":
                break
            scalar, end = True, offset + len(token)
            if token[0] not in "\"'":
                break
    return end if scalar and depth == 0 else None


def _open_blocks(text: str, end: int) -> list[tuple[int, str]]:
    """The blocks that are open at `end`: the position of each bracket, and the field's name before it."""
    blocks: list[tuple[int, str]] = []
    previous = ""
    for offset, token in _tokens(text):
        if offset >= end:
            break
        if token in _CLOSES:
            blocks.append((offset, previous))
        elif token in _CLOSES.values() and blocks:
            blocks.pop()
        elif token not in (":", ",", ";"):
            previous = token
    return blocks


def _explain(original: str, text: str, error: text_format.ParseError, offset: int, root: Descriptor, where: str) -> str:
    """The whole message for a parse error, with the line and a mark below the position.

    `text` is what was parsed: the original, with blanks where other unknown fields are, and other names for fields that
    are given again. The same places are open in both.
    """
    raw = re.sub(r"^\d+:\d+ : ", "", str(error))
    row = (error.GetLine() or 1) - 1
    line = text.split("\n")[row].rstrip("\r") if text else ""
    problem = raw.removeprefix(f"'{line}': ").removeprefix(f"'{line}\r': ")
    blocks = _open_blocks(original, offset)
    if unknown := _UNKNOWN_FIELD.search(raw):
        layer_type = _type_in_block(original, blocks[-1][0]) if blocks else ""
        problem = _unknown_field(unknown[1], unknown[2], [name for _, name in blocks], root, layer_type)
    elif value := _UNKNOWN_VALUE.search(raw):
        problem = _unknown_value(value[1], value[2] or value[3], root)
    elif problem == 'Expected "}".' and (unclosed := _open_blocks(text, len(text))):
        opened, name = unclosed[-1]
        at = f"line {text.count(chr(10), 0, opened) + 1}"
        problem = f"the text ends, but '{shown(name)} {text[opened]}' of {at} is never closed"
    elif problem.startswith("Expected identifier or number, got }"):
        problem = "one '}' too many, or the value before it is missing"
    else:
        problem = re.sub(r'Message type "caffe\.([\w.]+)" should not have multiple "(\w+)" fields\.',
                         r"'\2' is given twice; a \1 has one", problem)  # fmt: skip
        problem = shown(problem, 300)
    column = (error.GetColumn() or 1) - 1
    line = original.split("\n")[row].rstrip("\r") if original else ""
    start = max(0, column - 60) if len(line) > 120 else 0
    part = shown(line[start : start + 120].replace("\t", " "), 120)
    mark = f"\n    {part}\n    {' ' * (column - start)}^" if part.strip() else ""
    return f"{where}:{error.GetLine() or 1}:{error.GetColumn() or 1}: {problem}{mark}"


def _find(root: Descriptor, full_name: str) -> Descriptor | None:
    return root.file.message_types_by_name.get(full_name.removeprefix(f"{root.file.package}."))


def _type_in_block(text: str, start: int) -> str:
    """The value of `type` in the block whose bracket is at `start`; empty if it has none."""
    depth, before = 0, ("", "")
    for _, token in _tokens(text, start):
        if token in _CLOSES:
            depth += 1
        elif token in _CLOSES.values():
            depth -= 1
            if depth == 0:
                break
        elif depth == 1 and before == ("type", ":"):
            return token.strip("\"'")
        before = (before[1], token)
    return ""


def _own_field(layer_type: str, known: list[str]) -> str | None:
    """The field with the parameters of a layer type: batch_norm_param for BatchNorm."""
    own = f"{layer_type.lower()}param"
    return next((field for field in known if field.replace("_", "") == own), None)


def _foreign_type(name: str, layer_type: str, known: list[str]) -> str | None:
    """What an unknown field `name` of a layer means if it is the parameters of a type that Caffe's SSD branch lacks.

    None if it looks like a slip: it is nearly a known field, or the type has a known field of another name.
    """
    stems = [field.removesuffix("_param") for field in known if field.endswith("_param")]
    if not name.endswith("_param") or difflib.get_close_matches(name.removesuffix("_param"), stems, 1, _SLIP):
        return None
    if _own_field(layer_type, known):
        return None
    fork = FORK_OF_TYPE.get(layer_type) or fork_of_field("LayerParameter", name)
    what = f"the parameters of layer type '{shown(layer_type)}'" if layer_type else "the parameters of a layer type"
    return f"{what}, which comes from {fork or 'another fork of Caffe'}; docs/add_a_layer.md tells how to add one"


def _unknown_field(owner: str, name: str, blocks: list[str], root: Descriptor, layer_type: str = "") -> str:
    """`blocks`: the names of the fields whose blocks are open, outermost first; `layer_type`: `type` in the last one."""
    message = _find(root, owner)
    short = owner.removeprefix("caffe.")
    problem = f"unknown field '{shown(name)}' " + (f"in '{shown(blocks[-1])}' ({short})" if blocks else f"in a {short}")
    if message is None:
        return problem
    known = [field.name for field in message.fields if field.name != _FURTHER_RESIZE]
    if short == "LayerParameter" and (foreign := _foreign_type(name, layer_type, known)):
        return f"{problem}: {foreign}"
    if fork := fork_of_field(short, name):
        return f"{problem}; it comes from {fork}, and this project does not have it"
    near = difflib.get_close_matches(name, known, 3, 0.6)
    if short == "LayerParameter" and name.endswith("_param") and (own := _own_field(layer_type, known)):
        near = [own, *(field for field in near if field != own and difflib.get_close_matches(name, [field], 1, _SLIP))]
    if near and difflib.SequenceMatcher(None, name, near[0]).ratio() > 0.85:
        near = near[:1]
    if near:
        return f"{problem}; did you mean {_either(near)}?"
    around: list[tuple[str, Descriptor]] = [("", root)]
    for block in blocks[:-1]:
        field = around[-1][1].fields_by_name.get(block)
        if field is None or field.message_type is None:
            break
        around.append((block, field.message_type))
    for block, descriptor in reversed(around):
        if name in descriptor.fields_by_name:
            place = f"'{block}' around it" if block else "the net itself, outside all blocks"
            place = place if root.name == "NetParameter" or block else "the outermost level"
            return f"{problem}; it belongs in {place}"
    holders = [
        field.name
        for field in message.fields
        if field.message_type is not None and name in field.message_type.fields_by_name
    ]
    if holders:
        return f"{problem}; it belongs in {_either(holders[:4])}"
    if len(known) <= 24:
        return f"{problem}; known fields: {', '.join(known)}"
    return problem


def _unknown_value(enum_name: str, value: str, root: Descriptor) -> str:
    owner, _, short = enum_name.removeprefix("caffe.").rpartition(".")
    message = _find(root, f"caffe.{owner}") if owner else None
    enums = root.file.enum_types_by_name if message is None else message.enum_types_by_name
    allowed = [v.name for v in enums[short].values] if short in enums else []
    near = difflib.get_close_matches(value.upper(), allowed, 1, 0.6)
    meant = f"; did you mean '{near[0]}'?" if near else ""
    listed = ", ".join(allowed[:45])
    return f"'{shown(value)}' is not a {short}{meant} (allowed: {listed})"
