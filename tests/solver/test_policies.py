"""Learning-rate policies: values from the documented formulas, states, unknown policies."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf import text_format

from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from caffe.solver.policies import LearningRatePolicy


def policy(text: str) -> LearningRatePolicy:
    param: Any = text_format.Parse(text, caffe_pb2.SolverParameter())
    return LearningRatePolicy(param)


@pytest.mark.parametrize(
    ("text", "iteration", "rate"),
    [
        ('lr_policy: "fixed"', 1000, 1.0),
        ("", 1000, 1.0),
        ('lr_policy: "step" gamma: 0.5 stepsize: 10', 29, 0.25),
        ('lr_policy: "step" gamma: 0.5 stepsize: 10', 30, 0.125),
        ('lr_policy: "exp" gamma: 0.5', 3, 0.125),
        ('lr_policy: "inv" gamma: 0.5 power: 2', 2, 0.25),
        ('lr_policy: "poly" power: 2 max_iter: 10', 5, 0.25),
        ('lr_policy: "poly" power: 0.5 max_iter: 10', 11, 0.0),
        ('lr_policy: "sigmoid" gamma: -0.5 stepsize: 6', 2, 1 / (1 + math.exp(-2))),
        ('lr_policy: "sigmoid" gamma: -0.5 stepsize: 0', 100000, 0.0),
    ],
)
def test_rates(text: str, iteration: int, rate: float) -> None:
    assert policy("base_lr: 1 " + text).rate(iteration, 0.0) == pytest.approx(rate)


def test_multistep_counts_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    p = policy('base_lr: 1 lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 3')
    assert [p.rate(i, 0.0) for i in range(5)] == [1, 1, 0.5, 0.25, 0.25]
    assert "sgd_solver.cpp:47] MultiStep Status: Iteration 2, step = 1\n" in capfd.readouterr().err


def test_plateau_steps_when_the_loss_stops_falling() -> None:
    p = policy('base_lr: 1 lr_policy: "plateau" gamma: 0.5 plateau_winsize: 2 plateau_winsize: 3')
    losses = [5.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0]
    # The minimum is at iteration 1, so the first window ends at 3, the second at 3 + 3.
    assert [p.rate(i, loss) for i, loss in enumerate(losses)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    assert (p.current_step, p.iter_last_event, p.minimum_loss) == (2, 6, 4.0)


def test_policy_of_another_fork_warns_and_fails_in_training(capfd: pytest.CaptureFixture[str]) -> None:
    p = policy('base_lr: 1 lr_policy: "cosine_decay"')
    assert "unknown lr_policy 'cosine_decay'; known: fixed, step" in capfd.readouterr().err
    with pytest.raises(CaffeError, match="unknown lr_policy 'cosine_decay'"):
        p.rate(0, 0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('lr_policy: "step" gamma: 0.1', "needs stepsize"),
        ('lr_policy: "step" gamma: 0.1 stepsize: 0', "stepsize is 0"),
        ('lr_policy: "poly"', "needs power and max_iter"),
    ],
)
def test_missing_settings(text: str, message: str) -> None:
    with pytest.raises(CaffeError, match=message):
        policy(text).rate(0, 0.0)
