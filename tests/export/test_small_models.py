"""INT8 and float16 models, and the command that scores and times exported detectors."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe.cli import export_onnx, score_onnx
from caffe.data.lmdb_source import LmdbWriter
from caffe.proto import caffe_pb2
from caffe.proto.weights import read_weights
from prototxt_gen.ssd300 import SSD300
from tests.export.runs import net_of, run, runtime
from tests.interop.test_detectors import prototxt
from tests.processes import ROOT

# without onnx, the lines above skip this module
# isort: split
import onnx

from caffe.export.onnx_model import onnx_model
from caffe.export.quantization import pool_before_relu

WEIGHTS = str(ROOT / "demo/pretrain/ssd300_narrow.caffemodel")


def shapes_image(seed: int) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """A picture with circles, and their boxes in pixels."""
    rng = np.random.default_rng(seed)
    image = np.full((200, 300, 3), 90, np.uint8)
    boxes: list[tuple[int, ...]] = []
    for _ in range(5):
        x, y, radius = (int(v) for v in (rng.integers(40, 260), rng.integers(40, 160), rng.integers(8, 30)))
        cv2.circle(image, (x, y), radius, tuple(int(c) for c in rng.integers(0, 255, 3)), -1)
        boxes.append((x - radius, y - radius, x + radius, y + radius))
    return image, boxes


@pytest.fixture(scope="module")
def lmdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three annotated images, of label 1."""
    path = tmp_path_factory.mktemp("data") / "lmdb"
    with LmdbWriter(path) as writer:
        for i in range(3):
            image, boxes = shapes_image(i)
            record = caffe_pb2.AnnotatedDatum(type=caffe_pb2.AnnotatedDatum.BBOX)
            record.datum.data, record.datum.encoded = cv2.imencode(".png", image)[1].tobytes(), True
            group = record.annotation_group.add(group_label=1)
            for x0, y0, x1, y1 in boxes:
                group.annotation.add().bbox.MergeFrom(
                    caffe_pb2.NormalizedBBox(xmin=x0 / 300, ymin=y0 / 200, xmax=x1 / 300, ymax=y1 / 200)
                )
            writer.put(f"image{i}".encode(), record.SerializeToString())
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    conf = next(layer for layer in read_weights(WEIGHTS) if layer.name == "conv4_3_norm_mbox_conf")
    classes = conf.blobs[1].size // 4
    return str(prototxt(tmp_path_factory.mktemp("net") / "x.prototxt", SSD300, classes))


def export(model: str, out: Path, *flags: str) -> int:
    return export_onnx.main(["-model", model, "-weights", WEIGHTS, "-out", str(out), "-minloglevel", "2", *flags])


def heads(path: Path, image: np.ndarray) -> np.ndarray:
    data = cv2.resize(image, (300, 300)).astype(np.float32) - (104, 117, 123)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (rows,) = session.run(None, {"data": data.transpose(2, 0, 1)[np.newaxis].astype(np.float32)})
    return np.asarray(rows[0, 0])


def test_int8_half_and_the_score(model: str, lmdb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The best detections stay; files shrink; the command lists all three."""
    paths = [tmp_path / f"{name}.onnx" for name in ("float", "half", "int8")]
    assert export(model, paths[0]) == 0
    assert export(model, paths[1], "-half") == 0
    assert export(model, paths[2], "-int8", "-calibrate", str(lmdb)) == 0
    assert "convolutions in INT8" in capsys.readouterr().out
    sizes = [path.stat().st_size for path in paths]
    assert sizes[1] < 0.7 * sizes[0]
    assert sizes[2] < 0.7 * sizes[0]
    kinds = [node.op_type for node in onnx.load(str(paths[2])).graph.node]
    assert kinds.count("Conv") == 35
    assert "QuantizeLinear" in kinds
    image, _ = shapes_image(0)
    expected, half, int8 = (heads(path, image) for path in paths)
    best = expected[expected[:, 2] > 0.5]
    assert len(best) > 1
    for rows, tolerance in ((half, 0.01), (int8, 0.1)):
        for row in best:
            same = rows[rows[:, 1] == row[1]]
            assert (np.abs(same[:, 2:] - row[2:]).max(axis=1) < tolerance).any()

    (tmp_path / "labelmap.prototxt").write_text(
        'item { name: "none" label: 0 } item { name: "circle" label: 1 display_name: "circle" }'
    )
    words = ["-models", ",".join(map(str, paths)), "-source", lmdb, "-label_map_file", tmp_path / "labelmap.prototxt"]
    assert score_onnx.main([str(word) for word in words]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("3 images, ")
    assert [line.split()[0] for line in said[2:]] == ["float.onnx", "half.onnx", "int8.onnx"]
    assert all(0 <= float(line.split()[1]) <= 100 for line in said[2:])

    (tmp_path / "labelmap.prototxt").write_text('item { name: "none" label: 0 } item { name: "other" label: 2 }')
    assert score_onnx.main([str(word) for word in words]) == 1
    assert "label 1 is not in label map" in capsys.readouterr().err


def test_heads_may_stay_float(model: str, lmdb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        export(model, tmp_path / "x.onnx", "-int8", "-calibrate", str(lmdb), "-images", "1", "-keep_float", "heads,fc7")
        == 0
    )
    # 23 convolutions of the backbone and 12 of the heads; conv1_1 and conv1_2, of 8 channels, and fc7 stay as well
    assert "20 convolutions in INT8" in capsys.readouterr().out


def test_poolings_behind_float_convolutions_stay_float(model: str, lmdb: Path, tmp_path: Path) -> None:
    """ONNX Runtime computes an 8-bit pooling slowly where no 8-bit convolution precedes it."""
    assert export(model, tmp_path / "x.onnx", "-int8", "-calibrate", str(lmdb), "-images", "1") == 0
    nodes = {node.name: node for node in onnx.load(str(tmp_path / "x.onnx")).graph.node}
    producer = {node.output[0]: node for node in nodes.values()}
    pooling, relu = nodes["pool1/node"], nodes["relu1_2/node"]
    assert producer[relu.input[0]] is pooling
    assert producer[pooling.input[0]] is nodes["conv1_2/node"]
    assert producer[nodes["pool2/node"].input[0]].op_type == "DequantizeLinear"


@pytest.mark.parametrize(
    ("layers", "swapped"),
    [
        ("", True),
        ('layer { name: "e" type: "AbsVal" bottom: "c" top: "e" }', False),  # it reads the ReLU, too
        ('layer { name: "e" type: "AbsVal" bottom: "p" top: "e" }', True),
    ],
)
def test_pool_before_relu_changes_no_value(layers: str, swapped: bool) -> None:
    net = net_of(
        f"""layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 3 dim: 9 dim: 7 }} }} }}
        layer {{ name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param {{
            num_output: 4 kernel_size: 3 weight_filler {{ type: "gaussian" std: 1 }} }} }}
        layer {{ name: "r" type: "ReLU" bottom: "c" top: "c" }}
        layer {{ name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param {{ kernel_size: 3 stride: 2 pad: 1 }} }}
        {layers}"""
    )
    exported = onnx_model(net)
    x = np.random.default_rng(0).normal(size=(2, 3, 9, 7)).astype(np.float32)
    before = run(exported, x=x)
    first = next(node.name for node in exported.graph.node if node.op_type == "Conv")
    assert bool(pool_before_relu(exported, [first])) == swapped
    onnx.checker.check_model(exported)
    for name, value in run(exported, x=x).items():
        np.testing.assert_array_equal(value, before[name])


def test_what_goes_wrong(model: str, lmdb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.onnx"
    with LmdbWriter(tmp_path / "empty"):
        pass
    cases = [
        (["-int8"], "-int8 needs images to measure ranges on: -calibrate trainval_lmdb"),
        (["-calibrate", str(lmdb)], "-calibrate is for -int8"),
        (["-int8", "-half", "-calibrate", str(lmdb)], "give -int8 or -half, not both"),
        (["-int8", "-calibrate", str(tmp_path / "none")], "none"),
        (["-int8", "-calibrate", str(tmp_path / "empty")], "empty"),
        (["-int8", "-calibrate", str(lmdb), "-keep_float", "conv"], "-keep_float conv: the net has no such layer"),
    ]
    for flags, message in cases:
        assert export(model, out, *flags) == 1
        assert message in capsys.readouterr().err
        assert not out.exists()
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    words = [
        "-models",
        str(tmp_path / "broken.onnx"),
        "-source",
        str(lmdb),
        "-label_map_file",
        "models/labelmap_voc.prototxt",
    ]
    assert score_onnx.main(words) == 1
    assert "broken.onnx: ONNX Runtime cannot load it" in capsys.readouterr().err
