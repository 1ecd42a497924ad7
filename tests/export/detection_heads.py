"""A DetectionOutput behind two PriorBox layers, predictions for it, and the comparison of detections."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffe.engine.net import Net
from tests.export.runs import net_of

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
