"""Every layer type: exported and equal in ONNX Runtime, or refused with a message that names it."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format
from numpy.typing import NDArray

from caffe.engine.layer import TEST, layer_class, layer_types
from caffe.engine.net import Net
from caffe.proto import caffe_pb2
from tests.export.runs import engine, run
from tests.layer_harness import Case, spread_out
from tests.layers.cases import CASES as CAFFES
from tests.layers.forks.cases import CASES as FORKS
from tests.layers.forks.cases_masks import CASES as MASKS

# without onnx, the lines above skip this module
# isort: split
from caffe.export.onnx_model import onnx_model
from caffe.export.registry import ExportError, converter

CASES = [case for case in (*CAFFES, *FORKS) if not layer_class(case.type, "").constant_tops]
#: of those with cases: what has no place in a net that is exported, and why
REFUSED = {
    "Accuracy": "there is no conversion for this type. There is one for AbsVal",
    **dict.fromkeys(
        ("SoftmaxWithLoss", "SigmoidCrossEntropyLoss", "EuclideanLoss", "SmoothL1Loss", "HingeLoss", "InfogainLoss",
         "MultinomialLogisticLoss", "ContrastiveLoss", "SoftmaxWithLossOHEM", "SmoothL1LossOHEM", "RegionLoss", "L1Loss",
         "Yolov3", "CenterLoss", "SigmoidCrossEntropyBalanceLoss", "GeneralContrastiveLoss", "GeneralTripletLoss",
         "DetectionLoss", "DetectionGroupLoss", "FocalLoss"),
        "it is for training; export the deploy net",
    ),
    **dict.fromkeys(
        ("BoxAnnotatorOHEM", "BoxGroupOutput", "BoxOutput", "DecodeBBox", "ImResize", "MarginInnerProduct", "Nms",
         "ROIAlign", "ROIWarping", "ScaleRoute", "SegAccuracy", "DetectionAccuracy", "DetectionGroupAccuracy",
         "ProposalTarget", "BboxAccuracy", "FrcnnOutput", "HardMining"),
        "there is no conversion for this type",
    ),
    **dict.fromkeys(
        ("DeformableConvolution", "ModulatedDeformableConvolution"),
        "ONNX has deformable convolutions from opset 19 on, and models are written for opset 17",
    ),
    "PSROIPooling": "ONNX has no pooling in which each cell has channels of its own",
}  # fmt: skip
FIXED_BATCH = {
    "Convolution convolution_param { num_output: 3 kernel_size: 3 axis: 2 } 2x2x3x5x4",
    "Scale scale_param { axis: 2 bias_term: true } 2x3x4x5+4",
    "Concat concat_param { concat_dim: 0 } 2x3x4x5+1x3x4x5",
    "Slice slice_param { slice_dim: 0 } 2x3x4x5",
    "Flatten flatten_param { axis: 0 end_axis: -2 } 2x3x4x5",
    "Permute permute_param { order: 3 } 2x3x4x5",
    "InnerDistance plain 3x4+5x4x1x1",
    "InnerDistance inner_distance_param { distance_type: 'L1' } 3x4+5x2x2",
    "InnerDistance inner_distance_param { update_center_only: true } 3x4+5x4+3",
    "InnerProduct inner_product_param { bias_term: false } 4x5+3x5x1x1",
    "InnerProduct inner_product_param { axis: 2 } 4x2x6+3x2x3+3",
    "LSTMUnit plain 1x2x3+1x2x12+1x2",
    "RNN recurrent_param { num_output: 3 } 3x2x4+3x2",
    "RNN recurrent_param { num_output: 3 } 3x2x2x2+3x2+2x5",
    "RNN recurrent_param { num_output: 3 expose_hidden: true } 3x2x4+3x2+1x2x3",
    "LSTM recurrent_param { num_output: 3 } 3x2x4+3x2",
    "LSTM recurrent_param { num_output: 3 } 3x2x2x2+3x2+2x5",
    "LSTM recurrent_param { num_output: 3 expose_hidden: true } 3x2x4+3x2+1x2x3+1x2x3",
}
#: without cases there: sources of data, layers that write or score, and those with tests of their own
SOURCES = {"Data", "AnnotatedData", "ImageData", "MemoryData", "HDF5Data", "WindowData", "VideoData", "DenseImageData",
           "ImageGtData", "ImageLabelmapData", "ImageSegData"}  # fmt: skip
ELSEWHERE = {"DetectionOutput", "DummyData", "Input", "Normalize", "PriorBox", "PriorBoxClustered", "Split"}


def refusal(case: Case) -> str | None:
    """Why the case cannot be exported; None if it can."""
    if case.type == "Upsample" and len(case.bottoms) > 1:
        return "with a mask as second bottom"
    if case.type == "BN" and case.tops > 1:
        return "the batch's statistics as tops have no conversion"
    return REFUSED.get(case.type)


def net_of(case: Case) -> Net:
    """A TEST net of the case's layer alone, its bottoms as inputs."""
    tops = "".join(f'top: "y{i}" ' for i in range(case.tops))
    bottoms = "".join(f'bottom: "x{i}" ' for i in range(len(case.bottoms)))
    inputs = "".join(
        f'layer {{ name: "x{i}" type: "Input" top: "x{i}" input_param {{ shape {{ {dims(bottom.shape)} }} }} }}'
        for i, bottom in enumerate(case.bottoms)
    )
    text = f'{inputs} layer {{ name: "l" type: "{case.type}" {bottoms} {tops} {case.text} }}'
    net = Net(text_format.Parse(text, caffe_pb2.NetParameter()), TEST)
    layer = spread_out(net.steps[-1].layer)
    net.float()
    if case.type == "BatchNorm":
        for blob, value in zip(layer.blobs, (0.7, 2.1, 1.4), strict=True):
            blob.data.fill_(value)
    return net


def dims(shape: tuple[int, ...]) -> str:
    return " ".join(f"dim: {size}" for size in shape)


def values(case: Case, larger: int = 0) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(3)
    shapes = [(bottom.shape[0] + larger, *bottom.shape[1:]) if bottom.shape else () for bottom in case.bottoms]
    arrays = [bottom.values(rng, shape) for bottom, shape in zip(case.bottoms, shapes, strict=True)]
    return {f"x{i}": array.astype(np.float32) for i, array in enumerate(arrays)}


@pytest.mark.parametrize("case", [case for case in CASES if case.bottoms and case.tops], ids=str)
def test_equal_or_refused(case: Case) -> None:
    """A model with a batch of any size is also run with one item more."""
    net = net_of(case)
    if reason := refusal(case):
        with pytest.raises(ExportError, match=rf"layer 'l' \({case.type}\) cannot be exported: {reason}"):
            onnx_model(net)
        return
    model = onnx_model(net)
    fixed = "The batch is fixed: layer 'l'" in model.doc_string
    for larger in (0,) if fixed else (0, 1):
        inputs = values(case, larger)
        expected = engine(net, **inputs)
        found = run(model, **inputs)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name].shape == value.shape
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)


def test_what_fixes_the_batch() -> None:
    """Recurrent layers, and options that mix the batch with other axes; all others take any number of images."""
    exported = [case for case in CASES if case.bottoms and case.tops and not refusal(case)]
    fixed = {str(case) for case in exported if "The batch is fixed" in onnx_model(net_of(case)).doc_string}
    assert fixed == FIXED_BATCH


def test_no_type_is_forgotten() -> None:
    """Types without a case here are refused by name: they read data, write files, train or score."""
    here = {case.type for case in CASES} | ELSEWHERE
    for kind in sorted(set(layer_types()) - here):
        net = net_of(next(case for case in CASES if case.type == "AbsVal"))
        layer = net.steps[-1].layer
        layer.__class__ = type(kind, (type(layer),), {"type_name": kind})
        with pytest.raises(ExportError, match=rf"layer 'l' \({kind}\) cannot be exported: "):
            converter(layer)
    assert set(layer_types()) > SOURCES


@pytest.mark.parametrize("case", [c for c in MASKS if c.type == "PriorBoxClustered"], ids=str)
def test_priors_become_constants(case: Case) -> None:
    """They are added to a blob, because a graph of constants alone does not run."""
    arrays = [np.zeros(bottom.shape) for bottom in case.bottoms]
    expected = case.reference(case.layer().param, arrays, [], TEST)[0]
    inputs = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims(array.shape)} }} }} }}'
        for name, array in zip(("x0", "x1", "z"), (*arrays, expected), strict=True)
    )
    text = f"""{inputs} layer {{ name: "l" type: "{case.type}" bottom: "x0" bottom: "x1" top: "p" {case.text} }}
               layer {{ name: "e" type: "Eltwise" bottom: "z" bottom: "p" top: "y" }}"""
    model = onnx_model(Net(text_format.Parse(text, caffe_pb2.NetParameter()), TEST))
    z = np.random.default_rng(0).normal(size=expected.shape).astype(np.float32)
    feature, image = (array.astype(np.float32) for array in arrays)
    found = run(model, z=z, x0=feature, x1=image)["y"]
    np.testing.assert_allclose(found, z + expected, rtol=1e-5, atol=1e-5)


def test_constant_sources_become_constants() -> None:
    net = Net(
        text_format.Parse(
            """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
               layer { name: "c" type: "DummyData" top: "c" dummy_data_param {
                 shape { dim: 2 dim: 3 } data_filler { type: "constant" value: 2.5 } } }
               layer { name: "l" type: "Eltwise" bottom: "x" bottom: "c" top: "y" }""",
            caffe_pb2.NetParameter(),
        ),
        TEST,
    )
    x = np.ones((2, 3), np.float32)
    model = onnx_model(net)
    assert "The batch is fixed" in model.doc_string
    np.testing.assert_array_equal(run(model, x=x)["y"], x + 2.5)
    net.steps[1].layer.param.dummy_data_param.data_filler[0].type = "gaussian"
    with pytest.raises(ExportError, match="its values are random; use constant fillers"):
        onnx_model(net)
