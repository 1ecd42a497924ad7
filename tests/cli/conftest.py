"""A net and solver for the commands' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = """
import numpy as np
from caffe import Layer


class TinyData(Layer):
    def setup(self, bottom, top):
        self.random = np.random.default_rng(5)

    def reshape(self, bottom, top):
        top[0].reshape(4, 3)
        top[1].reshape(4, 2)

    def forward(self, bottom, top):
        top[0].data[...] = self.random.normal(size=(4, 3))
        top[1].data[...] = 0.5
"""
NET = """
name: "two"
layer { name: "x" type: "Python" top: "x" top: "t" python_param { module: "tiny_data" layer: "TinyData" } }
layer { name: "y" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" loss_weight: 2 }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 4 display: 2 snapshot: 2 snapshot_prefix: "two"
solver_mode: CPU random_seed: 1
"""


@pytest.fixture
def tiny_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with solver.prototxt and net.prototxt of a net that trains in milliseconds."""
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    (tmp_path / "tiny_data.py").write_text(DATA)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path
