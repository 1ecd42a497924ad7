"""Learning-rate policies: values from the documented formulas, states, unknown policies."""

from __future__ import annotations

import math
import re
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


@pytest.mark.parametrize(
    ("text", "taken", "iteration", "says"),
    [
        (
            "stepvalue: 400 stepvalue: 800", 1, 600,
            r"I Learning rate 0.0001 from iteration 600 on: base_lr 0.001 x gamma 0.1\^1, past stepvalue 400; the next "
            "stepvalue is 800",
        ),
        ("stepvalue: 800", 0, 600, "I Learning rate 0.001 .* before the first stepvalue; the next stepvalue is 800"),
        ("stepvalue: 400", 0, 400, "I Resuming at iteration 400, which has reached stepvalue 400, .* 0.001 to 0.0001"),
        ("stepvalue: 400", 0, 600, "W Resuming at iteration 600, which has reached stepvalue 400, .* from here$"),
        ("stepvalue: 200 stepvalue: 400", 0, 600, "W .* 0.001 to 1e-05 .* from here, by one step in each iteration"),
        (
            "stepvalue: 800", 1, 600,
            "W .*has taken 1 step .* only 0 by iteration 600; its stepvalue 800 is still ahead. .* the rate stays "
            r"0.0001 \(base_lr 0.001 x gamma 0.1\^1\); -base_lr 0.01 makes it 0.001",
        ),
        ("", 2, 600, "W .* it has no more stepvalue. .* the rate stays 1e-05 .*; -base_lr 0.1 makes it 0.001"),
    ],
)  # fmt: skip
def test_a_resumed_run_says_its_rate(
    text: str, taken: int, iteration: int, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    resumed = policy(f'base_lr: 0.001 lr_policy: "multistep" gamma: 0.1 {text}')
    resumed.current_step = taken
    resumed.log_resumed(iteration)
    line = capfd.readouterr().err.rstrip()
    assert re.search(says[1:], f"{line[0]}{line.partition(']')[2]}"), line
    assert line[0] == says[0]
    rates = [float(resumed.rate(iteration + i, 0.0)) for i in range(3)]
    promised = re.search(r"(?:Learning rate|to|stays) ([\d.e-]+)", line)
    assert promised is not None
    assert rates[-1] == pytest.approx(float(promised[1]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('lr_policy: "fixed"', "Learning rate 0.001 from iteration 600 on: base_lr 0.001$"),
        (
            'lr_policy: "step" gamma: 0.1 stepsize: 400',
            r"Learning rate 0.0001 .* base_lr 0.001 x gamma 0.1\^1, stepsize 400",
        ),
        ('lr_policy: "poly" power: 1 max_iter: 500', "Learning rate 0 .*, poly to 0 at max_iter 500"),
        (
            'lr_policy: "plateau" gamma: 0.1 plateau_winsize: 5',
            r"Learning rate 1e-05 .* gamma 0.1\^2, .* has taken 2 steps",
        ),
        ('lr_policy: "theirs"', None),
    ],
)
def test_the_rate_of_other_policies(text: str, says: str | None, capfd: pytest.CaptureFixture[str]) -> None:
    resumed = policy(f"base_lr: 0.001 {text}")
    resumed.current_step = 2
    capfd.readouterr()
    resumed.log_resumed(600)
    line = capfd.readouterr().err.rstrip()
    assert (line == "") if says is None else re.search(says, line), line


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
