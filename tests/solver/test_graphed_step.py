"""Training iterations as one graph, with a recorder for the CPU: same numbers as iterations that run one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from google.protobuf import text_format
from torch import Tensor

from caffe.engine import acceleration
from caffe.engine.net import Net
from caffe.proto import caffe_pb2
from caffe.solver.graphed_step import WARM_UPS, GraphedStep, obstacle
from caffe.solver.solver import Solver
from caffe.solver.updates import RULES, rule_for
from tests.recording import CpuRecorder

NET = """
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 2 dim: 3 dim: 12 dim: 12 } shape { dim: 1 dim: 1 dim: 1 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 stride: 2 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "norm" type: "Normalize" bottom: "conv" top: "norm"
  norm_param { across_spatial: false channel_shared: false scale_filler { type: "constant" value: 5 } } }
layer { name: "priors" type: "PriorBox" bottom: "norm" bottom: "data" top: "priors"
  prior_box_param { min_size: 4 max_size: 6 variance: 0.1 } }
layer { name: "loc" type: "Convolution" bottom: "norm" top: "loc"
  convolution_param { num_output: 8 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "loc_p" type: "Permute" bottom: "loc" top: "loc_p" permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_f" type: "Flatten" bottom: "loc_p" top: "loc_f" }
layer { name: "conf" type: "Convolution" bottom: "norm" top: "conf"
  convolution_param { num_output: 6 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "conf_p" type: "Permute" bottom: "conf" top: "conf_p" permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_f" type: "Flatten" bottom: "conf_p" top: "conf_f" }
layer { name: "loss" type: "MultiBoxLoss" bottom: "loc_f" bottom: "conf_f" bottom: "priors" bottom: "label" top: "loss"
  propagate_down: true propagate_down: true propagate_down: false propagate_down: false
  multibox_loss_param { num_classes: 3 overlap_threshold: 0.3 code_type: CENTER_SIZE } }
"""
#: the rate changes within the run, so a rate that is fixed in a recording would be noticed
SOLVER = 'base_lr: 0.05 lr_policy: "step" stepsize: 2 gamma: 0.5 weight_decay: 0.01 '


def net() -> Net:
    torch.manual_seed(3)
    return Net(text_format.Parse(NET, caffe_pb2.NetParameter()), 0)


def batch(seed: int, boxes: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.zeros(boxes, 8)
    rows[:, 0] = torch.arange(boxes) % 2
    rows[:, 1] = 1 + torch.arange(boxes) % 2
    corner = torch.rand(boxes, 2, generator=generator) * 0.5
    rows[:, 3:5], rows[:, 5:7] = corner, corner + 0.4
    order = rows[:, 0].argsort(stable=True)
    return {
        "data": torch.randn(2, 3, 12, 12, generator=generator),
        "label": rows[order].reshape(1, 1, boxes, 8),
    }


def solver_parameter(text: str) -> Any:
    return text_format.Parse(SOLVER + text, caffe_pb2.SolverParameter())


def one_by_one(model: Net, rule: Any, batches: list[dict[str, Tensor]], rate: float, iteration: int) -> float:
    for parameter in model.learnable_params:
        parameter.grad = None
    total = 0.0
    for each in batches:
        loss, _ = model(each)
        loss.backward()
        total += float(loss.detach())
    rule.apply(rate, iteration)
    return total


@pytest.mark.parametrize("text", [*(f'type: "{name}"' for name in RULES), "iter_size: 3", "clip_gradients: 0.5"])
def test_replayed_iterations_train_as_those_run_one_by_one(text: str) -> None:
    if "type" not in text or "SGD" in text or "Nesterov" in text:
        text += " momentum: 0.9"
    param = solver_parameter(text)
    models = net(), net()
    rules = [rule_for(param.type)(param, m.learnable_params, m.params_lr, m.params_weight_decay) for m in models]
    graphed = GraphedStep(models[1], rules[1], param.iter_size, recorder=CpuRecorder())
    seed = 0
    for iteration in range(WARM_UPS + 5):
        batches = []
        for _ in range(param.iter_size):
            batches.append(batch(seed, boxes=1 + seed % 7))
            seed += 1
        rate = 0.05 * 0.5 ** (iteration // 2)
        expected = one_by_one(models[0], rules[0], batches, rate, iteration)
        found, outputs = graphed.run(batches, rate, iteration)
        assert found == pytest.approx(expected, rel=1e-5)
        assert outputs.keys() == {"loss"}
    assert graphed.recordings == 1
    for expected_blob, blob in zip(models[0].learnable_params, models[1].learnable_params, strict=True):
        torch.testing.assert_close(blob, expected_blob, rtol=1e-5, atol=1e-6)
    for expected_history, history in zip(rules[0].history, rules[1].history, strict=True):
        torch.testing.assert_close(history, expected_history, rtol=1e-4, atol=1e-7)


def test_more_boxes_than_ever_and_another_size_are_recorded_anew() -> None:
    param = solver_parameter("momentum: 0.9")
    model = net()
    rule = rule_for("SGD")(param, model.learnable_params, model.params_lr, model.params_weight_decay)
    graphed = GraphedStep(model, rule, recorder=CpuRecorder())
    for boxes, recordings in ((5, 1), (60, 1), (70, 2), (5, 2), (128, 2), (129, 3)):
        for i in range(WARM_UPS + 1):
            graphed.run([batch(i, boxes)], 0.01, i)
        assert graphed.recordings == recordings, boxes


def test_padding_leaves_the_loss_as_it_was() -> None:
    model = net()
    given = batch(0, 5)
    padded = {**given, "label": torch.cat([given["label"], torch.full((1, 1, 59, 8), -1.0)], 2)}
    losses = [model(each)[0] for each in (given, padded)]
    gradients = [torch.autograd.grad(loss, model.learnable_params) for loss in losses]
    assert torch.equal(*losses)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_reasons_to_run_one_by_one() -> None:
    model = net()
    assert obstacle(solver_parameter(""), model, 1) is None
    assert "several ranks" in str(obstacle(solver_parameter(""), model, 2))
    plateau = solver_parameter("")
    plateau.lr_policy = "plateau"
    assert "plateau" in str(obstacle(plateau, model, 1))
    param = text_format.Parse(NET, caffe_pb2.NetParameter())
    param.layer.add(name="kept", type="Filter", bottom=["label_rows", "label_rows"], top=["kept"])
    param.layer.insert(1, caffe_pb2.LayerParameter(name="r", type="Reshape", bottom=["label"], top=["label_rows"]))
    param.layer[1].reshape_param.shape.dim.extend([-1, 1])
    assert "'kept' (Filter)" in str(obstacle(solver_parameter(""), Net(param, 0), 1))
    param = text_format.Parse(NET, caffe_pb2.NetParameter())
    out = param.layer.add(name="out", type="DetectionOutput", bottom=["loc_f", "conf_f", "priors"], top=["out"])
    out.detection_output_param.num_classes = 3
    assert "'out' (DetectionOutput) has tops whose" in str(obstacle(solver_parameter(""), Net(param, 0), 1))


def test_keeps_the_updates_where_a_snapshot_wants_them() -> None:
    param = solver_parameter("momentum: 0.9 snapshot_diff: true")
    model = net()
    rule = rule_for("SGD")(param, model.learnable_params, model.params_lr, model.params_weight_decay)
    graphed = GraphedStep(model, rule, keep_updates=True, recorder=CpuRecorder())
    for i in range(WARM_UPS + 2):
        before = [p.detach().clone() for p in model.learnable_params]
        graphed.run([batch(i, 3)], 0.01, i)
        for parameter in model.learnable_params:  # something drops the recording's gradients
            assert parameter.grad is not None
        for p, b in zip(model.learnable_params, before, strict=True):
            assert p.grad is not None
            torch.testing.assert_close(b - p.grad, p.detach(), rtol=1e-6, atol=1e-8)
            p.grad = None


def solver_on_gpu(tmp_path: Path) -> Solver:
    param = solver_parameter(f'momentum: 0.9 max_iter: 12 random_seed: 3 snapshot_prefix: "{tmp_path}/s"')
    param.net_param.CopyFrom(text_format.Parse(NET, caffe_pb2.NetParameter()))
    return Solver(param)


def train(solver: Solver, first: int, end: int) -> list[Tensor]:
    """Iterations `first` to `end`, each on its own batch; returns the weights."""
    for i in range(first, end):
        for name, value in batch(i, 3).items():
            solver.net.blobs[name].set_data(value.cuda())
        solver.step(1)
    return [p.detach().cpu().clone() for p in solver.net.learnable_params]


@pytest.mark.gpu
@pytest.mark.usefixtures("nets_on_gpu")
def test_solver_trains_on_a_gpu_as_without_a_graph(tmp_path: Path) -> None:
    weights = []
    for graph in (False, True):
        acceleration.use(graph=graph)
        solver = solver_on_gpu(tmp_path)
        weights.append(train(solver, 0, 8))
    assert solver._graphed is not None
    assert solver._graphed.recordings == 1
    for a, b in zip(*weights, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.usefixtures("nets_on_gpu")
def test_a_run_on_graphs_goes_on_from_a_snapshot(tmp_path: Path) -> None:
    """Both before and after the resumed solver has a recording: `restore` puts weights and history back."""
    acceleration.use(graph=True)
    whole = solver_on_gpu(tmp_path)
    train(whole, 0, 6)
    whole.snapshot()
    expected = train(whole, 6, 12)
    resumed = solver_on_gpu(tmp_path)
    for _ in range(2):
        resumed.restore(f"{tmp_path}/s_iter_6.solverstate")
        for a, b in zip(train(resumed, 6, 12), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert resumed._graphed is not None
