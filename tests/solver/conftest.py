"""Nets small enough to train in milliseconds, on records that are functions of their number."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from caffe.proto import caffe_pb2
from caffe.runtime import runtime

NET = """
name: "line"
layer { name: "records" type: "CountingRecords" top: "x" top: "t" }
layer {
  name: "hidden" type: "InnerProduct" bottom: "x" top: "hidden"
  param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } bias_filler { type: "constant" value: 0.1 } }
}
layer { name: "act" type: "TanH" bottom: "hidden" top: "hidden" }
layer {
  name: "y" type: "InnerProduct" bottom: "hidden" top: "y"
  inner_product_param { num_output: 1 weight_filler { type: "xavier" } }
}
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.05 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.001 max_iter: 6 display: 1
snapshot_prefix: "line" random_seed: 3 solver_mode: CPU
"""


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with net.prototxt; its data layer is registered."""
    (tmp_path / "net.prototxt").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    importlib.import_module("counting_records")
    monkeypatch.setattr(runtime, "seed", None)
    return tmp_path


@pytest.fixture
def solver_param(workdir: Path) -> Callable[..., Any]:
    """The solver above with further text merged in, as a message."""

    def make(text: str = "") -> Any:
        param = text_format.Parse(SOLVER, caffe_pb2.SolverParameter())
        param.MergeFrom(text_format.Parse(text, caffe_pb2.SolverParameter()))
        return param

    return make


def weights(net: Any) -> list[np.ndarray]:
    """Copies of a net's parameters."""
    return [p.detach().numpy().copy() for p in net.learnable_params]
