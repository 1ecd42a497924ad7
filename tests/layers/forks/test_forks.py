"""Layer types of other forks, and their options of Caffe's own types: values, gradients, no items, bad input."""

from __future__ import annotations

import pytest
import torch

from caffe.engine.layer import _registry, check_types
from caffe.errors import NetError
from tests.layer_harness import Case, Shape, make_layer, run
from tests.layers.comparison import assert_as_reference, assert_gradient
from tests.layers.forks.cases import CASES, MODULES

#: no gradient at all
WITHOUT_GRADIENT = {
    "BboxAccuracy", "BoxAnnotatorOHEM", "BoxGroupOutput", "BoxOutput", "DecodeBBox", "DetectionAccuracy",
    "DetectionGroupAccuracy", "FrcnnOutput", "HardMining", "ImResize", "Maximum", "Nms", "PriorBoxClustered", "Proposal",
    "ProposalTarget", "ScaleRoute", "SegAccuracy", "YoloDetectionOutput", "Yolov3DetectionOutput",
}  # fmt: skip
#: a gradient that is not the derivative of the top, and is tested by itself
OTHER_GRADIENT = {
    "CenterLoss", "ChannelScale", "DetectionGroupLoss", "DetectionLoss", "GeneralContrastiveLoss", "GeneralTripletLoss",
    "MarginInnerProduct", "RegionLoss", "Yolov3",
}  # fmt: skip
#: the least number of tops, where that is not 1
TOPS = {"BoxAnnotatorOHEM": 2, "ProposalTarget": 6}
#: Caffe's own, of which forks have options
OPTIONS = {"Dropout", "InnerProduct", "Normalize", "Pooling", "SmoothL1Loss", "SoftmaxWithLoss"}
#: tested by itself: it reads files, or computes in single precision (MultiBoxFocalLoss)
ELSEWHERE = {
    "DenseImageData", "DetectionData", "EvalData", "ImageGtData", "ImageLabelmapData", "ImageSegData",
    "MultiBoxFocalLoss",
}  # fmt: skip


@pytest.mark.parametrize("resized", [False, True], ids=["", "resized"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_equals_the_reference(case: Case, resized: bool) -> None:
    assert_as_reference(case, resized)


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_on_a_gpu_equals_the_reference(case: Case) -> None:
    assert_as_reference(case, resized=False, device="cuda")


def has_derivative(case: Case) -> bool:
    """Whether the gradient is the derivative of the top. Weights that are kept at length 1 have none of that."""
    return case.type not in WITHOUT_GRADIENT | OTHER_GRADIENT and "normalize: true" not in case.text


@pytest.mark.parametrize("case", [c for c in CASES if has_derivative(c)], ids=str)
def test_gradient_equals_small_steps(case: Case) -> None:
    assert_gradient(case)


def test_every_type_of_a_fork_has_a_case() -> None:
    wing = "caffe.engine.layer_types.forks."
    types = {name for name, kind in _registry.items() if kind.__module__.startswith(wing)}
    assert types - ELSEWHERE == {c.type for c in CASES} - OPTIONS


@pytest.mark.parametrize(("kind", "text", "shapes", "top"), [e for module in MODULES for e in module.EMPTY])
def test_an_empty_batch(kind: str, text: str, shapes: list[Shape], top: Shape) -> None:
    layer = make_layer(kind, text, shapes, TOPS.get(kind, 1))
    assert tuple(run(layer, *(torch.zeros(s) for s in shapes))[0].shape) == top


@pytest.mark.parametrize(("kind", "text", "shapes", "message"), [b for module in MODULES for b in module.BAD])
def test_bad_settings(kind: str, text: str, shapes: list[Shape], message: str) -> None:
    with pytest.raises(NetError, match=f"layer 'l' .{kind}.: .*{message}"):
        make_layer(kind, text, shapes, TOPS.get(kind, 1))


def test_unknown_types_are_named_at_once_with_the_fork() -> None:
    with pytest.raises(NetError) as caught:
        check_types([("a", "ReLU"), ("b", "DWConvolution"), ("c", "YoloSeg"), ("d", "Convolutoin"), ("e", "YoloSeg")])
    lines = str(caught.value).splitlines()
    assert lines[0] == "layer 'b': unknown layer type 'DWConvolution'. Did you mean 'Convolution'?"
    assert lines[1].startswith("layer 'c' (and 1 more): unknown layer type 'YoloSeg'. It comes from MobileNet-YOLO")
    assert lines[2] == "layer 'd': unknown layer type 'Convolutoin'. Did you mean 'Convolution'?"
    assert lines[3].startswith("docs/add_a_layer.md tells how to add a type. Known types: AbsVal,")
    for name in ("DepthwiseDeconvolution2", "ConvolutionDW", "DWConv", "DepthwiseConv"):
        with pytest.raises(NetError) as caught:
            check_types([("a", name)])
        assert "mean 'Deconvolution'" not in str(caught.value)
