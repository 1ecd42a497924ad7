"""Weights files: `.caffemodel` (a binary NetParameter) and `.caffemodel.h5`, read in place and written atomically.

The formats are those of Caffe's Net::ToProto and Net::ToHDF5. The content of a file decides which of the two it is, not
its name.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy.typing as npt

from caffe.errors import ProtoError, shown
from caffe.files import replacing
from caffe.proto.legacy_types import V0_TYPES, V1_TYPES
from caffe.proto.mapped import describe, map_file
from caffe.proto.sniff import HDF5_SIGNATURE, looks_like
from caffe.proto.wire import (
    LENGTH,
    VARINT,
    BlobArrays,
    BlobWriter,
    Budget,
    Field,
    FloatArray,
    WireError,
    blobs_size,
    fields,
    header,
    read_blob,
    split_fields,
    write_blobs,
)

_LAYER, _V1_LAYERS = 100, 2
_BLOBS = 7


@dataclass
class LayerWeights:
    """One layer of a weights file.

    `blobs` are float32 and may be read-only views of the file, not aligned in memory: copy them (`np.copyto`,
    `np.array`) before computing with them. `diffs` is empty unless the file holds gradients; then it matches `blobs`.
    `type` is Caffe's current name of the layer type, for files of any age, and empty for HDF5, which has none.
    """

    name: str
    type: str
    blobs: list[FloatArray]
    diffs: list[FloatArray] = field(default_factory=list)


def read_weights(path: str | os.PathLike[str]) -> list[LayerWeights]:
    """The layers of a weights file, in its order, including those without weights.

    Reads the current format and both older ones (V1 `layers`, V0 `layers { layer { ... } }`).

    Raises ProtoError for missing, empty, truncated or damaged files, and for files that are not weights, with what they
    look like.
    """
    path = Path(path)
    buffer = map_file(path, "weights")
    if buffer[:8] == HDF5_SIGNATURE:
        from caffe.proto import hdf5_weights  # h5py is loaded where a file needs it

        return [LayerWeights(name, "", blobs, diffs) for name, blobs, diffs in hdf5_weights.read(path, _WANTED)]
    layers: list[LayerWeights] = []
    budget = Budget()
    try:
        for top in fields(buffer, 0, len(buffer), budget):
            if top.wire_type == LENGTH and top.number == _LAYER:
                layers.append(_read_layer(buffer, top, budget, blobs_number=_BLOBS))
            elif top.wire_type == LENGTH and top.number == _V1_LAYERS:
                layers.append(_read_v1_layer(buffer, top, budget))
    except WireError as error:
        raise _unreadable(path, buffer, layers, error) from error
    if not layers:
        raise ProtoError(f"{path}: it has no weights: {describe(buffer)}; {_WANTED}")
    return [layer for layer in layers if layer.type != "padding"]


_WANTED = "give a .caffemodel or .caffemodel.h5"


def _unreadable(path: Path, buffer: memoryview, layers: list[LayerWeights], error: WireError) -> ProtoError:
    """The error for bytes that are not valid any more."""
    kind = looks_like(bytes(buffer[:512]))
    if not layers and kind is not None and "NetParameter" not in kind:
        return ProtoError(f"{path}: not weights, it looks like {kind}; {_WANTED}")
    if not layers and kind is None:
        return ProtoError(f"{path}: not weights or any other file that Caffe writes ({error}); {_WANTED}")
    after = f" after layer '{shown(layers[-1].name)}' ({len(layers)} read)" if layers else ""
    what = "truncated" if error.truncated else "damaged"
    return ProtoError(f"{path}: {what}{after}, {error}; copy or download it again ({len(buffer):,} bytes here)")


def _text(buffer: memoryview, span: Field) -> str:
    return bytes(buffer[span.start : min(span.end, span.start + 4096)]).decode("utf-8", "replace")


class _Blobs:
    """Collects a layer's blobs, and says which layer and blob could not be read."""

    def __init__(self, buffer: memoryview, budget: Budget) -> None:
        self._buffer, self._budget = buffer, budget
        self._spans: list[Field] = []

    def add(self, span: Field) -> None:
        self._spans.append(span)

    def weights(self, name: str, type_: str) -> LayerWeights:
        blobs: list[BlobArrays] = []
        for index, span in enumerate(self._spans):
            try:
                blobs.append(read_blob(self._buffer, span.start, span.end, self._budget))
            except WireError as error:
                problem = f"layer '{shown(name)}', blob {index}: {str(error).partition(': ')[2]}"
                raise WireError(error.offset, problem, error.truncated) from error
        diffs = [blob.diff for blob in blobs if blob.diff is not None]
        return LayerWeights(name, type_, [blob.data for blob in blobs], diffs if len(diffs) == len(blobs) else [])


def _read_layer(buffer: memoryview, span: Field, budget: Budget, blobs_number: int) -> LayerWeights:
    """A LayerParameter, or a V0LayerParameter, which has name and type under the same numbers."""
    name = type_ = ""
    blobs = _Blobs(buffer, budget)
    for part in fields(buffer, span.start, span.end, budget):
        if part.wire_type != LENGTH:
            continue
        if part.number == 1:
            name = _text(buffer, part)
        elif part.number == 2:
            type_ = _text(buffer, part)
        elif part.number == blobs_number:
            blobs.add(part)
    return blobs.weights(name, type_)


def _read_v1_layer(buffer: memoryview, span: Field, budget: Budget) -> LayerWeights:
    """A V1LayerParameter; if it wraps a V0 layer, that layer's fields count instead of its own."""
    name = type_ = ""
    blobs = _Blobs(buffer, budget)
    for part in fields(buffer, span.start, span.end, budget):
        if part.number == 1 and part.wire_type == LENGTH:
            v0 = _read_layer(buffer, part, budget, blobs_number=50)
            v0.type = V0_TYPES.get(v0.type, v0.type)
            return v0
        if part.number == 4 and part.wire_type == LENGTH:
            name = _text(buffer, part)
        elif part.number == 5 and part.wire_type == VARINT:
            type_ = V1_TYPES.get(part.value, str(part.value))
        elif part.number == 6 and part.wire_type == LENGTH:
            blobs.add(part)
    return blobs.weights(name, type_)


Blobs = Sequence[Sequence[npt.NDArray[Any]]]


def write_weights(
    path: str | os.PathLike[str],
    net: Any,
    blobs: Blobs,
    diffs: Blobs | None = None,
    shared: Collection[tuple[int, int]] = (),
    hdf5: bool | None = None,
) -> None:
    """Writes `net`, a NetParameter without blobs, and `blobs`, one sequence of arrays per layer of `net.layer`.

    `hdf5` chooses that format; by default, a name that ends in `.h5` does. `diffs` adds gradients. `shared` lists
    (layer, blob) parameters that an earlier layer owns: HDF5 leaves their data out, as the original does; the binary
    format holds every blob.

    The bytes are the same as the original's, streamed from the arrays, and the file appears only when it is complete.
    Raises CaffeError if it cannot be written.
    """
    path = Path(path)
    if len(blobs) != len(net.layer) or (diffs is not None and len(diffs) != len(net.layer)):
        raise ValueError(f"{len(blobs)} lists of blobs for {len(net.layer)} layers")
    if path.name.endswith(".h5") if hdf5 is None else hdf5:
        from caffe.proto import hdf5_weights

        hdf5_weights.write(path, [layer.name for layer in net.layer], blobs, diffs, shared)
    else:
        _write_binary(path, net, blobs, diffs)


def _write_binary(path: Path, net: Any, blobs: Blobs, diffs: Blobs | None) -> None:
    outline = type(net)()
    outline.CopyFrom(net)
    del outline.layer[:]
    writers = [
        [BlobWriter(blob, diffs[i][j] if diffs is not None else None) for j, blob in enumerate(layer)]
        for i, layer in enumerate(blobs)
    ]
    size = sum(blobs_size(_BLOBS, layer) for layer in writers)
    with replacing(path, size) as temporary, open(temporary, "wb", buffering=1 << 20) as file:
        for number, part in split_fields(outline.SerializeToString(deterministic=True)):
            assert number < _LAYER
            file.write(part)
        for layer, layer_blobs in zip(net.layer, writers, strict=True):
            _write_layer(file, layer, layer_blobs)


def _write_layer(file: IO[bytes], layer: Any, blobs: Sequence[BlobWriter]) -> None:
    if layer.blobs:
        raise ValueError(f"layer '{layer.name}' already has blobs")
    parts = split_fields(layer.SerializeToString(deterministic=True))
    file.write(header(_LAYER, sum(len(part) for _, part in parts) + blobs_size(_BLOBS, blobs)))
    for number, part in parts:
        if number < _BLOBS:
            file.write(part)
    write_blobs(file, _BLOBS, blobs)
    for number, part in parts:
        if number > _BLOBS:
            file.write(part)
