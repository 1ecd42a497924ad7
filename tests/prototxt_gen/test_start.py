"""The initial weights that --start_from writes compute what the trained SSD computes; wrong files are reported."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest
import torch
from torch import Tensor

from caffe.engine.layer import TEST, Layer
from caffe.engine.net import Net
from caffe.engine.weights import copy_trained_from, save
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from caffe.proto.weights import read_weights
from prototxt_gen import command_line, feature_length
from prototxt_gen.command_line import main
from prototxt_gen.feature_length import mean_lengths
from prototxt_gen.layers import Width
from prototxt_gen.mdssd300 import MDSSD300
from prototxt_gen.mdssd512 import MDSSD512
from prototxt_gen.multibox_head import Source
from prototxt_gen.network import Network, deploy_net
from prototxt_gen.settings import Settings
from prototxt_gen.ssd300 import SSD300
from prototxt_gen.ssd512 import SSD512
from prototxt_gen.start import start_from
from prototxt_gen.vgg import VGGNetwork
from tests.narrow import CLASSES, narrow_settings
from tests.prototxt_gen.sources import ROOT

DEMO_SSD = ROOT / "demo" / "pretrain" / "ssd300_narrow.caffemodel"
SIXTEENTH = narrow_settings(1)


@pytest.fixture(autouse=True)
def _few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_length, "IMAGES", 2)


def layers_of(net: Net) -> dict[str, Layer]:
    return {step.layer.name: step.layer for step in net.steps}


def trained_ssd(path: Path, network: Network = SSD300, settings: Settings = SIXTEENTH) -> Net:
    """Writes an SSD with distinct weights, including a norm with a negative scale, to `path`."""
    net = Net(deploy_net(network, settings), TEST)
    with torch.no_grad():
        for parameter in net.learnable_params:
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
        scale = layers_of(net)["conv4_3_norm"].blobs[0]
        scale.mul_(torch.linspace(0.3, 1.5, scale.numel()))
        scale[1] *= -1
    save(net, path)
    return net


def predictions(net: Net, heads: list[str], size: int, images: Tensor | None = None) -> dict[str, Tensor]:
    if images is None:
        images = torch.from_numpy(np.random.default_rng(1).uniform(-110, 140, (1, 3, size, size)).astype(np.float32))
    with torch.no_grad():
        blobs: dict[str, Tensor] = net({"data": images}, keep=heads)[1]
    return blobs


def both(name: str) -> list[str]:
    return [f"{name}_mbox_loc", f"{name}_mbox_conf"]


@pytest.mark.parametrize(
    ("mdssd", "ssd", "width"),
    [
        (MDSSD300, SSD300, Fraction(1, 16)),
        (MDSSD300, SSD300, Fraction(3, 16)),
        (MDSSD300, SSD300, Fraction(1)),
        (MDSSD512, SSD512, Fraction(1, 16)),
        (MDSSD512, SSD512, Fraction(1, 8)),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_with_the_deep_side_at_0_module_2_predicts_what_ssd_predicts(
    mdssd: VGGNetwork, ssd: VGGNetwork, width: Fraction, tmp_path: Path
) -> None:
    settings = replace(SIXTEENTH, width=Width(width))
    trained = trained_ssd(tmp_path / "ssd.caffemodel", ssd, settings)
    net = start_from(tmp_path / "ssd.caffemodel", mdssd, settings, deep_share=0).net
    same = [name for source in ssd.sources[2:] for name in both(source.name)]
    expected = predictions(trained, [*both("conv4_3_norm"), *same], ssd.size)
    found = predictions(net, [*both("module2"), *same], ssd.size)
    for what in ("loc", "conf"):
        wanted = expected[f"conv4_3_norm_mbox_{what}"]
        assert wanted.abs().mean() > 0.1
        np.testing.assert_allclose(found[f"module2_mbox_{what}"], wanted, atol=1e-5, rtol=1e-5)
    for name in same:
        assert torch.equal(found[name], expected[name])


def test_without_the_deep_side_a_net_computes_what_it_does_with_the_deep_side_at_0(tmp_path: Path) -> None:
    trained_ssd(tmp_path / "ssd.caffemodel")
    heads = [name for source in MDSSD300.sources for name in both(source.blob)]
    whole = start_from(tmp_path / "ssd.caffemodel", MDSSD300, SIXTEENTH, deep_share=0).net
    save(whole, tmp_path / "whole.caffemodel")
    shallow = start_from(tmp_path / "ssd.caffemodel", MDSSD300.without_deep_sides(), SIXTEENTH).net
    assert not any("deep" in name or "deconv" in name for name in layers_of(shallow))
    # random numbers are drawn in the order of the layers, so new heads differ
    copy_trained_from(shallow, tmp_path / "whole.caffemodel")
    expected, found = predictions(whole, heads, 300), predictions(shallow, heads, 300)
    for name in heads:
        assert torch.equal(found[name], expected[name])


def test_module_3_comes_near_to_ssd_and_module_1_says_background(tmp_path: Path) -> None:
    settings = replace(SIXTEENTH, width=Width(Fraction(1, 8)), num_classes=7)
    trained = Net(deploy_net(SSD300, settings), TEST)
    copy_trained_from(trained, DEMO_SSD)
    photograph = cv2.GaussianBlur(np.random.default_rng(3).normal(0, 900, (300, 300, 3)), (0, 0), 9)
    data = torch.from_numpy(photograph.astype(np.float32)).permute(2, 0, 1)[None].contiguous()
    expected = predictions(trained, both("fc7"), 300, data)
    net = start_from(DEMO_SSD, MDSSD300, settings).net
    found = predictions(net, [*both("module3"), *both("module1")], 300, data)
    for what in ("loc", "conf"):
        difference = (found[f"module3_mbox_{what}"] - expected[f"fc7_mbox_{what}"]).abs().mean()
        assert difference < 0.25 * expected[f"fc7_mbox_{what}"].abs().mean()
    scores = found["module1_mbox_conf"].permute(0, 2, 3, 1).reshape(-1, 7).softmax(1)
    assert scores[:, 0].min() > 0.9
    assert abs(float(scores[:, 0].mean()) - 0.99) < 0.005


def test_what_the_layers_hold(tmp_path: Path) -> None:
    trained = layers_of(trained_ssd(tmp_path / "ssd.caffemodel"))
    start = start_from(tmp_path / "ssd.caffemodel", MDSSD300, SIXTEENTH)
    layers = layers_of(start.net)
    for module, channels in (("module1", 16), ("module2", 32), ("module3", 64)):
        for name in (module, f"{module}_shallow"):
            weight, bias = layers[name].blobs
            assert torch.equal(weight[:, :, 1, 1], torch.eye(channels))
            assert weight.sum() == channels
            assert not bias.any()
        # a twentieth of 20 · sqrt(1/16)
        assert torch.allclose(layers[f"{module}_deep_norm"].blobs[0], torch.tensor(0.25))
    assert torch.equal(layers["module1_shallow_norm"].blobs[0], torch.full((16,), 5.0))
    norm = trained["conv4_3_norm"].blobs[0]
    assert norm[1] < 0
    assert torch.equal(layers["module2_shallow_norm"].blobs[0], norm.abs())
    assert len(set(layers["module3_shallow_norm"].blobs[0].tolist())) == 1
    assert layers["module1_conv1"].blobs[0].std() > 0.01
    for name in trained:
        if name in layers:
            for mine, theirs in zip(layers[name].blobs, trained[name].blobs, strict=True):
                assert torch.equal(mine, theirs), name
    assert all(parameter.requires_grad for parameter in start.net.learnable_params)


def test_same_seed_same_start(tmp_path: Path) -> None:
    trained_ssd(tmp_path / "ssd.caffemodel")
    torch.manual_seed(5)
    state = torch.get_rng_state()
    starts = [
        start_from(tmp_path / "ssd.caffemodel", MDSSD300, replace(SIXTEENTH, random_seed=seed)).net
        for seed in (1, 1, 2)
    ]
    assert torch.equal(state, torch.get_rng_state())
    one, again, other = (list(net.learnable_params) for net in starts)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_mean_length_is_of_the_training_images(tmp_path: Path) -> None:
    """Records may have any size and be gray; the length is that of fc7 over all positions and images."""
    trained = trained_ssd(tmp_path / "ssd.caffemodel")
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 256, (300, 300, 3), np.uint8), rng.integers(0, 256, (300, 300, 1), np.uint8)]
    with lmdb.open(str(tmp_path / "lmdb")) as environment, environment.begin(write=True) as transaction:
        for index, image in enumerate(images):
            record: Any = caffe_pb2.AnnotatedDatum()
            record.datum.height, record.datum.width, record.datum.channels = image.shape
            record.datum.data = cv2.imencode(".png", image)[1].tobytes()
            record.datum.encoded = True
            transaction.put(f"{index:08d}".encode(), record.SerializeToString())
    settings = replace(SIXTEENTH, train_lmdb=str(tmp_path / "lmdb"))
    lengths, described = mean_lengths(trained, ["fc7", "conv4_3"], 300, settings)
    pixels = np.stack([np.broadcast_to(image, (300, 300, 3)) for image in images]).astype(np.float32)
    data = torch.from_numpy(pixels - np.array([104, 117, 123], np.float32)).permute(0, 3, 1, 2).contiguous()
    with torch.no_grad():
        found = trained({"data": data}, keep=["fc7", "conv4_3"])[1]
    for blob, length in lengths.items():
        assert length == pytest.approx(float(found[blob].norm(dim=1).mean()), rel=1e-5)
    assert described == f"2 images of {settings.train_lmdb}"


def test_ssd_with_other_boxes_begins_with_the_heads_that_fit(tmp_path: Path) -> None:
    trained = layers_of(trained_ssd(tmp_path / "ssd.caffemodel"))
    more = Source("conv4_3", aspect_ratios=(2, 3), step=8, l2norm=True)
    start = start_from(tmp_path / "ssd.caffemodel", replace(SSD300, sources=(more, *SSD300.sources[1:])), SIXTEENTH)
    assert start.notes == [
        "new heads, with small weights and high background probability: conv4_3_norm_mbox_loc, conv4_3_norm_mbox_conf"
    ]
    layers = layers_of(start.net)
    assert torch.equal(layers["fc7_mbox_conf"].blobs[0], trained["fc7_mbox_conf"].blobs[0])
    bias = layers["conv4_3_norm_mbox_conf"].blobs[1].view(6, CLASSES)
    assert torch.allclose(bias.softmax(1)[:, 0], torch.tensor(0.99))
    assert layers["conv4_3_norm_mbox_conf"].blobs[0].abs().max() < 0.1 * (3 / (32 * 9)) ** 0.5 + 1e-6


def test_scores_of_the_same_shape_but_other_boxes_are_not_copied(tmp_path: Path) -> None:
    """Six boxes of 2 classes have the same number of scores as four boxes of 3."""
    trained_ssd(tmp_path / "ssd.caffemodel", settings=replace(SIXTEENTH, num_classes=3))
    more = Source("conv4_3", aspect_ratios=(2, 3), step=8, l2norm=True)
    network = replace(SSD300, sources=(more, *SSD300.sources[1:]))
    start = start_from(tmp_path / "ssd.caffemodel", network, replace(SIXTEENTH, num_classes=2))
    assert "conv4_3_norm_mbox_conf" in start.notes[0]


def test_other_classes(tmp_path: Path) -> None:
    trained_ssd(tmp_path / "ssd.caffemodel")
    start = start_from(tmp_path / "ssd.caffemodel", MDSSD300, replace(SIXTEENTH, num_classes=3))
    note = start.notes[-1]
    assert note.startswith(
        "new heads, with small weights and high background probability (the file has 5 classes, and this network 3): "
        "module1_mbox_loc, module1_mbox_conf, module2_mbox_conf, module3_mbox_conf, conv6_2_mbox_conf"
    )
    assert "module2_mbox_loc" not in note


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    shutil.copy(ROOT / "models" / "labelmap_voc.prototxt", tmp_path / "models")
    flags = ["--width", "1/8", "--gpus", "none"]
    assert main(MDSSD300, [*flags, "--start_from", str(DEMO_SSD)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    start = "jobs/MDSSD300x0.125/VOC/start.caffemodel"
    assert f"wrote {start}, initial weights that compute what {DEMO_SSD} computes" in printed.out
    assert "module3: scaled to 5.7" in printed.out
    assert "the mean length of fc7 over 2 images of noise, because there is no LMDB examples/VOC0712" in printed.out
    assert printed.out.endswith(f"-weights {start}\n")
    written = {layer.name: layer for layer in read_weights(start)}
    np.testing.assert_array_equal(
        written["module3_mbox_loc"].blobs[0],
        next(layer for layer in read_weights(DEMO_SSD) if layer.name == "fc7_mbox_loc").blobs[0],
    )
    assert main(MDSSD300, [*flags, "--start_from", start]) == 1
    assert "these are an MDSSD's weights, with a layer 'module1_deconv1'" in capsys.readouterr().err


def test_a_start_does_not_go_among_the_checked_in_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    flags = command_line._parser(SSD300).parse_args(["--start_from", "ssd.caffemodel"])
    assert command_line.resolve(SSD300, flags).output == "jobs/SSD300/VOC"
    assert command_line.resolve(SSD300, command_line._parser(SSD300).parse_args([])).output == "models/SSD300/VOC"


@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        (
            MDSSD300,
            {"width": Width(Fraction(1, 8))},
            "layer 'conv2_1' has 8×8×3×3 and 8 in the file and 16×8×3×3 and 16 in this network; "
            "the file has --width 0.0625, and this network 0.125",
        ),
        (
            MDSSD300,
            {"width": Width(Fraction(1, 16), 16)},
            "has 8×3×3×3 and 8 in the file and 16×3×3×3 and 16 in this network; "
            "use the --width and --min_channels with which the SSD was made",
        ),
        (MDSSD512, {}, "not the weights of an SSD512: it has no layer 'conv10_1', 'conv10_2'"),
    ],
)
def test_another_network(network: VGGNetwork, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    settings = replace(SIXTEENTH, **changes)
    trained_ssd(tmp_path / "ssd.caffemodel")
    with pytest.raises(CaffeError) as raised:
        start_from(tmp_path / "ssd.caffemodel", network, settings)
    assert message in str(raised.value)


def test_weights_of_512_and_of_others(tmp_path: Path) -> None:
    trained_ssd(tmp_path / "ssd512.caffemodel", SSD512)
    with pytest.raises(CaffeError, match=r"not the weights of an SSD300: SSD300 has no layer 'conv10_1', 'conv10_2'"):
        start_from(tmp_path / "ssd512.caffemodel", MDSSD300, SIXTEENTH)

    backbone = deploy_net(SSD300, SIXTEENTH)
    del backbone.layer[next(i for i, layer in enumerate(backbone.layer) if layer.name == "conv6_1") :]
    save(Net(backbone, TEST), tmp_path / "vgg.caffemodel")
    with pytest.raises(CaffeError, match=r"not a detector's weights: there is no layer '…_mbox_loc'"):
        start_from(tmp_path / "vgg.caffemodel", MDSSD300, SIXTEENTH)

    (tmp_path / "text.caffemodel").write_text("layer { name: 'conv1_1' }")
    with pytest.raises(CaffeError, match=r"text\.caffemodel: not weights"):
        start_from(tmp_path / "text.caffemodel", MDSSD300, SIXTEENTH)
    with pytest.raises(CaffeError, match=r"none\.caffemodel: no such file"):
        start_from(tmp_path / "none.caffemodel", MDSSD300, SIXTEENTH)


def test_diverged_weights(tmp_path: Path) -> None:
    net = trained_ssd(tmp_path / "ssd.caffemodel")
    with torch.no_grad():
        layers_of(net)["conv7_2"].blobs[1][0] = float("nan")
    save(net, tmp_path / "ssd.caffemodel")
    with pytest.raises(CaffeError, match=r"layer 'conv7_2' contains NaN or infinity; that training diverged"):
        start_from(tmp_path / "ssd.caffemodel", MDSSD300, SIXTEENTH)
