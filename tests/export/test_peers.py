"""Detectors exported, in OpenVINO and OpenCV 5: the engine's rows. Skipped where these are not installed.

OpenCV 5 does not fit beside the version that the other tests need, so another interpreter runs it: CAFFE_TEST_OPENCV5
names one that has opencv-python 5.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.export.detection_heads import head, predictions, same_rows
from tests.export.runs import engine
from tests.processes import run

# without onnx, the lines above skip this module
# isort: split
from caffe.export.onnx_model import onnx_model

OPTIONS = "confidence_threshold: 0.1 nms_param { nms_threshold: 0.45 top_k: 20 } keep_top_k: 12 code_type: CENTER_SIZE"
OPENCV5 = os.environ.get("CAFFE_TEST_OPENCV5", "")
PROGRAM = """
import sys, cv2, numpy as np
assert cv2.__version__.startswith("5."), cv2.__version__
net = cv2.dnn.readNetFromONNX(sys.argv[1])
inputs = np.load(sys.argv[2])
for name in inputs.files:
    net.setInput(inputs[name], name)
np.save(sys.argv[3], net.forward())
"""


@pytest.fixture(params=[1, 2], ids=["one image", "two images"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any], Any]:
    net = head(OPTIONS)
    (tmp_path / "head.onnx").write_bytes(onnx_model(net).SerializeToString())
    inputs = predictions(request.param)
    return tmp_path / "head.onnx", inputs, engine(net, **inputs)["out"]


def test_openvino(case: tuple[Path, dict[str, Any], Any]) -> None:
    openvino = pytest.importorskip("openvino")
    path, inputs, expected = case
    model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    read = {name for value in model.inputs for name in value.names}
    (found,) = model({name: value for name, value in inputs.items() if name in read}).values()
    same_rows(found, expected)


@pytest.mark.skipif(not OPENCV5, reason="CAFFE_TEST_OPENCV5 names no interpreter with opencv-python 5")
def test_opencv_5(case: tuple[Path, dict[str, Any], Any], tmp_path: Path) -> None:
    path, inputs, expected = case
    np.savez(tmp_path / "inputs.npz", **inputs)
    run([OPENCV5, "-c", PROGRAM, path, tmp_path / "inputs.npz", tmp_path / "out.npy"], check=True)
    same_rows(np.load(tmp_path / "out.npy"), expected)
