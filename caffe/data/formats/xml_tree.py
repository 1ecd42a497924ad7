"""XML of annotation tools as a tree."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from caffe.errors import DataError

_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_BARE_AMPERSAND = re.compile(r"&(?!(?:[a-zA-Z]{1,8}|#\d{1,7}|#x[0-9a-fA-F]{1,6});)")
#: characters that XML 1.0 does not have
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def parse(data: bytes) -> Element:
    """The root element. Raises DataError for what is not XML, and for entities of its own.

    Tools write file names as they find them, in any encoding and with a bare `&`. If the text is not well-formed, it is
    read again with such characters replaced, by U+FFFD or an escape, so that they do no harm where nothing uses them.
    """
    try:
        try:
            return _tree(data)
        except (ParseError, LookupError, ValueError) as error:
            if isinstance(error, DefusedXmlException):
                raise
            text = _DECLARATION.sub("", data.decode("utf-8-sig", "replace"))
            try:
                return _tree(_CONTROL.sub("\ufffd", _BARE_AMPERSAND.sub("&amp;", text)))
            except ParseError:
                raise DataError(f"not well-formed XML: {error}") from None
    except DefusedXmlException:
        raise DataError("document types with entities are not allowed in an annotation") from None


def _tree(data: bytes | str) -> Element:
    root: Element = fromstring(data)
    return root


def text(element: Element, path: str) -> str:
    """The text of an element's descendant, without blanks around it; "" if there is none."""
    return (element.findtext(path) or "").strip()
