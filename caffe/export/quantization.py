"""INT8 models: ONNX Runtime's static quantization, per channel, with ranges measured on images.

Convolutions and deconvolutions compute with 8-bit weights and activations, and so do the poolings between them. What
stays in float32: the first convolution, which sees the pixels, and decoding and selection. A detector's heads lose
nothing in INT8 (see docs/onnx.md), so they stay in float32 only on request.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from caffe.engine.net import Net
from caffe.errors import CaffeError
from caffe.export.subpixel import deconvolutions_as_convolutions
from caffe.files import replacing

#: operators that have 8-bit kernels and whose neighbors are convolutions
_QUANTIZED = ("Conv", "MaxPool", "Relu")
#: outputs that are computed together in INT8: convolutions with fewer take longer than in float32, and at the beginning of
#: a net, where maps are large, that is most of the time of a narrow net
_BLOCK = 16


def quantize(model: Any, path: str | Path, images: Iterable[NDArray[np.float32]], keep: Sequence[str] = ()) -> int:
    """Writes the ONNX model in INT8 to `path`, whole or not at all. Returns the number of INT8 (de)convolutions.

    images: 1 × C × H × W each; their activations set the ranges. keep: layers that stay in float32, besides the first
    convolution and the narrow ones behind it. `model` is changed. Raises CaffeError for a model with several inputs, or
    without convolutions that could be quantized.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if len(model.graph.input) != 1:
        names = ", ".join(value.name for value in model.graph.input)
        raise CaffeError(f"-int8 needs a net with one input, its images; this one has {names}")
    deconvolutions_as_convolutions(model, keep)
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    # a node's name starts with its layer's
    kept = [name for name in convolutions if name.rpartition("/")[0] in set(keep)] + _first(model)
    if set(convolutions) <= set(kept):
        raise CaffeError(
            "-int8: the net has no convolution besides the first and the kept ones, so nothing to quantize"
        )
    kept += pool_before_relu(model, kept)
    with TemporaryDirectory() as folder, replacing(path) as temporary:
        source = Path(folder) / "float32.onnx"
        source.write_bytes(model.SerializeToString())
        with _quiet():
            quantize_static(
                str(source), str(temporary), _Reader(model.graph.input[0].name, images),
                quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8, op_types_to_quantize=list(_QUANTIZED), nodes_to_exclude=kept,
                calibrate_method=CalibrationMethod.MinMax,
            )  # fmt: skip
        _without_shapes(temporary)
    return len(set(convolutions) - set(kept))


def _without_shapes(path: Path) -> None:
    """Removes the shapes of values that the quantizer has added to a file: they make the model slower.

    With them, ONNX Runtime knows that Softmax may write over its input, which takes twice as long for rows of few
    classes: loads of the next row wait for stores of the last one.
    """
    model = onnx.load(path)
    del model.graph.value_info[:]
    path.write_bytes(model.SerializeToString())


def _first(model: Any) -> list[str]:
    """The first convolution, and those that follow as long as they have few outputs, unless that is all of them."""
    filters = {value.name: value.dims[0] for value in model.graph.initializer if value.dims}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    narrow = list(takewhile(lambda node: filters.get(node.input[1], _BLOCK) < _BLOCK, convolutions[1:]))
    first = convolutions[:1] + (narrow if len(narrow) < len(convolutions) - 1 else [])
    return [node.name for node in first]


def pool_before_relu(model: Any, convolutions: Sequence[str]) -> list[str]:
    """Swaps these convolutions' ReLU with a maximum pooling behind it, which changes no value. Returns the names of both.

    They stay in float32: ONNX Runtime's 8-bit pooling is slow where no 8-bit convolution precedes it, and if nothing
    stood between the pooling and the next quantization, it would pool behind the quantization.
    """
    nodes = {node.name: node for node in model.graph.node}
    outputs = {value.name for value in model.graph.output}
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def only_reader(node: Any, operator: str) -> Any | None:
        value = node.output[0]
        found = readers.get(value, [])
        return found[0] if value not in outputs and [reader.op_type for reader in found] == [operator] else None

    swapped: list[str] = []
    for name in convolutions:
        relu = only_reader(nodes[name], "Relu")
        pooling = only_reader(relu, "MaxPool") if relu is not None else None
        if relu is None or pooling is None or len(pooling.output) > 1:
            continue
        first, second = type(pooling)(), type(relu)()
        first.CopyFrom(pooling)
        second.CopyFrom(relu)
        first.input[0], first.output[0] = relu.input[0], relu.output[0]
        second.input[0], second.output[0] = relu.output[0], pooling.output[0]
        swapped += [first.name, second.name]
        relu.CopyFrom(first)
        pooling.CopyFrom(second)
    return swapped


def prediction_layers(net: Net) -> list[str]:
    """The convolutions whose values only other layers than convolutions read: an SSD's heads, a classifier's last one."""
    read_by_convolutions: set[str] = set()
    for step in reversed(net.steps):
        if step.layer.type_name == "Convolution" or read_by_convolutions.intersection(step.tops):
            read_by_convolutions.update(step.bottoms)
    return [
        step.layer.name
        for step in net.steps
        if step.layer.type_name == "Convolution" and not read_by_convolutions.intersection(step.tops)
    ]


class _Reader:
    """ONNX Runtime's CalibrationDataReader: one image after another."""

    def __init__(self, name: str, images: Iterable[NDArray[np.float32]]) -> None:
        self._name = name
        self._images: Iterator[NDArray[np.float32]] = iter(images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next image as the model's input; None at the end."""
        image = next(self._images, None)
        return None if image is None else {self._name: image}


class _quiet:
    """Holds back the quantizer's advice on preprocessing, which the exported graph does not need."""

    def __enter__(self) -> None:
        self._level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.getLogger().setLevel(self._level)
