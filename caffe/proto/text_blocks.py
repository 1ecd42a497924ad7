"""Where things are in text format: its tokens, the value of a field, the blocks around a place."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

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


def field_end(text: str, start: int) -> int | None:
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


def outermost_names(text: str) -> set[str]:
    """The names of the fields that are in no block, among the first tokens; thousands of them tell enough."""
    names, depth, previous = set(), 0, ""
    for _, token in itertools.islice(_tokens(text), 5000):
        if depth == 0 and (token == ":" or token in _CLOSES) and previous.isidentifier():
            names.add(previous)
        depth += (token in _CLOSES) - (token in _CLOSES.values())
        previous = token
    return names


def open_blocks(text: str, end: int) -> list[tuple[int, str]]:
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


def type_in_block(text: str, start: int) -> str:
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


#: the field that holds every `resize_param` of a transform_param but its first
FURTHER_RESIZE = "more_resizes"


def with_further_resizes(text: str) -> str:
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
                    parts += [text[done : previous[0]], FURTHER_RESIZE]
                    done = previous[0] + len(FURTHER_RESIZE)
            counts.append([previous[1], 0])
        elif token in _CLOSES.values() and counts:
            counts.pop()
        if token not in (":", ",", ";"):
            previous = (offset, token)
    return "".join([*parts, text[done:]])
