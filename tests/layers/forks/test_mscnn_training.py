"""Tiny nets in the way of MS-CNN and Cascade R-CNN train from window files and images, and resume exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from caffe.proto import caffe_pb2
from caffe.solver.solver import Solver
from tests.layers.forks.object_scenes import random_scenes, write_scenes

CONV = """layer {{ name: "{0}" type: "Convolution" bottom: "{1}" top: "{0}"
  convolution_param {{ num_output: {2} {3} weight_filler {{ type: "msra" }} }} }}
"""
RELU = 'layer {{ name: "{0}_relu" type: "ReLU" bottom: "{0}" top: "{0}" }}\n'

#: two scales: maps of 8 and of 16 pixels per cell, with one anchor each
MSCNN = (
    """layer { name: "data" type: "ImageGtData" top: "data" top: "label_8" top: "label_16" top: "gt_boxes"
  transform_param { mirror: true mean_value: 40 }
  image_gt_data_param {
    source: "windows.txt" batch_size: 4 output_gt_boxes: true scale: 0.01 shuffle: true crop_width: 48 crop_height: 48
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

#: regions that the maps propose, sampled, pooled and classified
SECOND_STAGE = """layer {
  name: "proposals" type: "BoxOutput" bottom: "map_8" bottom: "map_16" top: "proposals"
  box_output_param { fg_thr: -5 iou_thr: 0.7 field_w: [16, 26] field_h: [16, 26] downsample_rate: [8, 16] min_size: 8
    max_nms_num: 24 max_post_nms_num: 12 } }
layer {
  name: "samples" type: "ProposalTarget" bottom: "proposals" bottom: "gt_boxes" top: "rois" top: "labels" top: "targets"
  top: "inside" top: "outside" top: "matches"
  proposal_target_param { cls_num: 2 batch_size: 24 num_img_per_batch: 4 fg_fraction: 0.5 bg_thr_lw: 0 img_width: 48
    img_height: 48 }
  bbox_reg_param { cls_aware: false bbox_std: [0.1, 0.1, 0.2, 0.2] bbox_mean: [0, 0, 0, 0] } }
layer { name: "pool" type: "ROIPooling" bottom: "c2" bottom: "rois" top: "pool"
  roi_pooling_param { pooled_h: 3 pooled_w: 3 spatial_scale: 0.125 pad_ratio: 0.25 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 24 weight_filler { type: "msra" } } }
layer { name: "fc_relu" type: "ReLU" bottom: "fc" top: "fc" }
layer { name: "cls" type: "InnerProduct" bottom: "fc" top: "cls"
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "move" type: "InnerProduct" bottom: "fc" top: "move"
  inner_product_param { num_output: 8 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "loss_cls" type: "SoftmaxWithLoss" bottom: "cls" bottom: "labels" top: "loss_cls" }
layer { name: "loss_move" type: "SmoothL1Loss" bottom: "move" bottom: "targets" bottom: "inside" bottom: "outside"
  top: "loss_move" loss_weight: 0.3 }
layer { name: "after" type: "BboxAccuracy" bottom: "move" bottom: "rois" bottom: "matches" top: "after" top: "before"
  bbox_reg_param { cls_aware: false bbox_std: [0.1, 0.1, 0.2, 0.2] bbox_mean: [0, 0, 0, 0] } }
"""

FIELDS = "field_w: [16, 24] field_h: [24, 16] stride: 8"
OFFSETS = "bbox_reg_param { cls_aware: false bbox_std: [0.1, 0.1, 0.2, 0.2] bbox_mean: [0, 0, 0, 0] }"
STAGE = """layer {{
  name: "samples{0}" type: "ProposalTarget" bottom: "{1}" bottom: "gt_boxes" top: "rois{0}" top: "labels{0}"
  top: "targets{0}" top: "inside{0}" top: "outside{0}" top: "matches{0}"
  proposal_target_param {{ cls_num: 2 batch_size: {2} num_img_per_batch: 3 fg_fraction: 0.5 bg_thr_lw: 0 }} {3} }}
layer {{ name: "pool{0}" type: "ROIPooling" bottom: "c2" bottom: "rois{0}" top: "pool{0}"
  roi_pooling_param {{ pooled_h: 3 pooled_w: 3 spatial_scale: 0.125 }} }}
layer {{ name: "cls{0}" type: "InnerProduct" bottom: "pool{0}" top: "cls{0}"
  inner_product_param {{ num_output: 2 weight_filler {{ type: "gaussian" std: 0.05 }} }} }}
layer {{ name: "move{0}" type: "InnerProduct" bottom: "pool{0}" top: "move{0}"
  inner_product_param {{ num_output: 8 weight_filler {{ type: "gaussian" std: 0.01 }} }} }}
layer {{ name: "loss_cls{0}" type: "SoftmaxWithLoss" bottom: "cls{0}" bottom: "labels{0}" top: "loss_cls{0}" }}
layer {{ name: "loss_move{0}" type: "SmoothL1Loss" bottom: "move{0}" bottom: "targets{0}" bottom: "inside{0}"
  bottom: "outside{0}" top: "loss_move{0}" loss_weight: 0.3 }}
layer {{ name: "after{0}" type: "BboxAccuracy" bottom: "move{0}" bottom: "rois{0}" bottom: "matches{0}" top: "after{0}"
  {3} }}
"""
RESHAPE = """layer {{ name: "{0}_of" type: "Reshape" bottom: "{0}" top: "{0}_of"
  reshape_param {{ shape {{ dim: [-1, {1}, 0, 0] }} }} }}
"""
#: one map with two anchors, and two stages of regions, the second of which starts from what the first has moved
CASCADE = (
    """layer { name: "data" type: "DetectionData" top: "data" top: "label_a" top: "label_b" top: "gt_boxes"
  transform_param { mirror: true mean_value: 40 scale: 0.01 }
  detection_data_param {
    source: "windows.txt" batch_size: 3 output_gt_boxes: true shuffle: "random_aspect" short_size: 64 long_size: 96
    stride: [8, 8] field_w: [16, 24] field_h: [24, 16] low_scale_ratio: 0.8 high_scale_ratio: 1.2
  } }
layer { name: "label" type: "Concat" bottom: "label_a" bottom: "label_b" top: "label" }
"""
    + CONV.format("c1", "data", 12, "kernel_size: 5 pad: 2 stride: 4") + RELU.format("c1")
    + CONV.format("c2", "c1", 12, "kernel_size: 3 pad: 1 stride: 2") + RELU.format("c2")
    + CONV.format("map_cls", "c2", 4, "kernel_size: 3 pad: 1") + RESHAPE.format("map_cls", 2)
    + CONV.format("map_box", "c2", 8, "kernel_size: 3 pad: 1") + RESHAPE.format("map_box", 4)
    + RESHAPE.format("label", 6)
    + f"""layer {{ name: "loss_map" type: "DetectionGroupLoss" bottom: "map_cls_of" bottom: "map_box_of" bottom: "label_of"
  top: "loss_map" detection_group_loss_param {{ cls_num: 2 batch_size: 32 bg_multiple: 1 bg_threshold: 0.3
    objectness: true field_whr: 8 field_xyr: 1 {FIELDS} }} }}
layer {{ name: "accuracy" type: "DetectionGroupAccuracy" bottom: "map_cls_of" bottom: "map_box_of" bottom: "label_of"
  top: "accuracy" top: "fit" detection_group_accuracy_param {{ cls_num: 2 objectness: true field_whr: 8 field_xyr: 1
    {FIELDS} }} }}
layer {{ name: "prob" type: "Softmax" bottom: "map_cls_of" top: "prob" }}
layer {{ name: "proposals" type: "BoxGroupOutput" bottom: "prob" bottom: "map_box_of" top: "proposals"
  box_group_output_param {{ iou_thr: 0.7 field_whr: 8 field_xyr: 1 min_size: 5 max_nms_num: 24 max_post_nms_num: 12
    box_group_param {{ {FIELDS} }} }} }}
"""
    + STAGE.format(1, "proposals", 24, OFFSETS)
    + f'layer {{ name: "moved" type: "DecodeBBox" bottom: "move1" bottom: "rois1" bottom: "matches1" top: "moved" {OFFSETS} }}\n'
    + STAGE.format(2, "moved", -1, OFFSETS)
)  # fmt: skip

SOLVER = """net: "net.prototxt" base_lr: 0.02 momentum: 0.9 lr_policy: "fixed" snapshot_prefix: "it" solver_mode: CPU
  random_seed: 5 """


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAFFE_DATA_WORKERS", "1")
    return tmp_path


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


def test_a_net_of_two_scales_and_two_stages_learns(workdir: Path) -> None:
    write_scenes(workdir, random_scenes(12))
    early, late = train(MSCNN + SECOND_STAGE, 70)
    for stride in (8, 16):
        assert late[f"loss_{stride}"] < 0.6 * early[f"loss_{stride}"]
        assert late[f"accuracy_{stride}"] > 0.85
    assert late["fit_8"] > early["fit_8"] + 0.05
    assert late["loss_cls"] < 0.9 * early["loss_cls"]
    assert late["after"] > late["before"]


def test_it_resumes_bit_for_bit(workdir: Path) -> None:
    write_scenes(workdir, random_scenes(7))
    assert_resumes(MSCNN + SECOND_STAGE)


def test_a_cascade_learns_and_resumes(workdir: Path) -> None:
    scenes = [*random_scenes(5, 64, 96), *random_scenes(5, 96, 64, seed=1)]
    write_scenes(workdir, scenes, difficult=True)
    early, late = train(CASCADE, 60)
    assert late["loss_map"] < 0.6 * early["loss_map"]
    assert late["accuracy"] > 0.85
    for stage in ("1", "2"):
        assert late[f"loss_cls{stage}"] < early[f"loss_cls{stage}"]
        assert late[f"after{stage}"] > 0.4
    assert_resumes(CASCADE)
