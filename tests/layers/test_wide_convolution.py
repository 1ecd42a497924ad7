"""Strided convolutions over so many channels that they are computed in parts, since oneDNN crashes otherwise."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from caffe.engine.layer_types import convolution
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
    monkeypatch.setattr(convolution, "_MOST_SUMMED", 9)
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
