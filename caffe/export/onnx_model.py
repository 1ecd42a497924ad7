"""A net and its weights as an ONNX model."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnx

from caffe.engine.layer import Shape
from caffe.engine.net import Net
from caffe.engine.wiring import Step
from caffe.errors import NetError
from caffe.export.detection import detection_output
from caffe.export.graph import Array, Graph
from caffe.export.layers import converter, fail, prior_boxes
from caffe.files import replacing

NOTES = (
    "Inputs are as Caffe's: N x channels x height x width, for SSD and MDSSD in the order blue, green, red, 0 to 255 less "
    "the mean 104, 117, 123. detection_out has a row a detection: image, label, score, xmin, ymin, xmax, ymax; the "
    "corners are in units of the input's width and height."
)


def onnx_model(net: Net) -> Any:
    """A ModelProto that computes the net's outputs from its inputs, for any batch size.

    Other sizes are the prototxt's. Raises ExportError for layers without an equal in ONNX.
    """
    return _Exporter(net).model()


def export_onnx(net: Net, path: str | os.PathLike[str]) -> Any:
    """Writes `onnx_model(net)` to a file, whole or not at all, and returns it."""
    model = onnx_model(net)
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return model


class _Exporter:
    """Goes through a net's steps. `values` has the ONNX name of each blob at the moment, `known` the constant ones."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.graph = Graph(net.name or "net")
        self.values: dict[str, str] = {}
        self.shapes: dict[str, Shape] = {}
        self.known: dict[str, Array] = {}

    def model(self) -> Any:
        if not self.net.inputs:
            raise NetError(
                f"net '{self.net.name}' has no input: it reads its data itself. Export the deploy net, whose first layer "
                'is of type "Input"'
            )
        for step in self.net.steps:
            self.graph.enter(step.layer.name)
            self._step(step)
        outputs = [name for name in self.net.outputs if name not in self.known]
        for name in outputs:
            if self.values[name] != name:
                self.graph.add("Identity", self.values[name], output=name)
            shape: list[int | str] = ["N", *self.shapes[name][1:]]
            self.graph.output(name, [1, 1, "detections", 7] if name in self.detections else shape)
        model = self.graph.model(NOTES)
        onnx.checker.check_model(model, full_check=True)
        return model

    @property
    def detections(self) -> set[str]:
        return {top for s in self.net.steps if s.layer.type_name == "DetectionOutput" for top in s.tops}

    def _step(self, step: Step) -> None:
        layer, kind = step.layer, step.layer.type_name
        if kind == "Input":
            for top in step.tops:
                self.shapes[top] = tuple(self.net.blobs[top].shape)
                self.values[top] = top
                self.graph.input(top, ["N", *self.shapes[top][1:]])
            return
        bottoms = [self.shapes[name] for name in step.bottoms]
        tops = [tuple(int(d) for d in shape) for shape in layer.reshape(bottoms)]
        self.shapes.update(zip(step.tops, tops, strict=True))
        if kind == "PriorBox":
            self.known[step.tops[0]] = prior_boxes(layer, bottoms)
            return
        if step.bottoms and all(name in self.known for name in step.bottoms):
            self._fold(step)
            return
        if kind == "DetectionOutput":
            priors = step.bottoms[2]
            if priors not in self.known:
                raise fail(layer, f"its priors '{priors}' are computed from data, not by PriorBox layers")
            loc, conf = (self._value(name) for name in step.bottoms[:2])
            self.values[step.tops[0]] = detection_output(self.graph, layer, loc, conf, self.known[priors], step.tops[0])
            return
        names = [self._value(name) for name in step.bottoms]
        made = converter(layer)(self.graph, layer, names, bottoms, tops)
        self.values.update(zip(step.tops, made, strict=True))

    def _fold(self, step: Step) -> None:
        """A layer of constants gives constants."""
        if step.layer.type_name not in ("Concat", "Split", "Silence"):
            raise fail(step.layer, "between PriorBox and DetectionOutput only Concat is taken")
        arrays = [self.known[name] for name in step.bottoms]
        if step.layer.type_name == "Concat":
            layer: Any = step.layer
            axis = layer.axis_of(arrays[0].ndim)
            arrays = [np.concatenate(arrays, axis=axis)]
        self.known.update((top, arrays[0]) for top in step.tops)

    def _value(self, name: str) -> str:
        if name in self.known and name not in self.values:
            self.values[name] = self.graph.constant(self.known[name], name)
        return self.values[name]
