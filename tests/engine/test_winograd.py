"""Winograd's convolutions: equal to exact ones, used by the rule, and left out where the rule does not allow them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F

from caffe.engine import winograd
from caffe.engine.layer import ConvolutionWindow
from caffe.engine.net import Net
from caffe.engine.prepack import PackedConvolution, prepack
from caffe.errors import CaffeError
from caffe.ops.winograd import WinogradConvolution, nnpack_function
from tests.narrow import narrow_deploy

PLAIN = ConvolutionWindow((1, 1), (1, 1), (1, 1), 1)
#: Winograd's transforms of 8 × 8 tiles cost about five bits of float32's 24. Of the largest value, errors of a direct
#: convolution are up to 4e-7 and these up to 2.7e-5, the greatest of 150 random convolutions of 64 to 512 channels. On
#: average they are much smaller.
ERROR, MEAN_ERROR = 4e-5, 1e-5
needs_nnpack = pytest.mark.skipif(not nnpack_function(), reason="this PyTorch or processor has no NNPACK")


@pytest.fixture
def any_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that takes all shapes from 4 tiles and 8 channels, so that small nets use the method."""
    monkeypatch.setattr(winograd, "rule", lambda: (4, 8, 8))


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """PyTorch's number of threads during the test."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@needs_nnpack
@pytest.mark.parametrize("threads", [1, 2, 3], indirect=True)
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("side", [(19, 19), (20, 31), (7, 64), (38, 38), (1, 1)])
@pytest.mark.parametrize("channels", [(32, 32), (40, 33), (64, 21), (3, 1), (1, 70), (300, 32)])
def test_equal_to_exact_convolution(
    threads: int, images: int, side: tuple[int, int], channels: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(images, channels[0], *side, generator=generator)
    weight = torch.randn(channels[1], channels[0], 3, 3, generator=generator)
    for bias in (torch.randn(channels[1], generator=generator), None):
        exact = F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), padding=1)
        convolution = WinogradConvolution(x.shape, weight, bias)
        for relu in (False, True):
            expected = exact.relu() if relu else exact
            for _ in range(2):  # the transformed weights are used again
                found = convolution(x, relu).double()
                assert float((found - expected).abs().max() / exact.abs().max()) < ERROR
                assert float((found - expected).norm() / exact.norm()) < MEAN_ERROR


@needs_nnpack
def test_inputs_in_another_order_of_axes_and_views() -> None:
    x, weight = torch.randn(2, 40, 20, 20), torch.randn(33, 40, 3, 3)
    convolution = WinogradConvolution((2, 32, 20, 20), weight[:, 4:36], None)
    part = x[:, 4:36]
    expected = convolution(part.contiguous())
    assert torch.equal(convolution(part), expected)
    assert torch.equal(convolution(part.contiguous(memory_format=torch.channels_last)), expected)


@needs_nnpack
def test_threads_of_python_do_not_share_a_workspace() -> None:
    x, weight = torch.randn(4, 64, 40, 40), torch.randn(64, 64, 3, 3)
    convolution = WinogradConvolution((1, 64, 40, 40), weight, None)
    expected = [convolution(x[i : i + 1]) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = list(pool.map(lambda i: convolution(x[i : i + 1]), range(4)))
            assert all(map(torch.equal, found, expected))


@needs_nnpack
def test_what_does_not_fit_is_refused() -> None:
    weight = torch.randn(16, 16, 3, 3)
    convolution = WinogradConvolution((1, 16, 20, 20), weight, None)
    for wrong in (torch.randn(2, 16, 20, 20), torch.randn(1, 16, 20, 21), torch.randn(1, 16, 20, 20).double()):
        with pytest.raises(ValueError, match="an input"):
            convolution(wrong)
    for shape, other in (((1, 8, 20, 20), weight), ((1, 16, 20, 20), weight[..., :1]), ((16, 20, 20), weight)):
        with pytest.raises(ValueError, match="weights"):
            WinogradConvolution(shape, other, None)
    with pytest.raises(CaffeError, match="NNPACK does not convolve"):
        WinogradConvolution((1, 16, 0, 20), weight, None)


def test_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "rule", lambda: winograd.RULES["AVX2"])
    fits = (1, 64, 38, 38), (64, 64, 3, 3)
    assert winograd.suits(*fits, PLAIN)
    assert not winograd.suits((1, 64, 6, 10), fits[1], PLAIN), "too few tiles"
    assert not winograd.suits((1, 8, 38, 38), (64, 8, 3, 3), PLAIN), "too few channels"
    assert not winograd.suits(fits[0], (24, 64, 3, 3), PLAIN), "too few output channels"
    assert winograd.suits((1, 512, 38, 38), (1024, 512, 3, 3), PLAIN)
    assert not winograd.suits((1, 1024, 38, 38), (1024, 1024, 3, 3), PLAIN), "too much memory"
    assert not winograd.suits(fits[0], (64, 64, 1, 1), PLAIN)
    for other in (
        ConvolutionWindow((2, 2), (1, 1), (1, 1), 1),
        ConvolutionWindow((1, 1), (6, 6), (6, 6), 1),
        ConvolutionWindow((1, 1), (0, 0), (1, 1), 1),
        ConvolutionWindow((1, 1), (1, 1), (1, 1), 2),
    ):
        assert not winograd.suits(*fits, other)
    monkeypatch.setattr(winograd, "rule", lambda: None)
    assert not winograd.suits(*fits, PLAIN), "a processor without a rule"


@needs_nnpack
@torch.no_grad()
@pytest.mark.usefixtures("any_shape")
def test_a_whole_net_predicts_the_same() -> None:
    net, packed = Net(narrow_deploy(), 1), Net(narrow_deploy(), 1)
    packed.load_state_dict(net.state_dict())
    packed.inference_steps = prepack(packed)
    generator = torch.Generator().manual_seed(0)
    seen = ["conv4_3", "fc7", "mbox_loc", "mbox_conf"]
    for images in (1, 2, 1):
        data = torch.randn(images, 3, 300, 300, generator=generator) * 50
        expected, found = net({"data": data}, seen)[1], packed({"data": data}, seen)[1]
        for name in seen:
            scale = float(expected[name].abs().max())
            torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=ERROR * scale)
    layers = [step.layer for step in packed.inference_steps if isinstance(step.layer, PackedConvolution)]
    assert sum(layer.uses_winograd for layer in layers) > 15
    assert not all(layer.uses_winograd for layer in layers)
