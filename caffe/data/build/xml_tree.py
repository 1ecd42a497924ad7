"""XML as annotation tools write it: parsed strictly, except in elements that nobody reads.

File names and folders in encodings that the file does not declare, or with a bare "&", are common. The original took
bytes as they are and never looked at these elements, so they must not keep an image out of a data set.
"""

from __future__ import annotations

import re
import xml.parsers.expat
from collections.abc import Collection
from xml.etree.ElementTree import Element, TreeBuilder

from caffe.errors import DataError

_MAX_DEPTH = 64
#: A tag: its slash and its name. Possessive, so that a long tag that never ends is read once.
_TAG = re.compile(rb"<(/?)([A-Za-z_][\w.:-]*+)[^<>]*+>|<!--")
_DECLARATION = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*<\?xml[^<>]*\?>")
_ENCODING = re.compile(rb"encoding\s*=\s*[\"']([A-Za-z][\w.:-]*)[\"']")


def parse(data: bytes, used: Collection[str]) -> Element:
    """Returns the root of an XML document. Entities and document types are refused.

    `used`: the tags that the caller reads, and those that enclose them. If the document is not well-formed, it is read
    again without the content of all other elements. Raises DataError if it still is not.
    """
    try:
        return _parse(data)
    except (xml.parsers.expat.ExpatError, LookupError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = error
    try:
        return _parse(_in_utf8(_without_unused(data, {tag.encode() for tag in used})))
    except DataError:
        raise
    except (xml.parsers.expat.ExpatError, LookupError, ValueError) as error:
        # the first reason, because its place is one in the file, unless what is left is at fault in another way
        if isinstance(reason, xml.parsers.expat.ExpatError):
            raise DataError(f"not well-formed XML: {reason}") from None
        raise DataError(f"not readable as XML: {reason}; {error}") from None


def _parse(data: bytes) -> Element:
    parser = xml.parsers.expat.ParserCreate()
    builder = TreeBuilder()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise DataError(f"not an annotation: elements are nested more than {_MAX_DEPTH} deep")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> int:
        raise DataError("document types with entities are not allowed in an annotation")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    parser.EntityDeclHandler, parser.ExternalEntityRefHandler = refuse, refuse
    parser.Parse(data, True)
    return builder.close()


def _without_unused(data: bytes, used: Collection[bytes]) -> bytes:
    """Returns the document without comments and without the content of elements that are not used, in linear time."""
    kept: list[bytes] = []
    copied = 0  # up to here, data is copied or left out
    skipping, depth = b"", 0
    at = 0
    while (match := _TAG.search(data, at)) is not None:
        at = match.end()
        if match.group() == b"<!--":
            end = data.find(b"-->", at)
            if end < 0:
                break
            if not skipping:
                kept.append(data[copied : match.start()])
                copied = end + 3
            at = end + 3
            continue
        slash, name = match.groups()
        closed = match.group().endswith(b"/>")
        if skipping:
            if name == skipping and not closed:
                depth += -1 if slash else 1
                if depth == 0:
                    copied, skipping = match.start(), b""
        elif name not in used and not slash and not closed:
            kept.append(data[copied:at])
            copied, skipping, depth = at, name, 1
    kept.append(data[copied:])
    return b"".join(kept)


def _in_utf8(data: bytes) -> bytes:
    """Returns the document in UTF-8, without its declaration, which expat may not know how to read."""
    declaration = _DECLARATION.match(data)
    if declaration is None:
        return data
    body = data[declaration.end() :]
    encoding = _ENCODING.search(declaration.group())
    name = encoding.group(1).decode() if encoding else "utf-8"
    return body if body.isascii() else body.decode(name).encode()


def text_of(element: Element, path: str) -> str:
    """Returns the text of an element's descendant, without blanks around it; "" if there is none."""
    return (element.findtext(path) or "").strip()
