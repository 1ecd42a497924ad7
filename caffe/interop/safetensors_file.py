"""A caffemodel as a safetensors file, and back, bit for bit.

Each blob is a tensor `<layer>.<index>` (gradients: `<layer>.<index>.diff`). What else the caffemodel says, its layers'
types and settings, is in the file's metadata: the original bytes without the numbers, and where the numbers belong.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe.errors import CaffeError, ProtoError, shown
from caffe.files import replacing
from caffe.interop.checkpoint import is_safetensors, read_safetensors
from caffe.proto import caffe_pb2
from caffe.proto.blob_spans import Span, blob_spans
from caffe.proto.mapped import describe, map_file
from caffe.proto.sniff import HDF5_SIGNATURE
from caffe.proto.weights import LayerWeights, read_weights, write_weights

Arrays = dict[str, NDArray[Any]]

_OUTLINE, _PLACES = "caffemodel_without_numbers", "caffemodel_places"
#: the largest outline: a net of thousands of layers has a few hundred kilobytes
_MOST_OUTLINE = 1 << 26


def to_safetensors(source: str | Path, target: str | Path) -> list[str]:
    """Writes the weights file `source` (.caffemodel or .h5) as `target`. Returns notes for the user."""
    from safetensors.numpy import save_file

    source = Path(source)
    layers = read_weights(source)
    arrays, metadata, notes = _cut(source, layers)
    if not arrays:
        raise ProtoError(f"{source}: none of its {len(layers)} layers has weights")
    with replacing(target, sum(array.nbytes for array in arrays.values())) as temporary:
        save_file(arrays, temporary, metadata)
    return notes


def _cut(source: Path, layers: list[LayerWeights]) -> tuple[Arrays, dict[str, str], list[str]]:
    """The arrays by name, and the metadata from which the file's other bytes come back."""
    buffer = map_file(source, "weights")
    spans = [None] if buffer[:8] == HDF5_SIGNATURE else list(blob_spans(buffer))
    whole = [span for span in spans if span is not None]
    if len(whole) != len(spans):
        what = "HDF5" if buffer[:8] == HDF5_SIGNATURE else "numbers that are not packed"
        note = f"{source} has {what}: the weights' bits are kept, its other bytes are not"
        return _plain(layers), {}, [note]
    chunks: dict[tuple[int, int, str], list[Span]] = {}
    for span in whole:
        chunks.setdefault((span.layer, span.blob, span.what), []).append(span)
    names = _names({key: spans[0].name for key, spans in chunks.items()})
    arrays: Arrays = {}
    for key, parts in chunks.items():
        values = np.concatenate([np.frombuffer(buffer[part.start : part.end], part.kind) for part in parts])
        arrays[names[key]] = values.reshape(_shape(layers, parts[0], values.size))
    outline, places, at = bytearray(), [], 0
    taken: Counter[str] = Counter()
    for span in whole:
        outline += buffer[at : span.start]
        name = names[span.layer, span.blob, span.what]
        count = (span.end - span.start) // int(span.kind[2])
        places.append([len(outline), name, taken[name], count])
        taken[name] += count
        at = span.end
    outline += buffer[at:]
    packed = base64.b64encode(zlib.compress(bytes(outline))).decode()
    return arrays, {_OUTLINE: packed, _PLACES: json.dumps(places)}, []


def _names(layers: dict[tuple[int, int, str], str]) -> dict[tuple[int, int, str], str]:
    """A tensor's name for each array; layers of the same name, or without one, are told apart by their number."""
    numbers: dict[str, set[int]] = {}
    for (number, _, _), name in layers.items():
        numbers.setdefault(name, set()).add(number)
    made = {}
    for (number, blob, what), name in layers.items():
        stem = name if name and len(numbers[name]) == 1 else f"{name}#{number}"
        made[number, blob, what] = f"{stem}.{blob}" + (".diff" if what == "diff" else "")
    return made


def _shape(layers: list[LayerWeights], span: Span, size: int) -> tuple[int, ...]:
    """The blob's shape; one axis for layers that read_weights leaves out."""
    shapes = [
        layer.blobs[span.blob].shape for layer in layers if layer.name == span.name and len(layer.blobs) > span.blob
    ]
    return next((shape for shape in shapes if int(np.prod(shape)) == size), (size,))


def _plain(layers: list[LayerWeights]) -> Arrays:
    arrays = {}
    for layer in layers:
        for index, blob in enumerate(layer.blobs):
            arrays[f"{layer.name}.{index}"] = np.array(blob)
        for index, diff in enumerate(layer.diffs):
            arrays[f"{layer.name}.{index}.diff"] = np.array(diff)
    return arrays


def from_safetensors(source: str | Path, target: str | Path) -> list[str]:
    """Writes the safetensors file `source` as a caffemodel: its own bytes again if `to_safetensors` made it.

    Of other files, tensors `<layer>.<index>` become the layers' blobs, as float32. Returns notes for the user.
    """
    source = Path(source)
    buffer = map_file(source, "a .safetensors file")
    if not is_safetensors(buffer):
        raise ProtoError(f"{source}: {describe(buffer)}, where a .safetensors file should be")
    arrays, metadata = read_safetensors(source, exact=True)
    if _OUTLINE in metadata and not str(target).endswith(".h5"):
        content = _put_together(source, arrays, metadata)
        with replacing(target, len(content)) as temporary:
            temporary.write_bytes(content)
            try:
                read_weights(temporary)
            except ProtoError:
                raise _damaged(source) from None
        return []
    net, blobs = _layers_of(source, arrays)
    write_weights(target, net, blobs)
    if any(array.dtype != np.float32 for array in arrays.values()):
        return ["numbers of other types became float32"]
    return []


def _damaged(source: Path) -> ProtoError:
    return ProtoError(f"{source}: its metadata '{_OUTLINE}' is damaged; convert the caffemodel again")


def _put_together(source: Path, arrays: Arrays, metadata: dict[str, str]) -> bytes:
    damaged = _damaged(source)
    try:
        unpacking = zlib.decompressobj()
        outline = unpacking.decompress(base64.b64decode(metadata[_OUTLINE], validate=True), _MOST_OUTLINE)
        places = json.loads(metadata[_PLACES])
        if unpacking.unconsumed_tail or not all(len(place) == 4 for place in places):
            raise damaged
        content, at = bytearray(), 0
        for offset, name, start, count in places:
            if not at <= offset <= len(outline) or name not in arrays:
                raise damaged
            array = arrays[name].reshape(-1)
            if not 0 <= start <= start + count <= array.size:
                raise ProtoError(
                    f"{source}: tensor '{shown(name)}' has another size than in the caffemodel that it is from"
                )
            content += outline[at:offset] + array[start : start + count].tobytes()
            at = offset
    except (KeyError, ValueError, TypeError, zlib.error, RecursionError) as error:
        if isinstance(error, ProtoError):
            raise
        raise damaged from None
    return bytes(content + outline[at:])


def _layers_of(source: Path, arrays: Arrays) -> tuple[Any, list[list[NDArray[Any]]]]:
    """A NetParameter and blobs from tensors named `<layer>.<index>`."""
    layers: dict[str, dict[int, NDArray[Any]]] = {}
    for name, array in arrays.items():
        layer, _, index = name.removesuffix(".diff").rpartition(".")
        if not layer or not index.isdecimal():
            raise CaffeError(
                f"{source}: tensor '{shown(name)}' is not named <layer>.<blob>, such as conv1_1.0; for a state dict of "
                "another framework give its layout with -from"
            )
        if array.dtype.kind != "f":
            raise CaffeError(
                f"{source}: tensor '{shown(name)}' holds integers; a layer's blobs are floating-point numbers"
            )
        if not name.endswith(".diff"):
            layers.setdefault(layer, {})[int(index)] = array
    net = caffe_pb2.NetParameter()
    blobs = []
    for layer, found in layers.items():
        if sorted(found) != list(range(len(found))):
            raise CaffeError(f"{source}: layer '{shown(layer)}' has blobs {sorted(found)}; they must count from 0")
        net.layer.add(name=layer)
        blobs.append([np.asarray(found[i], np.float32) for i in range(len(found))])
    return net, blobs
