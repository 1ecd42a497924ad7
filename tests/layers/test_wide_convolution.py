"""Strided convolutions with which oneDNN crashes: over many channels, in parts; with far strides, without it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from caffe.engine.layer_types import convolution, onednn_limits
from tests.layer_harness import make_layer


@pytest.mark.parametrize("bias", ["true", "false"])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("type_name", ["Convolution", "Deconvolution"])
def test_parts_give_the_whole(monkeypatch: pytest.MonkeyPatch, type_name: str, group: int, bias: str) -> None:
    text = f"num_output: 10 kernel_size: 3 stride: 2 pad: 1 group: {group} bias_term: {bias}"
    layer = make_layer(type_name, f"convolution_param {{ {text} }}", [(2, 14, 5, 6)])
    for blob in layer.blobs:
        torch.nn.init.normal_(blob)
    x = torch.randn(2, 14, 5, 6, requires_grad=True)

    def results() -> list[torch.Tensor]:
        y = layer.forward(x)
        assert isinstance(y, torch.Tensor)
        return [y, *torch.autograd.grad(y.square().sum(), [x, *layer.blobs])]

    whole = results()
    parts: list[object] = []
    monkeypatch.setattr(onednn_limits, "_MOST_SUMMED", 9)
    assert isinstance(layer, convolution.Convolution | convolution.Deconvolution)
    operations = type(layer).operations

    def counted(*given: Any) -> Any:
        parts.append(given[0])
        return operations[1](*given)

    monkeypatch.setattr(type(layer), "operations", (None, counted))
    for found, expected in zip(results(), whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert len(parts) > group


def test_many_channels_do_not_crash() -> None:
    layer = make_layer(
        "Deconvolution", "convolution_param { num_output: 2 kernel_size: 3 stride: 2 }", [(1, 20_000, 5)]
    )
    torch.nn.init.constant_(layer.blobs[0], 1)
    y = layer.forward(torch.ones(1, 20_000, 5))
    assert isinstance(y, torch.Tensor)
    assert y[0, 0].tolist() == [20_000, 20_000, *[40_000, 20_000] * 4, 20_000]

    layer = make_layer(
        "Convolution", "convolution_param { num_output: 20000 kernel_h: 1 kernel_w: 3 stride: 2 }", [(2, 2, 1, 11)]
    )
    torch.nn.init.constant_(layer.blobs[0], 1)
    x = torch.ones(2, 2, 1, 11, requires_grad=True)
    y = layer.forward(x)
    assert isinstance(y, torch.Tensor)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient[1, 1, 0].tolist() == [20_000, 20_000, *[40_000, 20_000] * 4, 20_000]


@pytest.mark.parametrize("bias", ["true", "false"])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("shape", [(2, 4, 9), (2, 4, 5, 6), (2, 4, 5, 5, 5)])
@pytest.mark.parametrize("type_name", ["Convolution", "Deconvolution"])
def test_without_onednn(
    monkeypatch: pytest.MonkeyPatch, type_name: str, shape: tuple[int, ...], group: int, bias: str
) -> None:
    """The same values and gradients, for one to three spatial axes."""
    text = f"num_output: 6 kernel_size: 3 stride: 2 pad: 1 group: {group} bias_term: {bias}"
    layer = make_layer(type_name, f"convolution_param {{ {text} }}", [shape])
    for blob in layer.blobs:
        torch.nn.init.normal_(blob)
    x = torch.randn(shape, requires_grad=True)

    def results() -> list[torch.Tensor]:
        y = layer.forward(x)
        assert isinstance(y, torch.Tensor)
        return [y, *torch.autograd.grad(y.square().sum(), [x, *layer.blobs])]

    expected = results()
    assert not used_without_onednn(expected[0])
    monkeypatch.setattr(onednn_limits, "_MOST_STRIDE", 1)
    found = results()
    assert used_without_onednn(found[0])
    for value, other in zip(found, expected, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-4)


def used_without_onednn(y: torch.Tensor) -> bool:
    return "WithoutOneDnn" in type(y.grad_fn).__name__


@pytest.mark.parametrize(("type_name", "channels", "stride"), [
    ("Deconvolution", 2, 16_384), ("Deconvolution", 64, 4096), ("Deconvolution", 1024, 1024), ("Deconvolution", 8192, 127),
    ("Convolution", 2, 16_384), ("Convolution", 1024, 1024),
])  # fmt: skip
def test_far_strides_do_not_crash(type_name: str, channels: int, stride: int) -> None:
    """channels: those that the transposed convolution writes."""
    up = type_name == "Deconvolution"
    shape = (2, 4 if up else channels, 1, 5 if up else 4 * stride + 1)
    outputs = channels if up else 4
    text = f"num_output: {outputs} kernel_size: 1 stride_h: 1 stride_w: {stride}"
    layer = make_layer(type_name, f"convolution_param {{ {text} }}", [shape])
    torch.nn.init.constant_(layer.blobs[0], 1)
    x = torch.ones(shape, requires_grad=True)
    y = layer.forward(x)
    assert isinstance(y, torch.Tensor)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    written = y.detach() if up else gradient
    assert written.sum().item() == pytest.approx(4 * 5 * 2 * channels)
    assert bool((written[..., ::stride] == 4).all())


@pytest.mark.parametrize("type_name", ["Convolution", "Deconvolution"])
def test_far_strides_at_bf16(type_name: str) -> None:
    layer = make_layer(type_name, "convolution_param { num_output: 3 kernel_size: 1 stride: 200 }", [(2, 4, 5)])
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(2, 4, 5).to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = layer.forward(x)
        assert isinstance(y, torch.Tensor)
        (gradient,) = torch.autograd.grad(y.float().sum(), x)
        assert bool(gradient.isfinite().all())
