"""Which function converts which layer type, and what all of them need.

All sizes except the batch's are fixed in the exported graph, so everything that follows from them is computed here and
written as constants: paddings that give Caffe's rounding, shapes, slices. Where a layer needs the batch's size too, the
graph is `fixed`, and so is the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from caffe.engine.layer import Layer, Shape, SourceLayer
from caffe.errors import NetError
from caffe.export.graph import Graph

#: (graph, layer, names of the bottoms, their shapes, shapes of the tops) → names of the tops
Converter = Callable[[Graph, Any, list[str], list[Shape], list[Shape]], list[str]]
_converters: dict[str, Converter] = {}


class ExportError(NetError):
    """A layer, or an option of it, that has no equivalent in ONNX: names the layer."""


class NeedsFixedBatch(ExportError):
    """A layer that has an equivalent only for one size of the batch."""


def fail(layer: Layer, message: str) -> ExportError:
    """The error to raise for a layer."""
    return ExportError(f"layer '{layer.name}' ({layer.type_name}) cannot be exported: {message}")


def needs_fixed_batch(layer: Layer, why: str) -> NeedsFixedBatch:
    """The error to raise for a layer in a graph that is not fixed; the export then starts again with a fixed batch."""
    return NeedsFixedBatch(f"layer '{layer.name}' ({layer.type_name}) {why}")


def converts(*types: str) -> Callable[[Converter], Converter]:
    """Decorator: this function converts layers of these types."""

    def decorate(function: Converter) -> Converter:
        _converters.update(dict.fromkeys(types, function))
        return function

    return decorate


def converter(layer: Layer) -> Converter:
    """The function for a layer's type; raises ExportError, which says why, if there is none."""
    if layer.type_name in _converters:
        return _converters[layer.type_name]
    if isinstance(layer, SourceLayer):
        raise fail(layer, "it reads its own data; export the deploy net, whose data come from an Input layer")
    if layer.is_loss:
        raise fail(layer, "it is for training; export the deploy net, which has no loss layers")
    raise fail(layer, f"there is no conversion for this type. There is one for {', '.join(sorted(_converters))}")


def blob(layer: Layer, index: int) -> Any:
    """A layer's parameter as an array."""
    return layer.blobs[index].detach().cpu().numpy()


def reshape(g: Graph, value: str, before: Sequence[int], after: Sequence[int]) -> str:
    """`value` in another shape. Unless the graph is fixed, the first axis is the batch, whose size is inferred."""
    if tuple(before) == tuple(after):
        return value
    shape = list(after) if g.fixed else [-1, *after[1:]] if len(after) else [1]
    return g.add("Reshape", value, g.constant(shape, "shape"))


def along_channels(g: Graph, layer: Layer, index: int, shape: Shape, axis: int = 1) -> str:
    """A parameter with axes of 1 added, so that it broadcasts over a blob of `shape` from `axis` on."""
    values = blob(layer, index)
    if values.ndim:
        values = values.reshape(values.shape + (1,) * (len(shape) - axis - values.ndim))
    return g.constant(values, "parameter")
