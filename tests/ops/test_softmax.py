"""Softmax over few classes: PyTorch's values and gradients, for every shape, axis and memory format."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe.ops import softmax as module
from caffe.ops.softmax import softmax

#: shape and axis; those of a detector, and what has to go to PyTorch
CASES = [
    ((1, 4000, 7), 2), ((3, 500, 2), -1), ((250, 15), 1), ((120, 1), 1), ((2, 3, 4, 5, 6), 4),
    ((1, 400, 21), 2), ((2, 300, 7), 1), ((9, 7), 1), ((7,), 0), ((500,), 0), ((0, 7), 1), ((300, 0), 1),
]  # fmt: skip


def reference(x: np.ndarray, axis: int) -> np.ndarray:
    """Differences in float32, which decide how exact small values can be; the rest in float64."""
    shifted = np.exp((x - x.max(axis=axis, keepdims=True)).astype(np.float64)) if x.size else x
    return np.asarray(shifted / shifted.sum(axis=axis, keepdims=True))


@pytest.mark.parametrize(("shape", "axis"), CASES)
@pytest.mark.parametrize("vector", [8, 16])
def test_values(shape: tuple[int, ...], axis: int, vector: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_floats_in_a_vector", lambda: vector)
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 10, shape).astype(np.float32))
    before = x.clone()
    y = softmax(x, axis)
    assert y.shape == x.shape
    assert y.is_contiguous()
    np.testing.assert_allclose(y.numpy(), reference(x.numpy(), axis), rtol=2e-6, atol=1e-30)
    assert torch.equal(x, before)


def test_extreme_values() -> None:
    """Scores far apart, ties, infinities and NaN: as in PyTorch."""
    row = [
        [0.0, 0.0, 0.0],
        [1e30, -1e30, 0.0],
        [float("-inf"), 1.0, 1.0],
        [float("nan"), 1.0, 2.0],
        [float("inf"), 0, 0],
    ]
    x = torch.tensor(row).repeat(100, 1)
    torch.testing.assert_close(softmax(x, 1), torch.softmax(x, 1), equal_nan=True)


def test_gradient() -> None:
    x = torch.randn(3, 40, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: softmax(x, 2), x)
    leaf, weights = x.detach().float().requires_grad_(), torch.randn(3, 40, 5)
    (expected,) = torch.autograd.grad((torch.softmax(leaf, 2) * weights).sum(), leaf)
    (found,) = torch.autograd.grad((softmax(leaf, 2) * weights).sum(), leaf)
    torch.testing.assert_close(found, expected)


def test_other_memory_orders() -> None:
    """A transposed and a cut-out blob."""
    whole = torch.randn(2, 9, 300)
    for x in (whole.transpose(1, 2), whole.transpose(1, 2)[:, :, 2:6]):
        torch.testing.assert_close(softmax(x, 2), torch.softmax(x, 2))


def test_which_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns, where a row does not fill a vector and there are many; otherwise PyTorch's rows."""
    axes: list[int] = []
    real = torch.softmax

    def spy(x: torch.Tensor, dim: int) -> torch.Tensor:
        axes.append(dim)
        return real(x, dim)

    monkeypatch.setattr(torch, "softmax", spy)
    monkeypatch.setattr(module, "_floats_in_a_vector", lambda: 8)
    for shape in ((100, 7), (99, 7), (100, 8)):
        softmax(torch.zeros(shape), 1)
    assert axes == [0, 1, 1]
