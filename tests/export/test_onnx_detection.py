"""Exported DetectionOutput, alone and in whole detectors: the engine's detections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffe.cli.export_onnx import main
from caffe.engine.net import Net
from caffe.engine.weights import copy_trained_from, save
from caffe.errors import CaffeError
from caffe.proto.text import read_net, to_text
from tests.export.detection_heads import HEAD, PRIORS, VARIANCE, head, matching, predictions, same_rows
from tests.export.runs import engine, net_of, run, runtime
from tests.narrow import narrow_deploy

# without onnx, the lines above skip this module
# isort: split
from caffe.export.onnx_model import onnx_model


@pytest.mark.parametrize(
    "options",
    [
        "nms_param { nms_threshold: 0.45 top_k: 400 } keep_top_k: 200 confidence_threshold: 0.01 code_type: CENTER_SIZE",
        "nms_param { nms_threshold: 0.45 top_k: 7 } keep_top_k: 10 confidence_threshold: 0.2 code_type: CENTER_SIZE",
        "nms_param { nms_threshold: 0.3 top_k: 50 } keep_top_k: 5 code_type: CENTER_SIZE",
        "nms_param { nms_threshold: 0.6 } code_type: CORNER",
        "nms_param { nms_threshold: 0 } confidence_threshold: 0.1 code_type: CORNER_SIZE",
        "confidence_threshold: 0.1 code_type: CENTER_SIZE background_label_id: -1",
        "confidence_threshold: 0.1 code_type: CENTER_SIZE background_label_id: 2 variance_encoded_in_target: true",
        "nms_param { nms_threshold: 1 top_k: 3 } code_type: CORNER variance_encoded_in_target: true",
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_detection_output(options: str, batch: int) -> None:
    net = head(options)
    inputs = predictions(batch)
    (found,) = run(onnx_model(net), **inputs).values()
    expected = engine(net, **inputs)["out"]
    assert expected.shape[2] > batch
    same_rows(found, expected)


def test_layers_between_priors_and_detections_are_computed_beforehand() -> None:
    """And detections that two layers read keep their number open."""
    text = HEAD.format(
        locs=4 * PRIORS, confs=4 * PRIORS, variance=VARIANCE, options="confidence_threshold: 0.2 code_type: CENTER_SIZE"
    ).replace('bottom: "priors" top: "out"', 'bottom: "flat" top: "out"')
    text = text.replace(
        'layer { name: "out"',
        """layer { name: "flat" type: "Reshape" bottom: "priors" top: "flat"
             reshape_param { shape { dim: 1 dim: 2 dim: -1 } } }
           layer { name: "out\"""",
    )
    text += 'layer { name: "twice" type: "Split" bottom: "out" top: "out1" top: "out2" }'
    net, inputs = net_of(text), predictions(2)
    model = onnx_model(net)
    constants = {constant.name for constant in model.graph.initializer}
    assert constants <= {name for node in model.graph.node for name in node.input}, "what no node reads is left out"
    assert [d.dim_param or d.dim_value for d in model.graph.output[1].type.tensor_type.shape.dim] == [
        1,
        1,
        "detections",
        7,
    ]
    for found in run(model, **inputs).values():
        same_rows(found, engine(net, **inputs)["out1"])


def test_nothing_found() -> None:
    """No detections in any image: one row each, with its id and −1. In one of several: no row for it."""
    net = head("confidence_threshold: 0.9 code_type: CENTER_SIZE keep_top_k: 20")
    model = onnx_model(net)
    inputs = predictions(3)
    inputs["conf"][:] = 0.25
    (found,) = run(model, **inputs).values()
    np.testing.assert_array_equal(found[0, 0], [[i, -1, -1, -1, -1, -1, -1] for i in range(3)])
    same_rows(found, engine(net, **inputs)["out"])
    inputs["conf"][1, 1] = 0.95
    (found,) = run(model, **inputs).values()
    assert found[0, 0, :, :2].tolist() == [[1, 1]]
    same_rows(found, engine(net, **inputs)["out"])


def test_equal_scores_go_to_the_lower_index() -> None:
    net = head(
        "confidence_threshold: 0.1 nms_param { nms_threshold: 0.45 top_k: 20 } keep_top_k: 12 code_type: CENTER_SIZE"
    )
    inputs = predictions(2)
    inputs["conf"] = np.round(inputs["conf"] * 4) / 4
    (found,) = run(onnx_model(net), **inputs).values()
    same_rows(found, engine(net, **inputs)["out"])


@pytest.fixture
def narrow(tmp_path: Path) -> tuple[str, str]:
    """A narrow MDSSD300 with random weights, which detect many objects: its prototxt and caffemodel."""
    model, weights = str(tmp_path / "deploy.prototxt"), str(tmp_path / "narrow.caffemodel")
    Path(model).write_text(to_text(narrow_deploy()))
    save(Net(read_net(model), 1), weights)
    return model, weights


def images(batch: int) -> Any:
    return np.random.default_rng(batch).normal(0, 60, (batch, 3, 300, 300)).astype(np.float32)


def test_predictions_of_mdssd300(narrow: tuple[str, str]) -> None:
    """All of the network but the selection: every offset and score of 31,232 boxes."""
    param = read_net(narrow[0])
    del param.layer[-1]
    net = Net(param, 1)
    copy_trained_from(net, narrow[1])
    model = onnx_model(net)
    assert [output.name for output in model.graph.output] == ["mbox_conf_flatten", "mbox_loc"]
    expected = engine(net, data=images(2))
    for name, found in run(model, data=images(2)).items():
        assert found.shape == (2, 31_232 * (5 if "conf" in name else 4))
        np.testing.assert_allclose(found, expected[name], rtol=1e-3, atol=1e-4)


def test_detections_of_mdssd300(narrow: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through the command. Among 31,232 boxes some scores nearly agree, and rounding decides between them."""
    out = str(tmp_path / "narrow.onnx")
    assert main(["-model", narrow[0], "-weights", narrow[1], "-out", out]) == 0
    assert "data N x 3 x 300 x 300, detection_out 1 x 1 x detections x 7" in capsys.readouterr().out
    session = runtime.InferenceSession(out, providers=["CPUExecutionProvider"])
    net = Net(read_net(narrow[0]), 1)
    copy_trained_from(net, narrow[1])
    for batch in (1, 2):
        (found,) = session.run(None, {"data": images(batch)})
        expected = engine(net, data=images(batch))["detection_out"]
        assert found.shape == expected.shape == (1, 1, 200 * batch, 7)
        assert matching(found, expected) >= 198 * batch


def test_trained_face_detector(shared: Path) -> None:
    """Real weights on a real photograph: the detections of the original itself."""
    folder = shared / "data" / "facedetect"
    net = Net(read_net(folder / "yufacedetectnet-open-v2.prototxt"), 1)
    copy_trained_from(net, str(folder / "yufacedetectnet-open-v2.caffemodel"))
    with np.load(folder / "yufacedetectnet-open-v2.reference.npz") as reference:
        image, expected = reference["input"], reference["detection_out"]
    (found,) = run(onnx_model(net), data=image).values()
    confident = expected[0, 0, :, 2] > 0.5
    assert confident.sum() > 0
    same_rows(found[:, :, found[0, 0, :, 2] > 0.5], expected[:, :, confident])
    same_rows(found, engine(net, data=image)["detection_out"])


# ---- what cannot be exported


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("nms_param { eta: 0.9 }", "eta 0.9: ONNX's suppression has a fixed threshold"),
        ("keep_top_k: 0", "leaves no detection"),
    ],
)
def test_detection_options_refused(options: str, message: str) -> None:
    with pytest.raises(CaffeError, match=message):
        onnx_model(head(options))


def test_priors_from_data_are_refused() -> None:
    net = net_of(
        """layer { name: "in" type: "Input" top: "loc" top: "conf" top: "priors" input_param {
             shape { dim: 1 dim: 8 } shape { dim: 1 dim: 8 } shape { dim: 1 dim: 2 dim: 8 } } }
           layer { name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "priors" top: "out"
             detection_output_param { num_classes: 4 } }"""
    )
    with pytest.raises(CaffeError, match="its priors 'priors' are computed from data"):
        onnx_model(net)
