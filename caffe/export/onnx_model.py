"""A net and its weights as an ONNX model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch

from caffe.engine.layer import Layer, Shape, SourceLayer
from caffe.engine.net import Net
from caffe.engine.wiring import Step
from caffe.errors import NetError, shown
from caffe.export import (  # noqa: F401  (they register their conversions)
    arrangement,
    detection,
    faces,
    forks,
    neurons,
    normalization,
    recurrent,
    regions,
    windows,
)
from caffe.export.graph import Array, Graph
from caffe.export.registry import NeedsFixedBatch, converter, fail, needs_fixed_batch
from caffe.files import replacing

NOTES = (
    "Inputs are as Caffe's: N x channels x height x width, for SSD and MDSSD in the order blue, green, red, 0 to 255 less "
    "the mean 104, 117, 123. detection_out has one row per detection: image, label, score, xmin, ymin, xmax, ymax; the "
    "corners are in units of the input's width and height."
)
#: what is added to the notes of a model whose batch is fixed
FIXED = "The batch is fixed: {}."


def onnx_model(net: Net) -> Any:
    """A ModelProto that computes the net's outputs from its inputs, for any batch size where its layers allow that.

    Other sizes are the prototxt's, and so is the batch's where a layer needs it (the model's notes say which). Raises
    ExportError for layers without an equivalent in ONNX.
    """
    try:
        return _Exporter(net).model()
    except NeedsFixedBatch as reason:
        return _Exporter(net, str(reason)).model()


def export_onnx(net: Net, path: str | os.PathLike[str]) -> Any:
    """Writes `onnx_model(net)` to a file, whole or not at all, and returns it."""
    model = onnx_model(net)
    write(model, path)
    return model


def write(model: Any, path: str | os.PathLike[str]) -> None:
    """Writes a ModelProto to a file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


class _Exporter:
    """Goes through a net's steps. `values` has the ONNX name of each blob at the moment.

    `reason`: why the batch is fixed; empty for a batch of any size.
    """

    def __init__(self, net: Net, reason: str = "") -> None:
        self.net = net
        self.reason = reason
        self.graph = Graph(net.name or "net", fixed=bool(reason))
        self.values: dict[str, str] = {}
        self.shapes: dict[str, Shape] = {}
        #: the same for a batch with one item more: what differs is the batch axis
        self.larger: dict[str, Shape] = {}
        #: names of those axes whose sizes depend on values
        self.dynamic: dict[str, Mapping[int, str]] = {}

    def model(self) -> Any:
        if not self.net.inputs:
            raise NetError(
                f"net '{self.net.name}' has no input: it reads its data itself. Export the deploy net, whose first layer "
                'is of type "Input"'
            )
        self.graph.reserve((*self.net.inputs, *self.net.outputs))
        for step in self.net.steps:
            self.graph.enter(step.layer.name)
            self._step(step)
        for name in self.net.outputs:
            if self.graph.known_value(self.values[name]) is None:
                if self.values[name] != name:
                    self.graph.add("Identity", self.values[name], output=name)
                self.graph.output(name, self._declared(name))
        model = self.graph.model(f"{NOTES} {FIXED.format(self.reason)}" if self.reason else NOTES)
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            reason = shown(str(error).splitlines()[0], 200)
            raise NetError(f"net '{shown(self.net.name)}' has no equivalent in ONNX: {reason}") from error
        return model

    def _declared(self, name: str) -> list[int | str]:
        """A blob's shape with names for the axes that are not fixed."""
        shape: list[int | str] = [self.dynamic[name].get(axis, size) for axis, size in enumerate(self.shapes[name])]
        if shape and self.larger[name] != self.shapes[name]:
            shape[0] = "N"
        return shape

    def _step(self, step: Step) -> None:
        layer = step.layer
        if isinstance(layer, SourceLayer) and layer.is_input:
            for top in step.tops:
                shape = tuple(self.net.blobs[top].shape)
                self.shapes[top], self.dynamic[top], self.values[top] = shape, {}, top
                grows = shape and not self.graph.fixed
                self.larger[top] = (shape[0] + 1, *shape[1:]) if grows else shape
                self.graph.input(top, self._declared(top))
            return
        bottoms = [self.shapes[name] for name in step.bottoms]
        tops = [tuple(int(d) for d in shape) for shape in layer.reshape(bottoms)]
        names = [self.values[name] for name in step.bottoms]
        known = [self.graph.known_value(name) for name in names]
        constants = [value for value in known if value is not None]
        if layer.constant_tops:
            made = self._computed(step, [np.zeros(shape, np.float32) for shape in bottoms])
        elif names and len(constants) == len(names) and layer.graph_obstacle() is None:
            made = self._computed(step, constants)
        elif bottoms and bottoms[0] == ():
            raise fail(layer, f"its bottom '{step.bottoms[0]}' has no axes, so it has no batch")
        else:
            made = converter(layer)(self.graph, layer, names, bottoms, tops)
        self.larger.update(zip(step.tops, self._larger(layer, step, tops), strict=True))
        self.values.update(zip(step.tops, made, strict=True))
        self.shapes.update(zip(step.tops, tops, strict=True))
        dynamic = self.dynamic[step.bottoms[0]] if layer.passes_through else layer.dynamic_axes
        rows = [self.dynamic[name][0] for name in step.bottoms if 0 in self.dynamic[name]]
        if rows and not dynamic:  # a row for each that was found before
            dynamic = {0: rows[0]}
        self.dynamic.update((top, dynamic) for top in step.tops)

    def _larger(self, layer: Layer, step: Step, tops: Sequence[Shape]) -> list[Shape]:
        """The tops' shapes for a batch with one item more, which may differ from `tops` in the first axis only."""
        if self.graph.fixed or layer.constant_tops:
            return list(tops)
        try:
            larger = [tuple(int(d) for d in s) for s in layer.reshape([self.larger[name] for name in step.bottoms])]
        except NetError as error:
            raise needs_fixed_batch(layer, f"does not take a larger batch ({error})") from None
        if 0 in layer.dynamic_axes:  # as many rows as are found, which the shapes do not say
            return list(tops)
        for small, large in zip(tops, larger, strict=True):
            if small != large and (small[1:] != large[1:] or small[0] + 1 != large[0]):
                raise needs_fixed_batch(layer, f"mixes the batch with other axes: {small} becomes {large}")
        return larger

    def _computed(self, step: Step, bottoms: Sequence[Array]) -> list[str]:
        """The tops of a layer whose bottoms, or all of them that matters, are known: computed here, not in the graph."""
        with torch.no_grad():
            tops = step.layer(*(torch.from_numpy(bottom).to(self.net.device) for bottom in bottoms))
        arrays = [top.cpu().numpy() for top in (tops if isinstance(tops, tuple) else (tops,))]
        return [self.graph.know(array, name) for name, array in zip(step.tops, arrays, strict=True)]
