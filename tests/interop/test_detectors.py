"""SSDs of other frameworks, imported, predict what they predict there; exported, they load there and do so again."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from caffe.cli import export_weights, import_weights
from caffe.engine.net import Net
from caffe.engine.weights import copy_trained_from
from caffe.interop.detector import import_detector
from caffe.interop.sources import LAYOUTS
from caffe.proto.text import read_net, to_text
from prototxt_gen.network import Network, deploy_net
from prototxt_gen.ssd300 import SSD300
from prototxt_gen.ssd512 import SSD512
from tests.interop.source_models import (
    MMDetection,
    SSDPytorch,
    decode,
    mmdetection_boxes,
    randomize,
    ssd_pytorch_boxes,
)
from tests.interop.torchvision_models import torchvision
from tests.narrow import narrow_settings

WIDTH = 8
RATIOS = {300: ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)), 512: ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))}
STEPS = {300: (8, 16, 32, 64, 100, 300), 512: (8, 16, 32, 64, 128, 256, 512)}
MMDETECTION_MEAN = "103.53,116.28,123.675"


def prototxt(path: Path, network: Network, classes: int, width: int = WIDTH, dataset: str = "voc") -> Path:
    """A deploy net of an SSD, without Softmax and DetectionOutput's limits playing a part."""
    settings = narrow_settings(1, width=Fraction(1, width), classes=classes, dataset=dataset)
    settings = replace(settings, net_name="ssd")
    path.write_text(to_text(deploy_net(network, settings)))
    return path


def pixels(size: int) -> NDArray[np.float32]:
    """A picture, size × size × 3, red, green, blue, 0 to 255."""
    return np.random.default_rng(size).integers(0, 256, (size, size, 3)).astype(np.float32)


def predictions(net: Net, picture: NDArray[np.float32], mean: Any) -> tuple[Any, Any, Any]:
    """Predicted boxes P × 4 as corners, probabilities P × classes, and default boxes P × 4, of a net of this project."""
    data = torch.from_numpy((picture[:, :, ::-1] - np.array(mean, np.float32)).transpose(2, 0, 1)[np.newaxis].copy())
    with torch.no_grad():
        _, blobs = net({"data": data}, keep=["mbox_loc", "mbox_conf_softmax", "mbox_priorbox"])
    corners = blobs["mbox_priorbox"].numpy()[0, 0].reshape(-1, 4).astype(np.float64)
    boxes = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1)
    loc = blobs["mbox_loc"].numpy().reshape(-1, 4)
    return decode(boxes, loc), blobs["mbox_conf_softmax"].numpy()[0], boxes


def run_source(model: nn.Module, picture: NDArray[np.float32], mean: Any) -> tuple[Any, Any]:
    """Locations P × 4 and scores P × classes of a model that takes red, green, blue less its mean."""
    with torch.no_grad():
        x = torch.from_numpy((picture - np.array(mean, np.float32)).transpose(2, 0, 1)[np.newaxis].copy())
        loc, scores = model(x)
    return loc[0].numpy(), scores[0]


def imported(tmp_path: Path, source: str, checkpoint: Any, model: Path, *flags: str) -> Net:
    """The net after `caffe import_weights` of a checkpoint."""
    torch.save(checkpoint, tmp_path / "source.pth")
    words = ["-from", source, "-weights", tmp_path / "source.pth", "-model", model, "-out", tmp_path / "out.caffemodel"]
    assert import_weights.main([*map(str, words), *flags]) == 0
    net = Net(read_net(model), 1)
    copy_trained_from(net, tmp_path / "out.caffemodel")
    return net


def same(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_ssd_pytorch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And back: the exported state dict is the one that was imported."""
    source = randomize(SSDPytorch(21, WIDTH), 1)
    model = prototxt(tmp_path / "deploy.prototxt", SSD300, 21)
    net = imported(tmp_path, "ssd_pytorch", {"epoch": 3, "state_dict": nn.DataParallel(source).state_dict()}, model)
    said = capsys.readouterr().out
    loc, scores = run_source(source, pixels(300), (123, 117, 104))
    theirs = ssd_pytorch_boxes((30, 60, 111, 162, 213, 264, 315), STEPS[300], (38, 19, 10, 5, 3, 1), RATIOS[300])
    boxes, probabilities, priors = predictions(net, pixels(300), (104, 117, 123))
    same(probabilities, scores.softmax(-1))
    # the last row and column of the 10 × 10 map: there ssd.pytorch moves the centers, from 304 pixels to 300
    moved = (theirs[:, :2] != priors[:, :2].round(6)).any(1) & (priors[:, :2] > 1).any(1)
    assert moved.sum() == 19 * 6
    assert "conv6_2_mbox_priorbox: some default boxes are up to 4.0 pixels apart" in said
    same(boxes[~moved], decode(theirs, loc)[~moved])
    assert np.abs(boxes[moved] - decode(theirs, loc)[moved]).max() < 4.1 / 300
    assert "other sizes or variances in conv8_2_mbox_priorbox, conv9_2_mbox_priorbox" in said

    out = tmp_path / "back.safetensors"
    words = ["-to", "ssd_pytorch", "-model", model, "-weights", tmp_path / "out.caffemodel", "-out", out]
    assert export_weights.main([str(word) for word in words]) == 0
    from safetensors.torch import load_file

    back = load_file(out)
    assert back.keys() == source.state_dict().keys()
    for name, tensor in source.state_dict().items():
        torch.testing.assert_close(back[name], tensor, rtol=1e-5, atol=1e-6, msg=name)
    SSDPytorch(21, WIDTH).load_state_dict(back)


@pytest.mark.parametrize(("size", "scales"), [(300, "voc"), (300, "coco"), (512, "coco")])
def test_mmdetection(tmp_path: Path, size: int, scales: str) -> None:
    """The background's scores move to the front. With the mean of its images there is no difference at the border."""
    classes = {"voc": 20, "coco": 6}[scales]
    source = randomize(MMDetection(size, classes, WIDTH), 2)
    model = prototxt(tmp_path / "deploy.prototxt", {300: SSD300, 512: SSD512}[size], classes + 1)
    flags = ["-mean_value", MMDETECTION_MEAN, "-scales", scales]
    net = imported(
        tmp_path, "mmdetection_ssd", {"meta": {"epoch": 1}, "state_dict": source.state_dict()}, model, *flags
    )
    loc, scores = run_source(source, pixels(size), (123.675, 116.28, 103.53))
    ratio_range = {"voc": (20, 90) if size == 300 else (15, 90), "coco": (15, 90) if size == 300 else (10, 90)}[scales]
    first = {(300, "voc"): (10, 20), (300, "coco"): (7, 15), (512, "coco"): (4, 10)}[size, scales]
    theirs = mmdetection_boxes(size, ratio_range, first, STEPS[size], RATIOS[size])
    boxes, probabilities, _ = predictions(net, pixels(size), (103.53, 116.28, 123.675))
    same(probabilities, np.roll(scores.softmax(-1).numpy(), 1, axis=1))
    same(boxes, decode(theirs, loc))


def test_torchvision(tmp_path: Path) -> None:
    """The real model of 36 million parameters, once: its default boxes and its coder are torchvision's own.

    Its mean is 0.0008 of 255 from Caffe's, so even the border agrees.
    """
    torchvision()
    from torchvision.models.detection import ssd300_vgg16

    source: Any = randomize(ssd300_vgg16(weights=None, weights_backbone=None, num_classes=7), 3)
    # the source's default boxes are COCO's, the net's VOC's: the location heads make up for it
    model = prototxt(tmp_path / "deploy.prototxt", SSD300, 7, width=1)
    net = imported(tmp_path, "torchvision_ssd300", source.state_dict(), model, "-scales", "coco")
    picture = pixels(300)
    with torch.no_grad():
        images, _ = source.transform([torch.from_numpy(picture.transpose(2, 0, 1)) / 255])
        maps = list(source.backbone(images.tensors).values())
        heads = source.head(maps)
        anchors = source.anchor_generator(images, maps)
        theirs = source.box_coder.decode_single(heads["bbox_regression"][0], anchors[0]) / 300
    boxes, probabilities, priors = predictions(net, picture, (104, 117, 123))
    same(boxes, theirs)
    same(probabilities, heads["cls_logits"][0].softmax(-1))
    assert np.abs(priors[:, 2:] * 300 - (anchors[0][:, 2:] - anchors[0][:, :2]).numpy()).max() > 9

    out = tmp_path / "back.safetensors"
    words = ["-to", "torchvision_ssd300", "-model", model, "-weights", tmp_path / "out.caffemodel", "-out", out]
    assert export_weights.main([str(word) for word in words]) == 0
    from safetensors.torch import load_file

    back = load_file(out)
    for name, tensor in source.state_dict().items():
        torch.testing.assert_close(back[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    source.load_state_dict(back)


def test_the_91_categories_of_torchvision_become_81_classes(tmp_path: Path) -> None:
    from caffe.interop.ssd_layouts import DETECTORS

    names = DETECTORS["torchvision_ssd300"][300].layout.names
    shapes = _shapes_of(prototxt(tmp_path / "91.prototxt", SSD300, 91, dataset="coco"), tmp_path)
    assert shapes.keys() == names
    checkpoint = {name: torch.full(shape, 0.5) for name, shape in shapes.items()}
    conf = "head.classification_head.module_list.0.bias"
    checkpoint[conf] = torch.arange(91.0).repeat(4)
    torch.save(checkpoint, tmp_path / "x.pth")
    net = Net(read_net(prototxt(tmp_path / "81.prototxt", SSD300, 81, dataset="coco")), 1)
    notes = import_detector("torchvision_ssd300", tmp_path / "x.pth", net, (104, 117, 123), None, LAYOUTS)
    assert "left out 10 scores that belong to no category of COCO" in notes
    layer = next(step.layer for step in net.steps if step.layer.name == "conv4_3_norm_mbox_conf")
    rows = layer.blobs[1].detach().numpy().reshape(4, 81)
    categories = [int(item.name) for item in _label_map().item if item.label > 0]
    assert rows[2].tolist() == [0, *categories]

    from caffe.interop.detector import export_detector

    tensors, notes = export_detector("torchvision_ssd300", net, (104, 117, 123), None)
    back = tensors[conf].reshape(4, 91)
    assert back[1][categories].tolist() == categories
    assert (np.delete(back[1], [0, *categories]) == -100).all()
    assert "added 10 categories that no object has, with probability 0" in notes


def _label_map() -> Any:
    from google.protobuf import text_format

    from caffe.proto import caffe_pb2

    text = (Path(__file__).parents[2] / "models/labelmap_coco.prototxt").read_text()
    return text_format.Parse(text, caffe_pb2.LabelMap())


def _shapes_of(model: Path, tmp_path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of torchvision's state dict for a net, by exporting one."""
    from caffe.interop.detector import export_detector

    tensors, _ = export_detector("torchvision_ssd300", Net(read_net(model), 1), (104, 117, 123), None)
    return {name: array.shape for name, array in tensors.items()}


BAD = {
    "another number of classes": (
        "21 classes with the background, and net 'ssd_deploy' 4; set num_classes and the heads' num_output for 21",
        4, {}, [],
    ),
    "unknown default boxes": ("it has 4 classes with the background, which does not say", 4, {"classes": 4}, []),
    "another width": ("'vgg.0.weight' does not fit layer 'conv1_1' of net 'ssd_deploy'", 21, {"width": 4}, []),
    "another layout": ("not MMDetection's SSD300: it has no .* it looks like -from ssd_pytorch", 21, {}, ["mmdetection_ssd"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_belong_together(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    message, classes, options, source = BAD[name]
    checkpoint = SSDPytorch(options.get("classes", 21), options.get("width", WIDTH)).state_dict()
    torch.save(checkpoint, tmp_path / "x.pth")
    model = prototxt(tmp_path / "deploy.prototxt", SSD300, classes)
    words = ["-from", (source or ["ssd_pytorch"])[0], "-weights", tmp_path / "x.pth", "-model", model]
    assert import_weights.main([*map(str, words), "-out", str(tmp_path / "out.caffemodel")]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.search(message, said), said
    assert not (tmp_path / "out.caffemodel").exists()


def test_nets_that_are_not_ssds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(SSDPytorch(21, WIDTH).state_dict(), tmp_path / "x.pth")
    (tmp_path / "x.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }'
    )
    weights, out = str(tmp_path / "x.pth"), str(tmp_path / "out.caffemodel")
    words = ["-from", "ssd_pytorch", "-weights", weights, "-out", out]
    assert import_weights.main(words) == 1
    assert "needs the net that gets the weights: -model models/SSD300" in capsys.readouterr().err
    assert import_weights.main([*words, "-model", str(tmp_path / "x.prototxt")]) == 1
    assert "is not an SSD's deploy net" in capsys.readouterr().err
    model = prototxt(tmp_path / "512.prototxt", SSD512, 21)
    assert import_weights.main([*words, "-model", str(model)]) == 1
    assert "is 512 x 512 with 7 heads; ssd_pytorch is 300 x 300 with 6 heads" in capsys.readouterr().err
