"""caffe.dnn beside cv2.dnn of OpenCV 4, which still reads Caffe's nets: the same answers from the same calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from google.protobuf import text_format

from caffe import dnn
from caffe.engine.net import Net
from caffe.engine.weights import save
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from caffe.proto.weights import read_weights
from prototxt_gen.ssd300 import SSD300
from tests.interop.test_detectors import prototxt
from tests.processes import ROOT

peer: Any = getattr(cv2.dnn, "readNetFromCaffe", None)
needs_opencv_4 = pytest.mark.skipif(peer is None, reason="OpenCV 5 does not read Caffe's nets")

#: of the kinds that public programs run: a classifier with in-place layers, batch norm, depthwise convolution, two ends
SMALL = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 24 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 8 kernel_size: 3 stride: 2 pad: 1 weight_filler { type: "msra" } } }
layer { name: "conv1/bn" type: "BatchNorm" bottom: "conv1" top: "conv1" batch_norm_param { use_global_stats: true } }
layer { name: "conv1/scale" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "dw" type: "Convolution" bottom: "conv1" top: "dw"
  convolution_param { num_output: 8 group: 8 kernel_size: 3 pad: 1 bias_term: false weight_filler { type: "msra" } } }
layer { name: "prelu" type: "PReLU" bottom: "dw" top: "dw" }
layer { name: "pool" type: "Pooling" bottom: "dw" top: "pool" pooling_param { pool: AVE global_pooling: true } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 5 weight_filler { type: "msra" } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
layer { name: "points" type: "InnerProduct" bottom: "pool" top: "points"
  inner_product_param { num_output: 4 weight_filler { type: "msra" } } }
"""


def files(folder: Path, param: Any) -> tuple[str, str]:
    torch.manual_seed(3)
    net = Net(param, 1)
    for step in net.steps:
        if step.layer.type_name == "BatchNorm":
            for blob, value in zip(step.layer.blobs, (0.3, 2.0, 1.0), strict=True):
                blob.data.fill_(value)
    (folder / "x.prototxt").write_text(text_format.MessageToString(param))
    save(net, folder / "x.caffemodel")
    return str(folder / "x.prototxt"), str(folder / "x.caffemodel")


@pytest.fixture
def small(tmp_path: Path) -> tuple[str, str]:
    return files(tmp_path, text_format.Parse(SMALL, caffe_pb2.NetParameter()))


def picture(height: int = 40, width: int = 30) -> Any:
    return np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)


@needs_opencv_4
def test_as_opencv(small: tuple[str, str]) -> None:
    """Names, numbers, and outputs: also of layers that others work in place on, and of batches."""
    ours, theirs = dnn.readNetFromCaffe(*small), peer(*small)
    assert ours.getLayerNames() == theirs.getLayerNames()
    assert ours.getUnconnectedOutLayersNames() == theirs.getUnconnectedOutLayersNames() == ("prob", "points")
    assert ours.getUnconnectedOutLayers() == tuple(theirs.getUnconnectedOutLayers())
    assert ours.getLayerId("dw") == theirs.getLayerId("dw")
    assert ours.getLayerId("none") == theirs.getLayerId("none") == -1
    for images in ([picture()], [picture(), picture(50, 20)]):
        blob = dnn.blobFromImages(images, 1 / 64, (24, 32), (104, 117, 123), swapRB=True)
        for net in (ours, theirs):
            net.setInput(blob)
        np.testing.assert_allclose(ours.forward(), theirs.forward(), atol=1e-5)
        # not conv1/bn and dw: OpenCV computes them together with the layer that follows
        for name in ("conv1", "relu1", "prelu", "pool", "prob"):
            np.testing.assert_allclose(ours.forward(name), theirs.forward(name), rtol=1e-4, atol=1e-5, err_msg=name)
        names = ours.getUnconnectedOutLayersNames()
        for a, b in zip(ours.forward(names), theirs.forward(names), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    for net in (ours, theirs):
        net.setInput(picture(32, 24).transpose(2, 0, 1)[np.newaxis].astype(np.float32), "data", 0.5, (1, 2, 3))
    np.testing.assert_allclose(ours.forward(["prob"])[0], theirs.forward(["prob"])[0], atol=1e-5)


@needs_opencv_4
def test_rows_of_a_detector(tmp_path: Path) -> None:
    """The demo's trained SSD300, an eighth as wide, on a picture of bright shapes."""
    weights = str(ROOT / "demo/pretrain/ssd300_narrow.caffemodel")
    conf = next(layer for layer in read_weights(weights) if layer.name == "conv4_3_norm_mbox_conf")
    model = str(prototxt(tmp_path / "x.prototxt", SSD300, classes=conf.blobs[1].size // 4))
    ours, theirs = dnn.readNetFromCaffe(model, weights), peer(model, weights)
    image = np.full((300, 300, 3), 90, np.uint8)
    for i in range(6):
        cv2.circle(image, (40 + 45 * i, 60 + 30 * i), 12 + 4 * i, (250 - 40 * i, 40 * i, 200), -1)
    blob = dnn.blobFromImage(image, 1.0, (300, 300), (104, 117, 123))
    rows = []
    for net in (ours, theirs):
        net.setInput(blob)
        rows.append(net.forward()[0, 0])
    found = len(rows[0])
    assert 20 < found < len(rows[1])
    # OpenCV has rows in an order of its own, and adds rows of zeros up to keep_top_k
    theirs_found = rows[1][rows[1][:, 2] > 0]
    apart = np.abs(rows[0][:, np.newaxis] - theirs_found).max(axis=2)
    assert len(theirs_found) == found
    assert apart.min(axis=0).max() < 1e-5
    assert apart.min(axis=1).max() < 1e-5


def test_buffers_and_either_order(small: tuple[str, str]) -> None:
    expected = dnn.readNetFromCaffe(*small)
    text, weights = (Path(path).read_bytes() for path in small)
    nets = [
        dnn.readNetFromCaffe(text, weights),
        dnn.readNetFromCaffe(np.frombuffer(text, np.uint8), bytearray(weights)),
        dnn.readNet(small[1], small[0]),
        dnn.readNet(*small, framework="caffe"),
    ]
    blob = dnn.blobFromImage(picture(), size=(24, 32))
    expected.setInput(blob)
    for net in nets:
        net.setInput(blob)
        np.testing.assert_array_equal(net.forward(), expected.forward())


def test_parameters_and_the_rest(small: tuple[str, str]) -> None:
    net = dnn.readNetFromCaffe(*small)
    assert not net.empty()
    assert net.getLayersCount("Convolution") == 2
    assert "PReLU" in net.getLayerTypes()
    assert net.getLayer("conv1").type == "Convolution"
    assert net.getLayer(1).blobs[0].shape == (8, 3, 3, 3)
    net.setInput(dnn.blobFromImage(picture(), size=(24, 32)))
    net.setParam("points", 0, np.zeros_like(net.getParam("points", 0)))
    np.testing.assert_array_equal(net.forward("points")[0], net.getParam("points", 1))
    assert net.getPerfProfile()[0] > 0
    net.setPreferableBackend(dnn.DNN_BACKEND_OPENCV)
    net.setPreferableTarget(dnn.DNN_TARGET_CPU)
    assert dnn.NMSBoxes([[0, 0, 4, 4], [0, 0, 4, 5]], [0.9, 0.8], 0.5, 0.4).tolist() == [0]
    # another size of image, as face detectors get
    net.setInput(dnn.blobFromImage(picture(), size=(48, 64)))
    assert net.forward("conv1").shape == (1, 8, 32, 24)


def test_what_goes_wrong(small: tuple[str, str], tmp_path: Path) -> None:
    net = dnn.readNetFromCaffe(*small)
    with pytest.raises(CaffeError, match="input 'data' is not set; call setInput first"):
        net.forward()
    with pytest.raises(CaffeError, match="input 'data' is 1 x 1 x 4 x 4, and the net takes 1 x 3 x 32 x 24"):
        net.setInput(np.zeros((1, 1, 4, 4), np.float32))
    with pytest.raises(CaffeError, match="no input 'image'; its inputs are data"):
        net.setInput(np.zeros((1, 3, 4, 4), np.float32), "image")
    net.setInput(np.zeros((1, 3, 32, 24), np.float32))
    for name, message in (("none", "no layer 'none'; getLayerNames"), ("conv1.3", "'conv1' has 1 outputs, not 4")):
        with pytest.raises(CaffeError, match=message):
            net.forward(name)
    with pytest.raises(CaffeError, match="has no layer 'x'"):
        net.getLayer("x")
    with pytest.raises(CaffeError, match=r"is \(5, 8\), not \(2,\)"):
        net.setParam("fc", 0, np.zeros(2))
    with pytest.raises(CaffeError, match="no such file"):
        dnn.readNetFromCaffe(str(tmp_path / "none.prototxt"), small[1])
    with pytest.raises(CaffeError, match="not of darknet"):
        dnn.readNet("x.weights", "x.cfg", "darknet")
    with pytest.raises(AttributeError, match="neither caffe.dnn nor cv2.dnn has 'readNetFromNowhere'"):
        _ = dnn.readNetFromNowhere
