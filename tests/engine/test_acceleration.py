"""Precision and compilation: how far bfloat16 is from float32, and that a net is one graph without breaks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from caffe.engine import acceleration
from caffe.engine.net import Net
from caffe.errors import CaffeError
from tests.narrow import narrow_deploy, narrow_train


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    acceleration.use()


def training_batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    label = torch.zeros(1, 1, 6, 8)
    label[0, 0, :, 0] = torch.tensor([0, 0, 0, 1, 1, 1])
    label[0, 0, :, 1] = torch.tensor([1, 2, 3, 4, 1, 2])
    label[0, 0, :, 3:5] = torch.rand(6, 2, generator=generator) * 0.6
    label[0, 0, :, 5:7] = label[0, 0, :, 3:5] + 0.05 + torch.rand(6, 2, generator=generator) * 0.3
    return {"data": torch.randn(2, 3, 300, 300, generator=generator) * 50, "label": label}


def loss_and_gradients(net: Net) -> tuple[float, list[Tensor]]:
    loss, _ = net(training_batch())
    return float(loss.detach()), list(torch.autograd.grad(loss, net.learnable_params))


def test_bf16_is_near_float32_and_what_is_delicate_stays_float32() -> None:
    net = Net(narrow_train(), 0)
    expected, gradients = loss_and_gradients(net)
    acceleration.use("bf16")
    _, blobs = net(training_batch(), keep=["conv4_3", "mbox_priorbox", "mbox_loss"])
    assert blobs["conv4_3"].dtype == torch.bfloat16, "bf16 is not on"
    assert blobs["mbox_priorbox"].dtype == blobs["mbox_loss"].dtype == torch.float32
    found, rounded = loss_and_gradients(net)
    # 8 bits of mantissa, some twenty layers deep: a per cent or so of the loss, some per cent of the gradients
    assert found == pytest.approx(expected, rel=0.02)
    assert found != expected
    assert all(g.dtype == torch.float32 for g in rounded)
    whole, difference = (
        torch.cat([t.flatten() for t in each]).norm()
        for each in (gradients, [a - b for a, b in zip(gradients, rounded, strict=True)])
    )
    assert float(difference / whole) < 0.15


def test_fp32_is_the_default_and_allows_no_rounding() -> None:
    acceleration.use("tf32")
    assert torch.backends.cudnn.allow_tf32
    acceleration.use()
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    with pytest.raises(CaffeError, match="unknown precision 'fp16'; known: fp32, tf32, bf16"):
        acceleration.use("fp16")


def one_graph(net: Net) -> Any:
    """The net's pass compiled without breaks; aot_eager traces forward and backward as the default backend does."""
    torch._dynamo.reset()
    return torch.compile(net._run_graph, fullgraph=True, dynamic=False, backend="aot_eager")


def test_training_is_one_graph_with_the_same_numbers() -> None:
    net = Net(narrow_train(), 0)
    expected, gradients = loss_and_gradients(net)
    net._graph = one_graph(net)
    found, compiled = loss_and_gradients(net)
    assert found == pytest.approx(expected, rel=1e-5)
    for a, b in zip(compiled, gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_detection_is_one_graph_with_the_same_numbers() -> None:
    net = Net(narrow_deploy(), 1)
    detection = net.steps[-1].layer
    detection.static_shape = True  # trimmed, its size depends on values
    batch = {"data": training_batch()["data"][:1]}
    expected = net(batch)[1]["detection_out"]
    net._graph = one_graph(net)
    torch.testing.assert_close(net(batch)[1]["detection_out"], expected, rtol=1e-5, atol=1e-5)
