"""Which boxes MultiBoxLoss mines as negatives: those of the greatest losses, though most losses are never computed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from caffe.ops.multibox_loss_options import MultiBoxLossOptions
from tests.ops.multibox_scenes import FAR, A, matches, one_class_scene


def test_equal_losses_go_to_the_lower_box(device: str) -> None:
    boxes = [A] + [FAR] * 9
    conf = np.zeros((1, 10, 2), np.float32)
    conf[0, [3, 5, 8], 1] = 2.0  # the hardest, all equal
    inputs = one_class_scene(boxes, [A], conf.reshape(1, -1))
    for ratio, expected in ((2, [3, 5]), (4, [1, 3, 5, 8]), (6, [1, 2, 3, 4, 5, 8])):
        options = MultiBoxLossOptions(2, neg_pos_ratio=float(ratio))
        found = matches(inputs, options, device)
        assert [i for i, m in enumerate(found) if m == -3] == expected
        assert found[0] == 0


@pytest.mark.parametrize("classes", [2, 21, 70])
@pytest.mark.parametrize(
    ("background", "spread"),
    [
        (0.0, 1.0),  # random scores: most boxes can be ruled out by a bound of their loss
        (9.0, 1.0),  # as in a trained net, where nearly all boxes are
        (0.0, 0.01),  # all losses are within the slack of the bounds
        (-90.0, 1.0),  # losses at their greatest, 87.3, where bounds do not exist
        (0.0, 60.0),  # some of each
    ],
)
def test_the_hardest_negatives(classes: int, background: float, spread: float) -> None:
    """The negatives are those of the greatest losses, of equal losses the lower ones, however many bounds rule out."""
    count, rng = 2000, np.random.default_rng(classes)
    scores = (rng.standard_normal((count, classes)) * spread).astype(np.float32)
    scores[:, 0] += background
    scores[rng.random(count) < 0.1] = scores[7]  # ties
    odd = rng.choice(np.arange(1, count), 30, replace=False)
    scores[odd[:10], 0] = -1000  # a loss at the limit
    conf = torch.from_numpy(scores)
    boxes = [[0.1, 0.1, 0.4, 0.4]] + [FAR] * (count - 1)
    inputs = one_class_scene(boxes, [A], np.zeros((1, count * 2)))
    inputs = (inputs[0], conf.reshape(1, -1), *inputs[2:])
    wide = torch.nn.functional.log_softmax(conf.double(), 1)[:, 0].neg()
    for wanted in (1, 3, 60, 500, 1998):
        found = matches(inputs, MultiBoxLossOptions(classes, neg_pos_ratio=float(wanted)))
        chosen = np.array(found) == -3
        assert chosen.sum() == wanted
        capped = wide.clamp(max=87.3).numpy()
        worst, best = capped[chosen].min(), capped[1:][~chosen[1:]].max()
        assert worst >= best - 2e-5 * max(1, abs(best))
        for tie in np.flatnonzero((scores == scores[7]).all(1))[1:]:
            assert chosen[7] >= chosen[tie]


def test_the_hardest_negatives_where_bounds_have_the_opposite_order() -> None:
    """e to the power of scores that are powers of 2 is bounded exactly, and between two powers with 6 % to spare."""
    scores = np.zeros((1000, 4), np.float32)
    scores[:, 0] = 6
    exact, loose = np.arange(5, 1000, 20), np.arange(1, 1000, 4)[:-1]
    scores[loose] = [0, *np.full(3, np.log(253 / 3))]
    scores[exact] = [0, np.log(256), -50, -50]  # the greater loss
    inputs = one_class_scene([A] + [FAR] * 999, [A], np.zeros((1, 2000)))
    inputs = (inputs[0], torch.from_numpy(scores.reshape(1, -1)), *inputs[2:])
    found = matches(inputs, MultiBoxLossOptions(4, neg_pos_ratio=float(len(exact))))
    assert [i for i, m in enumerate(found) if m == -3] == exact.tolist()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_the_hardest(value: float) -> None:
    count = 300
    conf = np.random.default_rng(1).standard_normal((count, 3)).astype(np.float32)
    conf[[5, 250], 2] = value
    inputs = one_class_scene([A] + [FAR] * (count - 1), [A], np.zeros((1, count * 2)))
    inputs = (inputs[0], torch.from_numpy(conf.reshape(1, -1)), *inputs[2:])
    found = matches(inputs, MultiBoxLossOptions(3, neg_pos_ratio=2.0))
    assert [i for i, m in enumerate(found) if m == -3] == [5, 250]
