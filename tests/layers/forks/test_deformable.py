"""Deformable convolutions where the general tests do not reach: kinks, edges, and offsets that are not numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe.engine.layer import Layer
from tests.layer_harness import gradients, make_layer, run, spread_out
from tests.layers.forks.cases_deformable import FIELD, MODULATED, PLAIN
from tests.reference import deformable

KINDS = pytest.mark.parametrize("kind", [PLAIN, MODULATED])


def layer_of(kind: str, text: str, images: int, groups: int = 1) -> Layer:
    """3 × 3 taps with padding 1, on 4 channels of 4 × 5."""
    shapes = [(images, 4, 4, 5), (images, groups * 18, 4, 5), (images, groups * 9, 4, 5)][: 2 + (kind == MODULATED)]
    return spread_out(make_layer(kind, f"{FIELD[kind]} {{ num_output: 2 kernel_size: 3 pad: 1 {text} }}", shapes))


def bottoms_of(rng: np.random.Generator, kind: str, images: int, groups: int, offsets: np.ndarray) -> list[np.ndarray]:
    given = [rng.normal(size=(images, 4, 4, 5)), offsets, rng.normal(size=(images, groups * 9, 4, 5))]
    return given[: 2 + (kind == MODULATED)]


@KINDS
def test_without_offsets_it_is_a_convolution(kind: str) -> None:
    rng = np.random.default_rng(0)
    layer = layer_of(kind, "dilation: 1 deformable_group: 2", 3, groups=2)
    bottoms = bottoms_of(rng, kind, 3, 2, np.zeros((3, 36, 4, 5)))
    if kind == MODULATED:
        bottoms[2] = np.ones_like(bottoms[2])
    (top,) = run(layer, *map(torch.from_numpy, bottoms))
    expected = torch.nn.functional.conv2d(torch.from_numpy(bottoms[0]), layer.blobs[0], layer.blobs[1], padding=1)
    torch.testing.assert_close(top, expected)


@KINDS
@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_at_whole_pixels_are_those_of_the_forks(kind: str, groups: int) -> None:
    """Where a net begins to learn: taps are on pixels, at the edges, one pixel outside, and just at the end."""
    rng = np.random.default_rng(1)
    layer = layer_of(kind, f"deformable_group: {groups}", 2, groups)
    for scale in (0, 1.5):
        offsets = np.round(rng.normal(scale=scale, size=(2, groups * 18, 4, 5)))
        offsets += rng.choice([0, 0, 0.5], offsets.shape) if scale else 0
        bottoms = bottoms_of(rng, kind, 2, groups, offsets)
        diff = rng.normal(size=(2, 2, 4, 5))
        found = gradients(layer, bottoms, diff)
        expected = deformable.gradients(layer.param, bottoms, layer.blobs[0].detach().numpy(), diff)
        for ours, theirs in zip(found, expected, strict=True):
            assert np.abs(theirs).max() > 0
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "at", "value"),
    [
        (PLAIN, -0.001, 0), (PLAIN, 0, 2), (PLAIN, 2.25, 9), (PLAIN, 2.999, 9), (PLAIN, 3, 0),
        (MODULATED, -1, 0), (MODULATED, -0.5, 1), (MODULATED, 0, 2), (MODULATED, 2.25, 6.75), (MODULATED, 3, 0),
        (PLAIN, float("nan"), 0), (MODULATED, float("-inf"), 0), (MODULATED, 1e30, 0),
    ],
)  # fmt: skip
def test_edges(kind: str, at: float, value: float) -> None:
    """A column of 2, 5 and 9, read at one place."""
    shapes = [(1, 1, 3, 1), (1, 2, 3, 1), (1, 1, 3, 1)][: 2 + (kind == MODULATED)]
    layer = make_layer(kind, f"{FIELD[kind]} {{ num_output: 1 kernel_size: 1 bias_term: false }}", shapes).double()
    layer.blobs[0].data.fill_(1)
    offsets = torch.zeros(shapes[1], dtype=torch.float64)
    offsets[0, 0, 0] = at
    column = torch.tensor([2.0, 5, 9], dtype=torch.float64).reshape(1, 1, 3, 1).requires_grad_()
    (top,) = run(layer, column, offsets.requires_grad_(), *[torch.ones_like(column)] * (len(shapes) - 2))
    assert top.flatten().tolist() == pytest.approx([value, 5, 9])
    top.sum().backward()
    assert column.grad is not None
    assert offsets.grad is not None
    assert torch.isfinite(column.grad).all()
    assert torch.isfinite(offsets.grad).all()


def test_both_numbers_of_groups_that_forks_have_by_default() -> None:
    text = f"{FIELD[PLAIN]} {{ num_output: 1 kernel_size: 1 }}"
    for groups in (1, 4):
        layer = make_layer(PLAIN, text, [(1, 8, 2, 2), (1, 2 * groups, 2, 2)])
        assert layer.deformable_group == groups


@KINDS
def test_it_traces_without_a_break(kind: str) -> None:
    rng = np.random.default_rng(2)
    layer = layer_of(kind, "deformable_group: 1", 1)
    bottoms = [torch.from_numpy(b) for b in bottoms_of(rng, kind, 1, 1, rng.normal(size=(1, 18, 4, 5)))]
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="eager", fullgraph=True, dynamic=False)(*bottoms)
    torch.testing.assert_close(compiled, run(layer, *bottoms)[0])
    assert layer.graph_obstacle() is None
