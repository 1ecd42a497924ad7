"""Changes to parsed JSON and XML: most mutations of their bytes die in the parser, and what is behind it is not tried."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any
from xml.etree import ElementTree

from tests.fuzz.mutate import MAX_BYTES, mutated

_STRINGS = (
    "", " ", "a.jpg", "b.jpg", "1", "-1", "1e999", "nan", "true", "x" * 300, "x" * 70_000, "../../etc/passwd", "/", "a\0b",
    "\ud800", "\u2028", "\x1b[31m", "٣", "none_of_the_above", "RBC", "rbc", "file:///a.jpg",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 17, 1.5, -0.0, 1e-320, 1e308, float("inf"), float("-inf"), float("nan"), 2**31, 2**63,
    -(2**63), 10**400, [], {}, [[]], [None], {"": None}, [0, 0, 0, 0], [1e308, 1e308, 1e308, 1e308], *_STRINGS,
)  # fmt: skip

Place = tuple[Any, Any]
"""A list or dictionary and an index or key in it."""


def _places(document: Any) -> list[Place]:
    found: list[Place] = []
    keys = document.keys() if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in keys:
        found.append((document, key))
        found += _places(document[key])
    return found


def _change_value(document: Any, rng: random.Random) -> None:
    places = _places(document)
    if not places:
        return
    owner, key = rng.choice(places)
    kind = rng.choice(("value", "value", "value", "remove", "other", "twice"))
    if kind == "value":
        owner[key] = deepcopy(rng.choice(_VALUES))  # a list may be changed later
    elif kind == "remove":
        del owner[key]
    elif kind == "other":
        # copied, so that no value contains itself
        other, place = rng.choice(places)
        owner[key] = json.loads(json.dumps(other[place]))
    elif isinstance(owner, list):
        owner.extend([owner[key]] * rng.choice((1, 3, 300)))
    else:
        owner[rng.choice(_STRINGS)] = owner[key]


def changed_json(samples: Sequence[bytes], rng: random.Random) -> bytes:
    """One of `samples`, JSON, with other values, or in a third of the cases with other bytes."""
    if rng.random() < 1 / 3:
        return mutated(samples, rng)
    document = json.loads(rng.choice(samples))
    for _ in range(rng.choice((1, 1, 2, 4))):
        _change_value(document, rng)
    return json.dumps(document).encode()[:MAX_BYTES]


def _change_element(root: ElementTree.Element, rng: random.Random) -> None:
    elements = list(root.iter())
    element, other = rng.choice(elements), rng.choice(elements)
    kind = rng.choice(("text", "text", "attribute", "attribute", "tag", "remove", "twice", "move"))
    # XML has no way to write some characters
    value = rng.choice([text for text in _STRINGS if text.isprintable()] + ["0", "1.5", "2147483648", "9" * 5000])
    if kind == "text":
        element.text = value
    elif kind == "attribute" and element.attrib:
        element.set(rng.choice([*element.attrib]), value)
    elif kind == "tag":
        element.tag = other.tag
    elif kind == "remove" and len(element):
        element.remove(element[rng.randrange(len(element))])
    elif kind == "twice" and len(element):
        element.extend([element[rng.randrange(len(element))]] * rng.choice((1, 3, 100)))
    elif kind == "move" and element not in other.iter() and other not in element.iter():
        other.append(element)


def changed_xml(samples: Sequence[bytes], rng: random.Random) -> bytes:
    """One of `samples`, XML, with other elements, or in a third of the cases with other bytes."""
    if rng.random() < 1 / 3:
        return mutated(samples, rng)
    root = ElementTree.fromstring(rng.choice(samples))
    for _ in range(rng.choice((1, 1, 2, 4))):
        _change_element(root, rng)
    return ElementTree.tostring(root)[:MAX_BYTES]


#: how an input is made of samples
Change = Callable[[Sequence[bytes], random.Random], bytes]
