"""Every layer type against its NumPy reference: values, gradients, and shapes that change after set-up."""

from __future__ import annotations

import pytest
import torch

from caffe.engine.layer import layer_class, layer_types
from tests.layer_harness import Case, run, spread_out
from tests.layers.cases import CASES
from tests.layers.comparison import assert_as_reference, assert_gradient, drawn

#: types without a reference here: they have their own tests
ELSEWHERE = {"HDF5Output"}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_equals_the_reference(case: Case) -> None:
    assert_as_reference(case, resized=False)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_layer_takes_other_sizes_after_set_up(case: Case) -> None:
    assert_as_reference(case, resized=True)


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_on_a_gpu_equals_the_reference(case: Case) -> None:
    assert_as_reference(case, resized=False, device="cuda")


#: the layers of detection networks, whose training step compiles as one graph
IN_DETECTORS = [
    *("Convolution", "Deconvolution", "Pooling", "ReLU", "Dropout", "BatchNorm", "Scale", "Eltwise", "InnerProduct"),
    *("Concat", "Slice", "Flatten", "Reshape", "Permute", "Softmax", "SoftmaxWithLoss", "EuclideanLoss"),
]


@pytest.mark.parametrize("kind", IN_DETECTORS)
def test_a_layer_traces_without_a_break(kind: str) -> None:
    case = next(c for c in CASES if c.type == kind)
    layer = spread_out(case.layer())
    bottoms = [torch.from_numpy(a) for a in drawn(case)]
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="eager", fullgraph=True, dynamic=False)(*bottoms)
    for ours, theirs in zip(
        run(layer, *bottoms), compiled if isinstance(compiled, tuple) else (compiled,), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


#: no gradient at all, or one that is not the derivative: see test_gradients.py
NOT_DERIVATIVES = {"Threshold", "ArgMax", "Accuracy", "Silence", "HDF5Output"}


@pytest.mark.parametrize("case", [c for c in CASES if c.type not in NOT_DERIVATIVES], ids=str)
def test_gradient_equals_small_steps(case: Case) -> None:
    assert_gradient(case)


def test_every_type_has_a_case() -> None:
    here = {c.type for c in CASES} | ELSEWHERE
    engine = {"Input", "Split", "Python"}
    data = {"Data", "AnnotatedData", "ImageData", "MemoryData", "HDF5Data", "DummyData", "WindowData", "VideoData"}
    detection = {"Normalize", "PriorBox", "MultiBoxLoss", "DetectionOutput", "DetectionEvaluate"}
    forks = {name for name in layer_types() if ".forks." in layer_class(name, "").__module__}  # see forks/test_forks.py
    assert set(layer_types()) - engine - data - detection - forks == here
