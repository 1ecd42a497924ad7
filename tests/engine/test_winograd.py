"""The rule by which convolutions of a net use Winograd's method, and whole nets that use it."""

from __future__ import annotations

import pytest
import torch

from caffe.engine import winograd
from caffe.engine.layer import ConvolutionWindow
from caffe.engine.net import Net
from caffe.engine.prepack import PackedConvolution, prepack
from caffe.ops import winograd as ops
from prototxt_gen.mdssd300 import MDSSD300
from prototxt_gen.network import Network
from prototxt_gen.ssd300 import SSD300
from tests.narrow import narrow_deploy

PLAIN = ConvolutionWindow((1, 1), (1, 1), (1, 1), 1)


def tile(channels: int, side: int, outputs: int, window: ConvolutionWindow = PLAIN, images: int = 1) -> int | None:
    return winograd.tile_for((images, channels, side, side), (outputs, channels, 3, 3), window)


@pytest.mark.parametrize("lanes", [8, 16], ids=["AVX2", "AVX-512"])
def test_the_rule(lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if lanes > ops.lanes():
        pytest.skip("this processor has not these instructions")
    monkeypatch.setattr(ops, "lanes", lambda: lanes)
    # SSD300's layers
    assert [tile(64, 300, 64), tile(256, 75, 256), tile(256, 38, 512)] == [6, 6, 6]
    assert tile(512, 38, 512) == 4, "tiles of 6 x 6 would take too much memory"
    assert tile(512, 19, 512) == 4, "tiles of 6 x 6 would reach over the edge"
    assert tile(3, 300, 64) is None, "too few channels for the cost of the transforms"
    assert tile(512, 3, 512) is None, "too few tiles for the size of the weights"
    assert [tile(64, 75, 64, images=8), tile(512, 19, 512, images=8), tile(512, 3, 512, images=8)] == [6, 4, None]
    assert tile(512, 19, 1024, ConvolutionWindow((1, 1), (6, 6), (6, 6), 1)) == 4, "fc6, which is dilated"
    assert tile(1024, 19, 1024) == 4, "in MDSSD300"
    assert tile(2048, 38, 2048) is None, "too much memory"
    assert winograd.tile_for((1, 64, 38, 38), (64, 64, 1, 1), PLAIN) is None
    for window in (
        ConvolutionWindow((2, 2), (1, 1), (1, 1), 1),
        ConvolutionWindow((1, 1), (1, 0), (1, 1), 1),
        ConvolutionWindow((1, 1), (1, 1), (1, 2), 1),
        ConvolutionWindow((1, 1), (1, 1), (1, 1), 2),
    ):
        assert tile(64, 38, 64, window) is None
    monkeypatch.setattr(ops, "lanes", lambda: 0)
    assert tile(64, 300, 64) is None, "a processor without the instructions"


@pytest.mark.skipif(not ops.lanes(), reason="this processor has neither AVX2 nor AVX-512")
@pytest.mark.parametrize("network", [MDSSD300, SSD300], ids=["MDSSD300", "SSD300"])
@torch.no_grad()
def test_whole_nets_predict_the_same(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where narrow nets use the method for all convolutions that it can compute, and with both sizes of tiles."""
    monkeypatch.setattr(winograd, "TRANSFORM", 0)
    monkeypatch.setattr(winograd, "WEIGHT", 0)
    net, packed = Net(narrow_deploy(network), 1), Net(narrow_deploy(network), 1)
    packed.load_state_dict(net.state_dict())
    packed.inference_steps = prepack(packed)
    layers = [step.layer for step in packed.inference_steps if isinstance(step.layer, PackedConvolution)]
    generator = torch.Generator().manual_seed(0)
    seen = ["conv4_3", "fc7", "mbox_loc", "mbox_conf"]
    for images in (1, 2, 1):
        data = torch.randn(images, 3, 300, 300, generator=generator) * 50
        expected, found = net({"data": data}, seen)[1], packed({"data": data}, seen)[1]
        for name in seen:
            scale = float(expected[name].abs().max())
            torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=4e-5 * scale)
        tiles = [layer.tile for layer in layers]
        assert tiles.count(4) > 3
        assert tiles.count(6) > 10
        assert tiles.count(None) > 5, "those with stride 2 or 1 x 1 filters"
