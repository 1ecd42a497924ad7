"""Layers that compute one value from one value."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffe.engine.layer import Shape
from caffe.export.graph import Graph
from caffe.export.registry import along_channels, converts


@converts("ReLU")
def _relu(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    slope = layer.param.relu_param.negative_slope
    return [g.add("LeakyRelu", bottoms[0], alpha=slope) if slope else g.add("Relu", bottoms[0])]


@converts("PReLU")
def _prelu(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    return [g.add("PRelu", bottoms[0], along_channels(g, layer, 0, shapes[0]))]


@converts("ELU")
def _elu(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    return [g.add("Elu", bottoms[0], alpha=layer.param.elu_param.alpha)]


@converts("Sigmoid", "TanH", "AbsVal", "BNLL")
def _unary(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    operators = {"Sigmoid": "Sigmoid", "TanH": "Tanh", "AbsVal": "Abs", "BNLL": "Softplus"}
    return [g.add(operators[layer.type_name], bottoms[0])]


@converts("Power")
def _power(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    p = layer.param.power_param
    if p.power * p.scale == 0:
        # x does not matter, even if it is infinite
        with np.errstate(all="ignore"):  # as the layer: inf where float32 ends, nan for a root of a negative number
            result = np.float32(p.shift if p.power else 1) ** np.float32(p.power)
        return [g.add("ConstantOfShape", g.add("Shape", bottoms[0]), value=g.scalar(float(result)))]
    value = bottoms[0]
    if p.scale != 1:
        value = g.add("Mul", value, g.constant(float(p.scale)))
    if p.shift != 0:
        value = g.add("Add", value, g.constant(float(p.shift)))
    if p.power == 2:
        return [g.add("Mul", value, value)]
    return [value if p.power == 1 and value != bottoms[0] else g.add("Pow", value, g.constant(float(p.power)))]


@converts("Exp")
def _exp(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    value = g.add("Exp", g.add("Mul", bottoms[0], g.constant(float(layer.inner))))
    return [g.add("Mul", value, g.constant(float(layer.outer)))]


@converts("Log")
def _log(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    p = layer.param.log_param
    value = g.add("Add", g.add("Mul", bottoms[0], g.constant(float(p.scale))), g.constant(float(p.shift)))
    return [g.add("Mul", g.add("Log", value), g.constant(float(layer.factor)))]


@converts("Threshold")
def _threshold(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    limit = g.constant(float(layer.param.threshold_param.threshold))
    return [g.add("Cast", g.add("Greater", bottoms[0], limit), to=1)]
