"""A net and its weights as an ONNX model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch

from caffe.engine.layer import Shape, SourceLayer
from caffe.engine.net import Net
from caffe.engine.wiring import Step
from caffe.errors import NetError, shown
from caffe.export import detection  # noqa: F401  (registers its conversion)
from caffe.export.graph import Array, Graph
from caffe.export.layers import converter, fail
from caffe.files import replacing

NOTES = (
    "Inputs are as Caffe's: N x channels x height x width, for SSD and MDSSD in the order blue, green, red, 0 to 255 less "
    "the mean 104, 117, 123. detection_out has one row per detection: image, label, score, xmin, ymin, xmax, ymax; the "
    "corners are in units of the input's width and height."
)


def onnx_model(net: Net) -> Any:
    """A ModelProto that computes the net's outputs from its inputs, for any batch size.

    Other sizes are the prototxt's. Raises ExportError for layers without an equivalent in ONNX.
    """
    return _Exporter(net).model()


def export_onnx(net: Net, path: str | os.PathLike[str]) -> Any:
    """Writes `onnx_model(net)` to a file, whole or not at all, and returns it."""
    model = onnx_model(net)
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return model


class _Exporter:
    """Goes through a net's steps. `values` has the ONNX name of each blob at the moment."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.graph = Graph(net.name or "net")
        self.values: dict[str, str] = {}
        self.shapes: dict[str, Shape] = {}
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
                self.graph.output(name, self._output_shape(name))
        model = self.graph.model(NOTES)
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            reason = shown(str(error).splitlines()[0], 200)
            raise NetError(f"net '{shown(self.net.name)}' has no equivalent in ONNX: {reason}") from error
        return model

    def _output_shape(self, name: str) -> list[int | str]:
        dynamic = self.dynamic[name]
        if dynamic:
            return [dynamic.get(axis, size) for axis, size in enumerate(self.shapes[name])]
        return ["N", *self.shapes[name][1:]]

    def _step(self, step: Step) -> None:
        layer = step.layer
        if isinstance(layer, SourceLayer) and layer.is_input:
            for top in step.tops:
                self.shapes[top], self.dynamic[top] = tuple(self.net.blobs[top].shape), {}
                self.values[top] = top
                self.graph.input(top, ["N", *self.shapes[top][1:]])
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
        elif () in bottoms:
            raise fail(layer, f"its bottom '{step.bottoms[bottoms.index(())]}' has no axes, so it has no batch")
        else:
            made = converter(layer)(self.graph, layer, names, bottoms, tops)
        self.values.update(zip(step.tops, made, strict=True))
        self.shapes.update(zip(step.tops, tops, strict=True))
        dynamic = self.dynamic[step.bottoms[0]] if layer.passes_through else layer.dynamic_axes
        self.dynamic.update((top, dynamic) for top in step.tops)

    def _computed(self, step: Step, bottoms: Sequence[Array]) -> list[str]:
        """The tops of a layer whose bottoms, or all of them that matters, are known: computed here, not in the graph."""
        with torch.no_grad():
            tops = step.layer(*(torch.from_numpy(bottom).to(self.net.device) for bottom in bottoms))
        arrays = [top.cpu().numpy() for top in (tops if isinstance(tops, tuple) else (tops,))]
        return [self.graph.know(array, name) for name, array in zip(step.tops, arrays, strict=True)]
