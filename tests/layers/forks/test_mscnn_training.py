"""Tiny nets in the way of MS-CNN and Cascade R-CNN train from window files and images, and resume exactly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from caffe.proto import caffe_pb2
from caffe.runtime import runtime
from caffe.solver.solver import Solver
from tests.layers.forks.object_scenes import random_scenes, write_scenes

CONV = """layer {{ name: "{0}" type: "Convolution" bottom: "{1}" top: "{0}"
  convolution_param {{ num_output: {2} {3} weight_filler {{ type: "msra" }} }} }}
"""
RELU = 'layer {{ name: "{0}_relu" type: "ReLU" bottom: "{0}" top: "{0}" }}\n'

#: two scales: maps of 8 and of 16 pixels per cell, with one anchor each
MSCNN = (
    """layer { name: "data" type: "ImageGtData" top: "data" top: "label_8" top: "label_16"
  transform_param { mirror: true mean_value: 40 }
  image_gt_data_param {
    source: "windows.txt" batch_size: 4 scale: 0.01 shuffle: true crop_width: 48 crop_height: 48
    downsample_rate: 8 field_w: 16 field_h: 16 downsample_rate: 16 field_w: 26 field_h: 26
  } }
"""
    + "".join(
        CONV.format(name, bottom, outputs, "kernel_size: 5 pad: 2 stride: 4" if name == "c1" else
                    "kernel_size: 3 pad: 1 stride: 2") + RELU.format(name)
        for name, bottom, outputs in (("c1", "data", 8), ("c2", "c1", 12), ("c3", "c2", 12))
    )
    + "".join(
        CONV.format(f"map_{stride}", bottom, 6, "kernel_size: 3 pad: 1") + f"""layer {{
  name: "loss_{stride}" type: "DetectionLoss" bottom: "map_{stride}" bottom: "label_{stride}" top: "loss_{stride}"
  detection_loss_param {{ cls_num: 2 field_w: {side} field_h: {side} downsample_rate: {stride} bg_threshold: 0.3
    bg_multiple: 2 sample_mode: "{mode}" pos_neg_weighted: true }} }}
layer {{
  name: "accuracy_{stride}" type: "DetectionAccuracy" bottom: "map_{stride}" bottom: "label_{stride}"
  top: "accuracy_{stride}" top: "fit_{stride}"
  detection_accuracy_param {{ cls_num: 2 field_w: {side} field_h: {side} downsample_rate: {stride} }} }}
"""
        for stride, bottom, side, mode in ((8, "c2", 16, "random"), (16, "c3", 26, "bootstrap"))
    )
)  # fmt: skip

SOLVER = """net: "net.prototxt" base_lr: 0.02 momentum: 0.9 lr_policy: "fixed" snapshot_prefix: "it" solver_mode: CPU
  random_seed: 5 """


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAFFE_DATA_WORKERS", "1")
    before = runtime.seed
    yield tmp_path
    runtime.seed = before


def solver_of(text: str) -> Solver:
    return Solver(text_format.Parse(SOLVER + text, caffe_pb2.SolverParameter()))


def weights(solver: Solver) -> list[Any]:
    return [p.detach().numpy().copy() for p in solver.net.learnable_params]


def train(net: str, iterations: int) -> tuple[dict[str, float], dict[str, float]]:
    """The means of a net's outputs over the first 10 iterations, and over the last. -1 stands for a mean of nothing."""
    Path("net.prototxt").write_text(net)
    solver, seen = solver_of(f"max_iter: {iterations} snapshot_after_train: false"), []
    for _ in range(iterations):
        solver.step(1)
        seen.append({name: float(solver.net.blobs[name].data.reshape(-1)[0]) for name in solver.net.outputs})
    solver.net.close()
    parts = (seen[:10], seen[-10:])
    early, late = (
        {name: float(np.mean([s[name] for s in part if s[name] != -1])) for name in seen[0]} for part in parts
    )
    return early, late


def assert_resumes(net: str) -> None:
    """A run that is interrupted and goes on ends with the same weights, bit for bit."""
    Path("net.prototxt").write_text(net)
    whole, first, second = (solver_of(text) for text in ("max_iter: 6", "max_iter: 3", "max_iter: 6"))
    whole.solve()
    first.solve()
    second.restore("it_iter_3.solverstate")
    second.solve()
    for a, b in zip(weights(whole), weights(second), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(weights(whole), weights(first), strict=True))


def test_a_net_of_two_scales_learns(workdir: Path) -> None:
    write_scenes(workdir, random_scenes(12))
    early, late = train(MSCNN, 90)
    for stride in (8, 16):
        assert late[f"loss_{stride}"] < 0.6 * early[f"loss_{stride}"]
        assert late[f"accuracy_{stride}"] > 0.85
    assert late["fit_8"] > early["fit_8"] + 0.05


def test_it_resumes_bit_for_bit(workdir: Path) -> None:
    write_scenes(workdir, random_scenes(7))
    assert_resumes(MSCNN)
