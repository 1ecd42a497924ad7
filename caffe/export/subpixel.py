"""Deconvolutions as convolutions whose output channels become pixels, for runtimes that have 8-bit kernels for Conv only.

A deconvolution of stride s writes s × s interleaved images. Each is a convolution of the input with every s-th row and
column of the kernel, turned around, so one convolution with s × s times the channels computes all of them (Shi et al.,
Is the deconvolution layer the same as a convolutional layer?, 2016). What remains is to interleave the channels and to
crop.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from onnx import helper, numpy_helper, shape_inference

from caffe.export.graph import Array


def deconvolutions_as_convolutions(model: Any, keep: Collection[str] = ()) -> int:
    """Replaces the ConvTranspose nodes of a model by convolutions that compute the same. Returns how many.

    Grouped and dilated ones, those over other than two axes, and those of the layers `keep` stay as they are.
    """
    graph = model.graph
    weights = {value.name: value for value in graph.initializer}
    shapes = _shapes(model)
    nodes: list[Any] = []
    replaced = 0
    for node in graph.node:
        made: list[Any] = []
        if node.op_type == "ConvTranspose" and node.name.rpartition("/")[0] not in keep and node.input[1] in weights:
            made = _convolution(graph, node, weights, shapes)
        replaced += bool(made)
        nodes += made or [node]
    del graph.node[:]
    graph.node.extend(nodes)
    return replaced


def split_kernel(kernel: Array, stride: tuple[int, int]) -> Array:
    """The kernel of the convolution that computes all of a deconvolution's s × s interleaved images.

    kernel: inputs × outputs × height × width, a deconvolution's. Returns (s · s · outputs) × inputs × ⌈height / s⌉ ×
    ⌈width / s⌉, where the image that begins in row i and column j has the outputs from (i · s + j) · outputs on.
    """
    inputs, outputs, *sides = kernel.shape
    taps = [-(-side // step) for side, step in zip(sides, stride, strict=True)]
    padded = np.zeros((inputs, outputs, taps[0] * stride[0], taps[1] * stride[1]), kernel.dtype)
    padded[..., : sides[0], : sides[1]] = kernel
    # row t · s + i of the kernel is tap t of the image that begins in row i
    phases = padded.reshape(inputs, outputs, taps[0], stride[0], taps[1], stride[1])[:, :, ::-1, :, ::-1]
    return np.ascontiguousarray(phases.transpose(3, 5, 1, 0, 2, 4)).reshape(-1, inputs, *taps)


def _convolution(graph: Any, node: Any, weights: dict[str, Any], shapes: dict[str, list[int]]) -> list[Any]:
    """The nodes that replace a ConvTranspose; none where it has to stay."""
    window = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    kernel = numpy_helper.to_array(weights[node.input[1]])
    size, wanted = shapes.get(node.input[0], []), shapes.get(node.output[0], [])
    if kernel.ndim != 4 or window["group"] != 1 or set(window["dilations"]) != {1} or not (size and wanted):
        return []
    stride = tuple(window["strides"])
    convolution = split_kernel(kernel, stride)
    taps = convolution.shape[2:]
    rows, columns = (side + tap - 1 for side, tap in zip(size, taps, strict=True))
    begin = list(window["pads"][:2])
    end = [first + side for first, side in zip(begin, wanted, strict=True)]
    outputs = kernel.shape[1]
    nodes: list[Any] = []

    def constant(value: Array, hint: str) -> str:
        name = f"{node.name}.{hint}"
        graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def add(operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        # the part before the last slash stays the layer's name
        name = f"{node.name}.{operator}_{len(nodes)}"
        nodes.append(helper.make_node(operator, list(inputs), [output or name], name=name, **attributes))
        return output or name

    inputs = [node.input[0], constant(convolution, "weights")]
    if len(node.input) > 2:
        bias = numpy_helper.to_array(weights[node.input[2]])
        inputs.append(constant(np.tile(bias, stride[0] * stride[1]), "bias"))
    pads = [tap - 1 for tap in taps] * 2
    value = add("Conv", *inputs, kernel_shape=list(taps), pads=pads, strides=[1, 1])
    # with the channels last, as 8-bit kernels have them, rows of pixels are interleaved in runs, not one by one
    value = add("Transpose", value, perm=[0, 2, 3, 1])
    parts = np.array([-1, rows, columns, stride[0], stride[1] * outputs], np.int64)
    value = add("Transpose", add("Reshape", value, constant(parts, "parts")), perm=[0, 1, 3, 2, 4])
    whole = np.array([-1, rows * stride[0], columns * stride[1], outputs], np.int64)
    value = add("Reshape", value, constant(whole, "whole"))
    if begin != [0, 0] or end != list(whole[1:3]):
        limits = (constant(np.array(side, np.int64), hint) for side, hint in ((begin, "begin"), (end, "end")))
        value = add("Slice", value, *limits, constant(np.array([1, 2], np.int64), "axes"))
    add("Transpose", value, perm=[0, 3, 1, 2], output=node.output[0])
    return nodes


def _shapes(model: Any) -> dict[str, list[int]]:
    """Height and width of the values that have them, by name."""
    graph = shape_inference.infer_shapes(model).graph
    shapes = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        sides = [side.dim_value for side in value.type.tensor_type.shape.dim]
        if len(sides) == 4 and all(sides[2:]):
            shapes[value.name] = sides[2:]
    return shapes
