"""The update rules against the original's weights after twelve steps, and their corner cases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from google.protobuf import text_format
from torch import Tensor

from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from caffe.solver.policies import LearningRatePolicy
from caffe.solver.updates import RULES, rule_for
from tests.golden.cases import case_files


def solver_parameter(text: str) -> Any:
    return text_format.Parse(text, caffe_pb2.SolverParameter())


def reference_net(weights: Mapping[str, Tensor], x: Tensor, t: Tensor) -> Tensor:
    """The net of the solver cases: convolution, ReLU, inner product, softmax loss."""
    hidden = F.relu(F.conv2d(x, weights["c_0"], weights["c_1"], padding=1)).flatten(1)
    return F.cross_entropy(F.linear(hidden, weights["f_0"], weights["f_1"]), t.long())


@pytest.mark.parametrize("file", case_files("solver"), ids=lambda file: file.stem)
def test_reference_solvers(file: Path) -> None:
    case = np.load(file)
    param = solver_parameter(json.loads(str(case["meta"]))["solver"])
    x, t = torch.tensor(case["x"]), torch.tensor(case["t"])
    names = ["c_0", "c_1", "f_0", "f_1"]
    weights = {n: torch.nn.Parameter(torch.tensor(case[f"{n}_init"])) for n in names}
    rule = rule_for(param.type)(param, list(weights.values()), [1, 2, 1, 2], [1, 0, 1, 0])
    policy = LearningRatePolicy(param)
    losses = []
    for iteration in range(12):
        for w in weights.values():
            w.grad = None
        total = 0.0
        for _ in range(param.iter_size):
            loss = reference_net(weights, x, t)
            loss.backward()
            total = loss.item()
        losses.append(total)
        rule.apply(policy.rate(iteration, total), iteration)
    np.testing.assert_allclose(losses, case["losses"], rtol=1e-5, atol=1e-6)
    for name in names:
        want = case[f"{name}_final"]
        error = np.linalg.norm(weights[name].detach().numpy() - want) / np.linalg.norm(want)
        assert error < 1e-5, f"{name}: {error:.2e}"


def one_step(text: str, grad: Tensor, **kw: Any) -> tuple[Tensor, Any]:
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    w.grad = grad.clone()
    param = solver_parameter(text)
    rule = rule_for(param.type)(param, [w], [kw.pop("lr_mult", 1.0)], [kw.pop("decay_mult", 1.0)])
    rule.apply(0.1, 0, **kw)
    return w, rule


def test_frozen_blob_stays_even_with_decay() -> None:
    w, rule = one_step("weight_decay: 0.5 momentum: 0.9", torch.ones(2), lr_mult=0.0)
    assert w.tolist() == [1.0, -2.0]
    assert rule.history[0].tolist() == [0.0, 0.0]


def test_blob_without_gradient_still_decays() -> None:
    w = torch.nn.Parameter(torch.tensor([1.0]))
    rule = rule_for("SGD")(solver_parameter("weight_decay: 0.5"), [w], [1.0], [1.0])
    rule.apply(0.1, 0)
    assert w.item() == pytest.approx(1 - 0.1 * 0.5)


def test_l1_pulls_by_the_sign() -> None:
    w, _ = one_step('weight_decay: 0.5 regularization_type: "L1"', torch.zeros(2))
    torch.testing.assert_close(w.detach(), torch.tensor([0.95, -1.95]))


def test_clipping_looks_at_all_blobs_together(capfd: pytest.CaptureFixture[str]) -> None:
    blobs = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    for blob, g in zip(blobs, (3.0, 4.0), strict=True):
        blob.grad = torch.tensor([g])
    rule_for("SGD")(solver_parameter("clip_gradients: 1"), blobs, [1.0, 2.0], [1.0, 1.0]).apply(1.0, 0)
    assert [b.item() for b in blobs] == pytest.approx([-0.6, -1.6])
    assert "scaling down gradients (L2 norm 5 > 1) by scale factor 0.2" in capfd.readouterr().err


def test_kept_updates_are_what_was_subtracted() -> None:
    for name in RULES:
        w, _ = one_step(f'type: "{name}"', torch.tensor([0.5, -1.5]), keep_updates=True)
        assert w.grad is not None
        torch.testing.assert_close(w.detach(), torch.tensor([1.0, -2.0]) - w.grad)


def test_second_history_comes_after_all_the_first() -> None:
    blobs = [torch.nn.Parameter(torch.zeros(n)) for n in (2, 3)]
    for blob in blobs:
        blob.grad = torch.full_like(blob, 2.0)
    rule = rule_for("Adam")(solver_parameter("momentum: 0.5 momentum2: 0.75"), blobs, [1.0, 1.0], [1.0, 1.0])
    rule.apply(0.1, 0)
    assert [len(h) for h in rule.history] == [2, 3, 2, 3]
    assert rule.history[1].tolist() == [1.0] * 3  # (1 - 0.5) · 2
    assert rule.history[3].tolist() == [1.0] * 3  # (1 - 0.75) · 2²


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('type: "Adagrad"', "unknown type 'Adagrad'; known: AdaDelta, AdaGrad, Adam, Nesterov, RMSProp, SGD"),
        ('type: "AdaGrad" momentum: 0.9', "AdaGrad has no momentum"),
        ('type: "RMSProp" rms_decay: 1', "rms_decay is 1"),
        ('weight_decay: 1 regularization_type: "L3"', "unknown regularization_type 'L3'"),
    ],
)
def test_impossible_settings(text: str, message: str) -> None:
    param = solver_parameter(text)
    with pytest.raises(CaffeError, match=message):
        rule_for(param.type)(param, [torch.zeros(1)], [1.0], [1.0])
