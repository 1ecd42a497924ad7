"""Exported models, run by ONNX Runtime, give what the engine gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf import text_format

from caffe.cli.export_onnx import main
from caffe.engine.net import Net
from caffe.engine.weights import copy_trained_from, save
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from caffe.proto.text import read_net, to_text
from tests.narrow import narrow_deploy

pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

from caffe.export.onnx_model import onnx_model  # noqa: E402  (needs onnx)


def net_of(text: str) -> Net:
    net = Net(text_format.Parse(text, caffe_pb2.NetParameter()), 1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            # positive: some are variances
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.1)
    return net


def run(model: Any, **inputs: Any) -> list[Any]:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def engine(net: Net, **inputs: Any) -> dict[str, Any]:
    with torch.no_grad():
        _, blobs = net({name: torch.from_numpy(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in blobs.items()}


LAYERS = {
    "convolution": 'type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 pad: 2 stride: 2 dilation: 2 }',
    "groups": 'type: "Convolution" convolution_param { num_output: 6 kernel_h: 1 kernel_w: 3 pad_w: 1 group: 2 }',
    "no bias": 'type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 bias_term: false }',
    "deconvolution": 'type: "Deconvolution" convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 }',
    "deconvolution in groups": 'type: "Deconvolution" convolution_param { num_output: 6 kernel_size: 2 stride: 2 group: 2 }',
    "pool, rounding up": 'type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }',
    "pool, padded": 'type: "Pooling" pooling_param { kernel_size: 3 stride: 2 pad: 1 }',
    "pool, last window dropped": 'type: "Pooling" pooling_param { kernel_size: 2 stride: 3 pad: 1 }',
    "pool, stride over kernel": 'type: "Pooling" pooling_param { kernel_size: 2 stride: 4 }',
    "average": 'type: "Pooling" pooling_param { pool: AVE kernel_size: 2 stride: 2 }',
    "average, padded": 'type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }',
    "average, rounding up and padded": 'type: "Pooling" pooling_param { pool: AVE kernel_size: 4 stride: 3 pad: 1 }',
    "global average": 'type: "Pooling" pooling_param { pool: AVE global_pooling: true }',
    "global max": 'type: "Pooling" pooling_param { global_pooling: true }',
    "inner product": 'type: "InnerProduct" inner_product_param { num_output: 5 }',
    "inner product, transposed": 'type: "InnerProduct" inner_product_param { num_output: 5 transpose: true bias_term: false }',
    "inner product by row": 'type: "InnerProduct" inner_product_param { num_output: 5 axis: 2 }',
    "flatten": 'type: "Flatten"',
    "flatten the rest": 'type: "Flatten" flatten_param { axis: 2 }',
    "reshape": 'type: "Reshape" reshape_param { shape { dim: 0 dim: -1 dim: 7 } }',
    "permute": 'type: "Permute" permute_param { order: 0 order: 2 order: 3 order: 1 }',
    "softmax": 'type: "Softmax"',
    "softmax over the last": 'type: "Softmax" softmax_param { axis: -1 }',
    "normalize": 'type: "Normalize" norm_param { across_spatial: false channel_shared: false }',
    "normalize whole": 'type: "Normalize" norm_param { across_spatial: true channel_shared: true }',
    "batch norm": 'type: "BatchNorm"',
    "scale": 'type: "Scale" scale_param { bias_term: true }',
    "scale, no axis": 'type: "Scale" scale_param { num_axes: 0 }',
    "scale, last axes": 'type: "Scale" scale_param { axis: 2 num_axes: -1 }',
    "bias": 'type: "Bias"',
    "lrn": 'type: "LRN" lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 k: 2 }',
    "relu": 'type: "ReLU"',
    "leaky relu": 'type: "ReLU" relu_param { negative_slope: 0.1 }',
    "prelu": 'type: "PReLU"',
    "prelu, shared": 'type: "PReLU" prelu_param { channel_shared: true }',
    "elu": 'type: "ELU" elu_param { alpha: 0.7 }',
    "sigmoid": 'type: "Sigmoid"',
    "tanh": 'type: "TanH"',
    "abs": 'type: "AbsVal"',
    "bnll": 'type: "BNLL"',
    "power": 'type: "Power" power_param { power: 2 scale: 0.5 shift: 1 }',
    "power, a constant": 'type: "Power" power_param { power: -3 scale: 0 shift: 2 }',
    "power, 1 / 0": 'type: "Power" power_param { power: -1 scale: 0 }',
    "power, a root of a negative number": 'type: "Power" power_param { power: 0.5 scale: 0 shift: -2 }',
    "power, beyond float32": 'type: "Power" power_param { power: 400 scale: 0 shift: 9 }',
    "exp": 'type: "Exp" exp_param { base: 2 scale: 0.5 shift: 1 }',
    "log": 'type: "Log" log_param { base: 10 scale: 0.1 shift: 20 }',
    "dropout": 'type: "Dropout"',
}  # fmt: skip


@pytest.mark.parametrize("name", list(LAYERS))
def test_layer(name: str) -> None:
    net = net_of(
        f"""layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 1 dim: 4 dim: 11 dim: 7 }} }} }}
            layer {{ name: "l" bottom: "x" top: "y" {LAYERS[name]} }}"""
    )
    model = onnx_model(net)
    for batch in (1, 3):
        x = np.random.default_rng(batch).normal(0, 3, (batch, 4, 11, 7)).astype(np.float32)
        (found,) = run(model, x=x)
        np.testing.assert_allclose(found, engine(net, x=x)["y"], rtol=1e-4, atol=1e-5)


JOINS = {
    "concat": 'layer { name: "l" type: "Concat" bottom: "x" bottom: "z" top: "y" }',
    "concat of last": 'layer { name: "l" type: "Concat" bottom: "x" bottom: "z" top: "y" concat_param { axis: -1 } }',
    "sum": 'layer { name: "l" type: "Eltwise" bottom: "x" bottom: "z" top: "y" }',
    "difference": 'layer { name: "l" type: "Eltwise" bottom: "x" bottom: "z" top: "y" eltwise_param { coeff: 1 coeff: -2 } }',
    "product": 'layer { name: "l" type: "Eltwise" bottom: "x" bottom: "z" top: "y" eltwise_param { operation: PROD } }',
    "max": 'layer { name: "l" type: "Eltwise" bottom: "x" bottom: "z" top: "y" eltwise_param { operation: MAX } }',
    "scale": 'layer { name: "l" type: "Scale" bottom: "x" bottom: "z" top: "y" scale_param { axis: 0 } }',
    "slices": """layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" slice_param { slice_point: 1 } }
        layer { name: "c" type: "Concat" bottom: "b" bottom: "a" bottom: "z" top: "y" }""",
    "in place, read twice": """layer { name: "r" type: "ReLU" bottom: "x" top: "x" }
        layer { name: "p" type: "Power" bottom: "x" top: "p" power_param { scale: 2 } }
        layer { name: "q" type: "ReLU" bottom: "p" top: "p" relu_param { negative_slope: 0.5 } }
        layer { name: "l" type: "Eltwise" bottom: "x" bottom: "p" bottom: "z" top: "y" }
        layer { name: "t" type: "TanH" bottom: "y" top: "y" }""",
    "crop": """layer { name: "pool" type: "Pooling" bottom: "z" top: "small" pooling_param { kernel_size: 3 stride: 2 } }
        layer { name: "l" type: "Crop" bottom: "x" bottom: "small" top: "y" crop_param { axis: 2 offset: 2 offset: 1 } }""",
}


@pytest.mark.parametrize("name", list(JOINS))
def test_joins(name: str) -> None:
    net = net_of(
        """layer { name: "in" type: "Input" top: "x" top: "z" input_param { shape { dim: 1 dim: 3 dim: 6 dim: 5 } } }"""
        + JOINS[name]
    )
    model = onnx_model(net)
    rng = np.random.default_rng(0)
    for batch in (1, 2):
        x, z = (rng.normal(size=(batch, 3, 6, 5)).astype(np.float32) for _ in "xz")
        (found,) = run(model, x=x, z=z)
        np.testing.assert_allclose(found, engine(net, x=x, z=z)["y"], rtol=1e-5, atol=1e-6)


def test_several_outputs_keep_their_names() -> None:
    net = net_of(
        """layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 4 dim: 2 dim: 2 } } }
           layer { name: "s" type: "Slice" bottom: "x" top: "b" top: "a" }"""
    )
    model = onnx_model(net)
    assert [output.name for output in model.graph.output] == net.outputs == ["a", "b"]
    x = np.random.default_rng(0).normal(size=(2, 4, 2, 2)).astype(np.float32)
    for name, found in zip(net.outputs, run(model, x=x), strict=True):
        np.testing.assert_array_equal(found, engine(net, x=x)[name])


# ---- DetectionOutput

HEAD = """
layer {{ name: "in" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 3 dim: 40 dim: 60 }} }} }}
layer {{ name: "loc" type: "Input" top: "loc" input_param {{ shape {{ dim: 1 dim: {locs} }} }} }}
layer {{ name: "conf" type: "Input" top: "conf" input_param {{ shape {{ dim: 1 dim: {confs} }} }} }}
layer {{ name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param {{ kernel_size: 10 stride: 10 }} }}
layer {{ name: "p1" type: "PriorBox" bottom: "pool" bottom: "data" top: "p1"
  prior_box_param {{ min_size: 12 max_size: 20 aspect_ratio: 2 {variance} }} }}
layer {{ name: "p2" type: "PriorBox" bottom: "pool" bottom: "data" top: "p2" prior_box_param {{ min_size: 25 {variance} }} }}
layer {{ name: "priors" type: "Concat" bottom: "p1" bottom: "p2" top: "priors" concat_param {{ axis: 2 }} }}
layer {{ name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "priors" top: "out"
  detection_output_param {{ num_classes: 4 {options} }} }}
"""
PRIORS = 4 * 6 * 5
VARIANCE = "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"


def head(options: str) -> Net:
    return net_of(HEAD.format(locs=4 * PRIORS, confs=4 * PRIORS, variance=VARIANCE, options=options))


def predictions(batch: int, sharpness: float = 2.0) -> dict[str, Any]:
    rng = np.random.default_rng(batch)
    scores = np.exp(rng.normal(0, sharpness, (batch, PRIORS, 4)))
    scores /= scores.sum(axis=2, keepdims=True)
    return {
        "data": np.zeros((batch, 3, 40, 60), np.float32),
        "loc": rng.normal(0, 0.5, (batch, 4 * PRIORS)).astype(np.float32),
        "conf": scores.reshape(batch, -1).astype(np.float32),
    }


def same_rows(found: Any, expected: Any) -> None:
    """The same detections; those whose scores agree to seven digits may be in either order."""
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found[0, 0, :, :2], expected[0, 0, :, :2])
    np.testing.assert_allclose(found[0, 0, :, 2], expected[0, 0, :, 2], rtol=1e-4, atol=1e-5)
    assert matching(found, expected) == len(found[0, 0])


def matching(found: Any, expected: Any) -> int:
    """How many rows of `found` are in `expected`, each counted once."""
    near = np.isclose(found[0, 0, :, None], expected[0, 0], rtol=1e-4, atol=1e-5).all(axis=2)
    taken = np.zeros(len(expected[0, 0]), dtype=bool)
    for candidates in near:
        free = np.flatnonzero(candidates & ~taken)
        taken[free[:1]] = True
    return int(taken.sum())


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
    (found,) = run(onnx_model(net), **inputs)
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
    for found in run(model, **inputs):
        same_rows(found, engine(net, **inputs)["out1"])


def test_nothing_found() -> None:
    """No detections in any image: one row each, with its id and −1. In one of several: no row for it."""
    net = head("confidence_threshold: 0.9 code_type: CENTER_SIZE keep_top_k: 20")
    model = onnx_model(net)
    inputs = predictions(3)
    inputs["conf"][:] = 0.25
    (found,) = run(model, **inputs)
    np.testing.assert_array_equal(found[0, 0], [[i, -1, -1, -1, -1, -1, -1] for i in range(3)])
    same_rows(found, engine(net, **inputs)["out"])
    inputs["conf"][1, 1] = 0.95
    (found,) = run(model, **inputs)
    assert found[0, 0, :, :2].tolist() == [[1, 1]]
    same_rows(found, engine(net, **inputs)["out"])


def test_equal_scores_go_to_the_lower_index() -> None:
    net = head(
        "confidence_threshold: 0.1 nms_param { nms_threshold: 0.45 top_k: 20 } keep_top_k: 12 code_type: CENTER_SIZE"
    )
    inputs = predictions(2)
    inputs["conf"] = np.round(inputs["conf"] * 4) / 4
    (found,) = run(onnx_model(net), **inputs)
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
    for name, found in zip(("mbox_conf_flatten", "mbox_loc"), run(model, data=images(2)), strict=True):
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
    (found,) = run(onnx_model(net), data=image)
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


@pytest.mark.parametrize(
    ("shape", "kernel"), [((1, 4, 7, 6, 2, 2), 3), ((1, 3, 99, 99), 60)], ids=["four axes", "large windows"]
)
def test_windows_that_would_be_too_many_filters_are_refused(shape: tuple[int, ...], kernel: int) -> None:
    dims = " ".join(f"dim: {size}" for size in shape)
    net = net_of(
        f"""layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}
        layer {{ name: "l" type: "Im2col" bottom: "x" top: "y" convolution_param {{
            kernel_size: {kernel} pad: 1 stride: 50 }} }}"""
    )
    with pytest.raises(CaffeError, match=r"'l' \(Im2col\).* would be a convolution with [\d,]+ filters"):
        onnx_model(net)


def test_nets_that_read_their_own_data_are_refused() -> None:
    net = net_of('layer { name: "p" type: "Parameter" top: "x" parameter_param { shape { dim: 2 } } }')
    with pytest.raises(CaffeError, match="has no input: it reads its data itself. Export the deploy net"):
        onnx_model(net)


def test_nothing_is_left_of_a_failed_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } } } '
        'layer { name: "l" type: "HDF5Output" bottom: "x" bottom: "x" hdf5_output_param { file_name: "x.h5" } }'
    )
    net = Net(read_net(tmp_path / "net.prototxt"), 1)
    save(net, str(tmp_path / "w.caffemodel"))
    (tmp_path / "x.h5").unlink()  # which a net that may write makes
    flags = ["-model", str(tmp_path / "net.prototxt"), "-weights", str(tmp_path / "w.caffemodel")]
    assert main([*flags, "-out", str(tmp_path / "net.onnx")]) == 1
    assert "layer 'l' (HDF5Output) cannot be exported" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.prototxt", "w.caffemodel"]
