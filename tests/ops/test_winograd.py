"""Winograd's convolutions against the slow reference, with AVX2 and with AVX-512."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from caffe.ops import winograd
from caffe.ops.winograd import TILES, WinogradConvolution
from tests.reference.convolution import convolution as reference

#: By the side of a tile: the largest error and the root of the mean square, as parts of the largest result. Direct
#: convolutions in float32 have about 4e-7 and 5e-8 (benchmarks/cpu_winograd_errors.py).
ERROR = {4: (4e-6, 4e-7), 6: (2e-5, 3e-6)}
pytestmark = pytest.mark.skipif(not winograd.lanes(), reason="this processor has neither AVX2 nor AVX-512")


@pytest.fixture(params=[8, 16], ids=["AVX2", "AVX-512"], autouse=True)
def lanes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The instructions that are used during the test."""
    lanes: int = request.param
    if lanes > winograd.lanes():
        pytest.skip("this processor has no AVX-512")
    monkeypatch.setattr(winograd, "lanes", lambda: lanes)
    return lanes


@pytest.fixture
def set_threads() -> Iterator[None]:
    """PyTorch's number of threads may be changed by the test."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_close(found: Tensor, expected: np.ndarray, tile: int, channels: int) -> None:
    """For inputs and weights with a variance of 1, whose results have one of 9·channels."""
    assert found.shape == expected.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    if expected.size:
        scale = max(float(abs(expected).max()), 3 * channels**0.5)  # a single result may be small by chance
        difference = found.double().numpy() - expected
        assert abs(difference).max() < ERROR[tile][0] * scale
        assert np.sqrt((difference**2).mean()) < ERROR[tile][1] * scale


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("channels", [(1, 1), (3, 17), (8, 32), (20, 33), (70, 21)])
@pytest.mark.parametrize("side", [(1, 1), (1, 7), (5, 5), (13, 17), (24, 12)])
def test_equals_the_reference(side: tuple[int, int], channels: tuple[int, int], tile: int) -> None:
    weight, bias = random(channels[1], channels[0], 3, 3), random(channels[1], seed=1)
    for dilation, pad, added in product((1, 2, 6), (0, 1, 6), (bias, None)):
        if min(side) + 2 * (pad - dilation) < 1:
            continue
        convolution = WinogradConvolution(weight, added, tile, pad, dilation)
        for images in (0, 1, 3):
            x = random(images, channels[0], *side, seed=2)
            expected = reference(x.numpy(), weight.numpy(), None if added is None else added.numpy(), pad, dilation)
            assert_close(convolution(x), expected, tile, channels[0])
            assert_close(convolution(x, relu=True), np.maximum(expected, 0), tile, channels[0])


# Blocks of tiles that threads compute on their own, and larger ones that they share; one block.
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("shape", [(1, 16, 170, 170, 16), (2, 96, 60, 60, 96), (1, 256, 10, 10, 128)])
@pytest.mark.usefixtures("set_threads")
def test_threads_share_the_work_and_change_no_bit(shape: tuple[int, int, int, int, int], tile: int) -> None:
    *input_shape, outputs = shape
    x, weight, bias = random(*input_shape), random(outputs, input_shape[1], 3, 3, seed=1), random(outputs, seed=2)
    torch.set_num_threads(1)
    expected = WinogradConvolution(weight, bias, tile)(x, True)
    assert_close(
        expected, np.maximum(reference(x.numpy(), weight.numpy(), bias.numpy(), 1, 1), 0), tile, input_shape[1]
    )
    for threads in (2, 3, 5):
        torch.set_num_threads(threads)
        assert torch.equal(WinogradConvolution(weight, bias, tile)(x, True), expected)


@pytest.mark.parametrize("tile", TILES)
def test_inputs_in_another_order_of_axes_and_views(tile: int) -> None:
    x, weight = random(2, 40, 20, 22), random(33, 40, 3, 3, seed=1)
    part = x[:, 4:36, ::2]
    expected = WinogradConvolution(weight[:, 4:36].contiguous(), None, tile)(part.contiguous())
    convolution = WinogradConvolution(weight[:, 4:36], None, tile)
    for same in (part, part.contiguous(memory_format=torch.channels_last), part.mT.contiguous().mT):
        assert torch.equal(convolution(same), expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("tile", TILES)
def test_numbers_that_are_not_finite_reach_their_tiles_and_no_others(tile: int, bad: float) -> None:
    x, convolution = random(2, 20, 26, 26), WinogradConvolution(random(18, 20, 3, 3, seed=1), None, tile)
    expected = convolution(x)
    row, column = 13, 2 * tile  # the column is an input of two tiles, as the first pixel of one
    x[1, 7, row, column] = bad
    found = convolution(x)
    reached = torch.zeros(26, 26, dtype=torch.bool)
    rows, columns = ({(at + d) // tile for d in (-1, 0, 1)} for at in (row, column))
    for i, j in product(rows, columns):
        reached[i * tile : (i + 1) * tile, j * tile : (j + 1) * tile] = True
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1][:, ~reached], expected[1][:, ~reached])
    filtered = slice(row - 1, row + 2), slice(column - 1, column + 2)
    assert not found[1][:, *filtered].isfinite().any(), "where a direct convolution is not finite"


def test_relu_keeps_nan() -> None:
    x = random(1, 8, 6, 6)
    x[0, 0, 2, 2] = float("nan")
    assert WinogradConvolution(random(8, 8, 3, 3, seed=1), None, 6)(x, relu=True).isnan().all()


def test_threads_of_python_do_not_share_a_workspace() -> None:
    x, convolution = random(4, 64, 40, 40), WinogradConvolution(random(64, 64, 3, 3, seed=1), None, 6)
    expected = [convolution(x[i : i + 1]) for i in range(4)]
    assert torch.equal(convolution(x), torch.cat(expected)), "results do not depend on the other images"
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = list(pool.map(lambda i: convolution(x[i : i + 1]), range(4)))
            assert all(map(torch.equal, found, expected))


def test_later_changes_of_the_weights_do_not_count() -> None:
    x, weight, bias = random(1, 8, 6, 6), random(8, 8, 3, 3, seed=1), random(8)
    convolution = WinogradConvolution(weight, bias, 4)
    expected = convolution(x)
    weight.zero_()
    bias.zero_()
    assert torch.equal(convolution(x), expected)


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, bias = random(16, 8, 3, 3), random(16)
    convolution = WinogradConvolution(weight, bias, 6, pad=0)
    for wrong in (random(1, 9, 20, 20), random(8, 20, 20), random(1, 8, 20, 20).double()):
        with pytest.raises(ValueError, match="an input"):
            convolution(wrong)
    with pytest.raises(ValueError, match="smaller than the filters"):
        convolution(random(1, 8, 2, 5))
    for other in (weight[..., :1], weight[0], weight.double(), weight[:0], weight[:, :0]):
        with pytest.raises(ValueError, match="weights"):
            WinogradConvolution(other, None, 6)
    for other in (bias[:3], bias.double(), bias[None]):
        with pytest.raises(ValueError, match="bias"):
            WinogradConvolution(weight, other, 6)
    for tile, pad, dilation in ((5, 1, 1), (6, -1, 1), (6, 1, 0)):
        with pytest.raises(ValueError, match="tile"):
            WinogradConvolution(weight, bias, tile, pad, dilation)
    monkeypatch.setattr(winograd, "lanes", lambda: 0)
    with pytest.raises(ValueError, match="neither AVX2"):
        WinogradConvolution(weight, bias, 6)


def test_as_an_operator() -> None:
    weights = torch.empty(winograd.weight_floats(18, 20, 4)).normal_()
    for relu in (False, True):
        torch.library.opcheck(
            torch.ops.caffe.winograd_convolution.default,
            (random(2, 20, 9, 7), weights, random(18), 4, 0, 2, relu),
            test_utils=("test_schema", "test_faketensor"),
        )
