"""Deconvolutions as convolutions with more channels: the same values, and 8-bit kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.export.runs import net_of, run

# without onnx, the lines above skip this module
# isort: split
from typing import Any

import onnx

from caffe.export.onnx_model import onnx_model
from caffe.export.quantization import quantize
from caffe.export.subpixel import deconvolutions_as_convolutions, split_kernel

NORMAL = 'weight_filler { type: "gaussian" std: 1 } bias_filler { type: "uniform" min: -1 max: 1 }'


def inputs(names: str = "x", channels: int = 4) -> str:
    return "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ '
        f"shape {{ dim: 2 dim: {channels} dim: 5 dim: 7 }} }} }}"
        for name in names
    )


def deconvolution(parameters: str, bottoms: str = "x", tops: str = "y") -> str:
    wires = "".join(f'bottom: "{name}" ' for name in bottoms) + "".join(f'top: "{name}" ' for name in tops)
    return f'layer {{ name: "up" type: "Deconvolution" {wires} convolution_param {{ {parameters} {NORMAL} }} }}'


def operators(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize(
    "window",
    [
        "kernel_size: 2 stride: 2",
        "kernel_size: 3 stride: 2 pad: 1",
        "kernel_size: 4 stride: 2 pad: 1",
        "kernel_size: 5 stride: 3",
        "kernel_size: 3 stride: 3 pad: 1 bias_term: false",
        "kernel_size: 2 stride: 3",  # pixels between the windows that see only the bias
        "kernel_size: 1 stride: 2",
        "kernel_size: 3 pad: 2",
        "kernel_h: 3 kernel_w: 4 stride_h: 1 stride_w: 2 pad_h: 1 pad_w: 0",
        "kernel_size: 2 stride: 2 pad: 4",
    ],
)
def test_the_same_values(window: str) -> None:
    model = onnx_model(net_of(inputs() + deconvolution(f"num_output: 3 {window}")))
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 7)).astype(np.float32)
    (expected,) = run(model, x=x).values()
    assert deconvolutions_as_convolutions(model) == 1
    assert "ConvTranspose" not in operators(model)
    onnx.checker.check_model(model, full_check=True)
    for batch in (x, x[:1]):
        (value,) = run(model, x=batch).values()
        np.testing.assert_allclose(value, expected[: len(batch)], rtol=1e-5, atol=1e-5)


def test_the_parts_of_a_kernel() -> None:
    """Along one axis, stride 2: even outputs are x[t] k[0] + x[t-1] k[2], odd ones x[t] k[1]."""
    kernel = np.arange(1, 4, dtype=np.float32).reshape(1, 1, 1, 3)
    np.testing.assert_array_equal(split_kernel(kernel, (1, 2)).reshape(2, 2), [[3, 1], [0, 2]])


def test_a_layer_with_two_bottoms() -> None:
    model = onnx_model(net_of(inputs("ab") + deconvolution("num_output: 3 kernel_size: 2 stride: 2", "ab", "yz")))
    a, b = np.random.default_rng(0).normal(size=(2, 2, 4, 5, 7)).astype(np.float32)
    expected = run(model, a=a, b=b)
    assert deconvolutions_as_convolutions(model) == 2
    onnx.checker.check_model(model, full_check=True)
    for name, value in run(model, a=a, b=b).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("parameters", ["group: 2", "dilation: 2"])
def test_grouped_and_dilated_ones_stay(parameters: str) -> None:
    model = onnx_model(net_of(inputs() + deconvolution(f"num_output: 4 kernel_size: 2 stride: 2 {parameters}")))
    before = model.SerializeToString()
    assert deconvolutions_as_convolutions(model) == 0
    assert model.SerializeToString() == before


def test_kept_layers_and_other_numbers_of_axes_stay() -> None:
    two = onnx_model(net_of(inputs() + deconvolution("num_output: 4 kernel_size: 2 stride: 2")))
    assert deconvolutions_as_convolutions(two, ["up"]) == 0
    one = net_of(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 4 dim: 5 } } }'
        + deconvolution("num_output: 4 kernel_size: 2 stride: 2")
    )
    assert deconvolutions_as_convolutions(onnx_model(one)) == 0


def test_in_8_bits(tmp_path: Path) -> None:
    """Both layers compute in 8 bits, close to float32; no shapes are left that make a Softmax write over its input."""
    net = net_of(
        inputs()
        + 'layer { name: "c" type: "Convolution" bottom: "x" top: "c" '
        + f"convolution_param {{ num_output: 8 kernel_size: 1 {NORMAL} }} }}"
        + deconvolution("num_output: 4 kernel_size: 3 stride: 2 pad: 1", "c")
        + 'layer { name: "s" type: "Softmax" bottom: "y" top: "s" softmax_param { axis: 3 } }'
    )
    model = onnx_model(net)
    images = list(np.random.default_rng(0).normal(size=(8, 1, 4, 5, 7)).astype(np.float32))
    expected = [run(model, x=image)["s"] for image in images]
    assert quantize(model, tmp_path / "int8.onnx", images) == 1
    quantized = onnx.load(tmp_path / "int8.onnx")
    assert "ConvTranspose" not in operators(quantized)
    assert not quantized.graph.value_info
    for image, other in zip(images, expected, strict=True):
        np.testing.assert_allclose(run(quantized, x=image)["s"], other, atol=0.1)
