"""CUDA graphs, recorded and replayed on the CPU; and on a GPU if there is one."""

from __future__ import annotations

import pytest
import torch
from google.protobuf import text_format
from torch import Tensor

from caffe.engine import acceleration
from caffe.engine.cuda_graph import GraphedForward, StaticInputs, capturable_steps, compilable_steps, label_blobs
from caffe.engine.net import Net
from caffe.proto import caffe_pb2
from caffe.runtime import runtime
from tests.narrow import narrow_deploy, narrow_train
from tests.recording import CpuRecorder

SMALL = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 12 dim: 12 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {
  num_output: 8 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "priors" type: "PriorBox" bottom: "conv" bottom: "data" top: "priors"
  prior_box_param { min_size: 4 max_size: 6 variance: 0.1 step: 1 } }
layer { name: "loc" type: "Convolution" bottom: "conv" top: "loc" convolution_param {
  num_output: 8 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "loc_p" type: "Permute" bottom: "loc" top: "loc_p" permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_f" type: "Flatten" bottom: "loc_p" top: "loc_f" }
layer { name: "conf" type: "Convolution" bottom: "conv" top: "conf" convolution_param {
  num_output: 6 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "conf_p" type: "Permute" bottom: "conf" top: "conf_p" permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_f" type: "Flatten" bottom: "conf_p" top: "conf_f" }
layer { name: "out" type: "DetectionOutput" bottom: "loc_f" bottom: "conf_f" bottom: "priors" top: "out"
  detection_output_param { num_classes: 3 keep_top_k: 20 confidence_threshold: %s nms_param { top_k: 50 }
    code_type: CENTER_SIZE } }
"""


def small(threshold: float = 0.3, extra: str = "") -> Net:
    return Net(text_format.Parse(SMALL % threshold + extra, caffe_pb2.NetParameter()), 1)


def image(seed: int, *shape: int) -> dict[str, Tensor]:
    return {"data": torch.randn(shape or (1, 3, 12, 12), generator=torch.Generator().manual_seed(seed))}


@torch.no_grad()
def test_forward_replayed_gives_each_batch_its_own_detections() -> None:
    net = small()
    graphed = GraphedForward(net, CpuRecorder())
    results = []
    for seed, shape in ((0, ()), (1, ()), (2, (3, 3, 12, 12)), (3, ()), (4, (1, 3, 20, 16))):
        batch = image(seed, *shape)
        expected = net(batch, keep=["conf"])[1]
        _, found = graphed(batch, frozenset({"conf"}))
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=0)
        results.append((found["out"], expected["out"]))
    assert len({r.shape for r, _ in results}) > 1, "the number of detections must differ between images"
    for kept, expected_rows in results:  # a replay does not change the results of an earlier one
        assert torch.equal(kept, expected_rows)


@torch.no_grad()
def test_no_detections_is_a_row_an_image() -> None:
    net = small(threshold=1e9)
    batch = image(0, 2, 3, 12, 12)
    _, found = GraphedForward(net, CpuRecorder())(batch, frozenset())
    assert torch.equal(found["out"], net(batch)[1]["out"])
    assert found["out"][0, 0, :, :2].tolist() == [[0, -1], [1, -1]]


@torch.no_grad()
def test_one_recording_a_shape_until_the_weights_move() -> None:
    net, recorder = small(), CpuRecorder()
    graphed = GraphedForward(net, recorder)
    for seed in range(3):
        graphed(image(seed), frozenset())
    assert recorder.warm_ups == 2
    weight = net.learnable_params[0]
    weight.mul_(2)  # in place: the recording reads the new weights
    assert torch.equal(graphed(image(0), frozenset())[1]["out"], net(image(0))[1]["out"])
    assert recorder.warm_ups == 2
    weight.data = weight.data * 0.5  # in other memory, as after sharing weights
    assert torch.equal(graphed(image(0), frozenset())[1]["out"], net(image(0))[1]["out"])
    assert recorder.warm_ups == 4


@torch.no_grad()
def test_what_no_graph_can_hold_runs_one_by_one_and_is_said_once(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLOG_minloglevel", raising=False)
    net = small(
        extra="""
        layer { name: "scores" type: "Reduction" bottom: "data" top: "scores" reduction_param { axis: 1 } }
        layer { name: "column" type: "Reshape" bottom: "scores" top: "column" reshape_param { shape { dim: -1 dim: 1 } } }
        layer { name: "clip" type: "ReLU" bottom: "column" top: "clip" }
        layer { name: "chosen" type: "Filter" bottom: "loc_f" bottom: "clip" top: "chosen" }
        layer { name: "double" type: "Power" bottom: "chosen" top: "double" power_param { scale: 2 } }"""
    )
    graphed = GraphedForward(net, CpuRecorder())
    assert capfd.readouterr().err.count("CUDA graph") == 1
    count, reason = capturable_steps(net.steps)
    assert net.steps[count].layer.name == "chosen"
    assert reason == "layer 'chosen' (Filter) has tops whose sizes depend on values"
    sizes = set()
    for seed in range(6):
        batch = image(seed, 4, 3, 12, 12)
        expected, (_, found) = net(batch)[1], graphed(batch, frozenset())
        assert torch.equal(found["double"], expected["double"])
        assert torch.equal(found["out"], expected["out"])
        sizes.add(len(found["double"]))
    assert len(sizes) > 1


@torch.no_grad()
def test_what_reads_detections_waits_until_those_not_in_use_are_cut_off(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLOG_minloglevel", raising=False)
    net = small(
        extra="""
        layer { name: "total" type: "Reduction" bottom: "out" top: "total" }
        layer { name: "copy" type: "Power" bottom: "out" top: "copy" power_param { shift: 1 } }"""
    )
    graphed = GraphedForward(net, CpuRecorder())
    assert "'out_out_0_split' (Split) reads 'out', whose size depends on values" in capfd.readouterr().err
    for seed in range(4):
        expected, (_, found) = net(image(seed))[1], graphed(image(seed), frozenset({"out"}))
        for name in ("total", "copy"):
            assert torch.equal(found[name], expected[name])
        assert torch.equal(found["out"] + 1, found["copy"])


LSTM = """
layer { name: "x" type: "Input" top: "x" top: "cont"
  input_param { shape { dim: 3 dim: 2 dim: 4 } shape { dim: 3 dim: 2 } } }
layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "cont" top: "h"
  recurrent_param { num_output: 5 weight_filler { type: "xavier" } } }
"""


@torch.no_grad()
def test_a_recurrent_layer_goes_on_from_the_pass_before() -> None:
    nets = [Net(text_format.Parse(LSTM, caffe_pb2.NetParameter()), 1) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    graphed = GraphedForward(nets[1], CpuRecorder())
    assert compilable_steps(nets[1].steps) == 1
    seen = []
    for _ in range(4):
        batch = {"x": torch.ones(3, 2, 4), "cont": torch.ones(3, 2)}
        expected, (_, found) = nets[0](batch)[1], graphed(batch, frozenset())
        assert torch.equal(found["h"], expected["h"])
        seen.append(found["h"])
    assert not torch.equal(seen[0], seen[1]), "the state ought to have changed"


def test_static_inputs_pad_labels_with_rows_of_no_image() -> None:
    label = torch.arange(16, dtype=torch.float32).view(1, 1, 2, 8)
    inputs = StaticInputs({"data": torch.zeros(1, 3), "label": label}, frozenset({"label"}))
    inputs.fill({"data": torch.ones(1, 3), "label": label})
    assert inputs.tensors["label"].shape == (1, 1, 64, 8)
    assert torch.equal(inputs.tensors["label"][:, :, :2], label)
    assert bool((inputs.tensors["label"][:, :, 2:] == -1).all())
    place = inputs.tensors["label"].data_ptr()
    inputs.fill({"data": torch.ones(1, 3), "label": label[:, :, :1] + 5})
    assert bool((inputs.tensors["label"][:, :, 1:] == -1).all()), "a fuller batch before must leave nothing behind"
    assert inputs.tensors["label"].data_ptr() == place
    assert inputs.fit({"data": torch.ones(1, 3), "label": torch.zeros(1, 1, 64, 8)})
    assert not inputs.fit({"data": torch.ones(1, 3), "label": torch.zeros(1, 1, 65, 8)})
    assert not inputs.fit({"data": torch.ones(2, 3), "label": label})
    assert StaticInputs({"label": torch.zeros(1, 1, 65, 8)}, frozenset({"label"})).tensors["label"].shape[2] == 128


def test_only_labels_of_the_loss_are_padded() -> None:
    net = Net(narrow_train(), 0)
    assert label_blobs(net.steps) == {"label"}
    assert label_blobs(small().steps) == frozenset()
    param = narrow_train()
    param.layer.add(name="seen", type="Power", bottom=["label"], top=["seen"])
    assert label_blobs(Net(param, 0).steps) == frozenset(), "padding would be visible in 'seen'"


@pytest.mark.gpu
@pytest.mark.usefixtures("nets_on_gpu")
@torch.no_grad()
def test_deploy_net_on_a_gpu() -> None:
    """Through Net's own forward: captured by CUDA, and equal to running layer by layer."""
    acceleration.use(graph=True)
    net = Net(narrow_deploy(), 1)
    for seed in range(4):
        batch = {"data": image(seed, 1, 3, 300, 300)["data"].cuda() * 50}
        found = net(batch)[1]["detection_out"]
        runtime.graph = False
        expected = net(batch)[1]["detection_out"]
        runtime.graph = True
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert net._cuda_graph is not None
