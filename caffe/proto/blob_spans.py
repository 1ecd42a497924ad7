"""Where in a .caffemodel the numbers are: the bytes of every packed array, in the order of the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from caffe.proto.wire import FIXED32, FIXED64, LENGTH, Budget, Field, fields

#: the numbers of LayerParameter, V1LayerParameter (and the V0 layer inside it): in the net, then name and blobs
_LAYER, _LAYER_NAME, _LAYER_BLOBS = 100, 1, 7
_V1_LAYER, _V1_NAME, _V1_BLOBS = 2, 4, 6
_V0_LAYER, _V0_NAME, _V0_BLOBS = 1, 1, 50
#: BlobProto's arrays: numbers, kinds and NumPy types
_ARRAYS = {5: ("data", "<f4"), 6: ("diff", "<f4"), 8: ("data", "<f8"), 9: ("diff", "<f8")}


class Span(NamedTuple):
    """Bytes `start` to `end` hold numbers of type `kind` of blob `blob` of the layer that is number `layer` in the file."""

    layer: int
    name: str
    blob: int
    what: str
    kind: str
    start: int
    end: int


def blob_spans(buffer: memoryview) -> Iterator[Span | None]:
    """Every packed array of a binary NetParameter; None for numbers that are not packed. Raises WireError."""
    layer, budget = 0, Budget()
    for top in fields(buffer, 0, len(buffer), budget):
        if top.wire_type != LENGTH or top.number not in (_LAYER, _V1_LAYER):
            continue
        inside, name_number, blobs_number = top, _LAYER_NAME, _LAYER_BLOBS
        if top.number == _V1_LAYER:
            name_number, blobs_number = _V1_NAME, _V1_BLOBS
            v0 = [part for part in fields(buffer, top.start, top.end, budget) if part.number == _V0_LAYER]
            if v0 and v0[0].wire_type == LENGTH:
                inside, name_number, blobs_number = v0[0], _V0_NAME, _V0_BLOBS
        yield from _layer_spans(buffer, inside, name_number, blobs_number, layer, budget)
        layer += 1


def _layer_spans(
    buffer: memoryview, inside: Field, name_number: int, blobs_number: int, layer: int, budget: Budget
) -> Iterator[Span | None]:
    parts = [part for part in fields(buffer, inside.start, inside.end, budget) if part.wire_type == LENGTH]
    names = [bytes(buffer[part.start : part.end]) for part in parts if part.number == name_number]
    name = names[-1].decode("utf-8", "replace") if names else ""
    for index, blob in enumerate(part for part in parts if part.number == blobs_number):
        for field in fields(buffer, blob.start, blob.end, budget):
            if field.number not in _ARRAYS:
                continue
            if field.wire_type in (FIXED32, FIXED64):
                yield None
                return
            what, kind = _ARRAYS[field.number]
            yield Span(layer, name, index, what, kind, field.start, field.end)
