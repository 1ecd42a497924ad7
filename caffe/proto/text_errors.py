"""What is wrong with a prototxt, in words: line, column, the line itself, similar names, where a field belongs."""

from __future__ import annotations

import difflib
import re

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor

from caffe.errors import ProtoError, shown
from caffe.proto.forks import FORK_OF_TYPE, fork_of_field
from caffe.proto.text_blocks import FURTHER_RESIZE, open_blocks, type_in_block

_MAX_SHOWN = 20
SLIP = 0.84
"""Similarity from which an unknown solver field counts as misspelled rather than foreign."""
UNKNOWN_FIELD = re.compile(r'Message type "([\w.]+)" has no field named "([^"]*)"')
_LAST_OF_CAFFE = "video_data_param"
"""The field of LayerParameter that those of other forks follow."""
_UNKNOWN_VALUE = re.compile(r'Enum type "([\w.]+)" has no value (?:named (\S+?)|with number (\S+?))\.$')


class Problems:
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


def explain(original: str, text: str, error: text_format.ParseError, offset: int, root: Descriptor, where: str) -> str:
    """The whole message for a parse error, with the line and a mark below the position.

    `text` is what was parsed: the original, with blanks where other unknown fields are, and other names for fields that
    are given again. The same places are open in both.
    """
    raw = re.sub(r"^\d+:\d+ : ", "", str(error))
    row = (error.GetLine() or 1) - 1
    line = text.split("\n")[row].rstrip("\r") if text else ""
    problem = raw.removeprefix(f"'{line}': ").removeprefix(f"'{line}\r': ")
    blocks = open_blocks(original, offset)
    if unknown := UNKNOWN_FIELD.search(raw):
        layer_type = type_in_block(original, blocks[-1][0]) if blocks else ""
        problem = _unknown_field(unknown[1], unknown[2], [name for _, name in blocks], root, layer_type)
    elif value := _UNKNOWN_VALUE.search(raw):
        problem = _unknown_value(value[1], value[2] or value[3], root)
    elif problem == 'Expected "}".' and (unclosed := open_blocks(text, len(text))):
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


def either(names: list[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _find(root: Descriptor, full_name: str) -> Descriptor | None:
    return root.file.message_types_by_name.get(full_name.removeprefix(f"{root.file.package}."))


def _own_field(layer_type: str, known: list[str]) -> str | None:
    """The field with the parameters of a layer type: batch_norm_param for BatchNorm."""
    own = f"{layer_type.lower()}param"
    return next((field for field in known if field.replace("_", "") == own), None)


def _foreign_type(name: str, layer_type: str, known: list[str]) -> str | None:
    """What an unknown field `name` of a layer means if it is the parameters of a type that Caffe's SSD branch lacks.

    None if it looks like a slip: it is nearly a known field, or the type has a known field of another name.
    """
    stems = [field.removesuffix("_param") for field in known if field.endswith("_param")]
    if not name.endswith("_param") or difflib.get_close_matches(name.removesuffix("_param"), stems, 1, SLIP):
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
    known = [field.name for field in message.fields if field.name != FURTHER_RESIZE]
    if short == "LayerParameter" and (foreign := _foreign_type(name, layer_type, known)):
        return f"{problem}: {foreign}"
    if fork := fork_of_field(short, name):
        return f"{problem}; it comes from {fork}, and this project does not have it"
    near = difflib.get_close_matches(name, known, 3, 0.6)
    if short == "LayerParameter" and name.endswith("_param") and (own := _own_field(layer_type, known)):
        near = [own, *(field for field in near if field != own and difflib.get_close_matches(name, [field], 1, SLIP))]
    if near and difflib.SequenceMatcher(None, name, near[0]).ratio() > 0.85:
        near = near[:1]
    if near:
        return f"{problem}; did you mean {either(near)}?"
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
        caffes = known[: known.index(_LAST_OF_CAFFE) + 1] if _LAST_OF_CAFFE in known else known
        return f"{problem}; it belongs in {either([f for f in holders if f in caffes][:4] or holders[:4])}"
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
