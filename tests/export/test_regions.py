"""Nets with regions in ONNX Runtime: as many rows as are found, in every layer behind them; RefineDet's detections."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from caffe.engine.layer import TEST
from caffe.engine.net import Net
from caffe.proto import caffe_pb2
from tests.export.runs import engine, run

# without onnx, the lines above skip this module
# isort: split
from caffe.export.onnx_model import onnx_model

FASTER_RCNN = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 64 dim: 80 } } }
layer { name: "im_info" type: "Input" top: "im_info" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 stride: 8 weight_filler { type: "msra" } } }
layer { name: "rpn_cls_score" type: "Convolution" bottom: "conv" top: "rpn_cls_score"
  convolution_param { num_output: 12 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "rpn_bbox_pred" type: "Convolution" bottom: "conv" top: "rpn_bbox_pred"
  convolution_param { num_output: 24 kernel_size: 1 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "reshaped" type: "Reshape" bottom: "rpn_cls_score" top: "reshaped"
  reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } } }
layer { name: "prob" type: "Softmax" bottom: "reshaped" top: "prob" }
layer { name: "rpn_prob" type: "Reshape" bottom: "prob" top: "rpn_prob"
  reshape_param { shape { dim: 0 dim: 12 dim: -1 dim: 0 } } }
layer { name: "proposal" type: "Proposal" bottom: "rpn_prob" bottom: "rpn_bbox_pred" bottom: "im_info" top: "rois"
  proposal_param { feat_stride: 8 base_size: 8 min_size: 4 ratio: 0.5 ratio: 2 scale: 1 scale: 2 scale: 4
                   pre_nms_topn: 200 post_nms_topn: 150 nms_thresh: 0.4 } }
layer { name: "pool" type: "ROIPooling" bottom: "conv" bottom: "rois" top: "pool"
  roi_pooling_param { pooled_h: 3 pooled_w: 3 spatial_scale: 0.125 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "fc" top: "fc" }
layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" dropout_param { scale_train: false } }
layer { name: "cls_prob" type: "Softmax" bottom: "fc" top: "cls_prob" }
layer { name: "flat" type: "Reshape" bottom: "fc" top: "flat" reshape_param { shape { dim: -1 dim: 2 dim: 3 } } }
"""


def outputs(net: Net, images: int, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the engine and the exported model give for random images."""
    rng = np.random.default_rng(seed)
    inputs = {"data": rng.normal(0, 60, (images, 3, 64, 80)).astype(np.float32)}
    if "im_info" in net.inputs:
        inputs["im_info"] = np.tile(np.array([64, 80, 1], np.float32), (images, 1))
    return engine(net, **inputs), run(onnx_model(net), **inputs)


@pytest.mark.parametrize("images", [1, 2])
def test_every_layer_behind_regions_has_as_many_rows(images: int) -> None:
    net = Net(text_format.Parse(FASTER_RCNN, caffe_pb2.NetParameter()), TEST)
    expected, found = outputs(net, images)
    assert 0 < expected["cls_prob"].shape[0] < 150 * images
    assert {"cls_prob", "flat"} == set(expected) == set(found)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)
    declared = {value.name: value.type.tensor_type.shape.dim[0].dim_param for value in onnx_model(net).graph.output}
    assert declared == {"cls_prob": "regions", "flat": "regions"}


REFINEDET = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 3 dim: 64 dim: 80 }} }} }}
layer {{ name: "map" type: "Convolution" bottom: "data" top: "map"
  convolution_param {{ num_output: 8 kernel_size: 3 pad: 1 stride: 8 weight_filler {{ type: "msra" }} }} }}
{heads}
layer {{ name: "priors" type: "PriorBox" bottom: "map" bottom: "data" top: "priors"
  prior_box_param {{ min_size: 16 aspect_ratio: 2 variance: [0.1, 0.1, 0.2, 0.2] }} }}
layer {{ name: "out" type: "DetectionOutput" bottom: "odm_loc" bottom: "odm_conf" bottom: "priors" bottom: "arm_conf"
  {fifth} top: "out" detection_output_param {{ num_classes: 4 code_type: {code} objectness_score: 0.4
    variance_encoded_in_target: {encoded} nms_param {{ nms_threshold: 0.45 top_k: 100 }} keep_top_k: 30
    confidence_threshold: 0.2 }} }}
"""


def head(name: str, values: int, softmax: bool) -> str:
    """A convolution with `values` numbers for each of three boxes per cell, flattened as SSD does it."""
    text = f"""
      layer {{ name: "{name}_c" type: "Convolution" bottom: "map" top: "{name}_c" convolution_param {{
        num_output: {3 * values} kernel_size: 1 weight_filler {{ type: "gaussian" std: 0.002 }} }} }}
      layer {{ name: "{name}_p" type: "Permute" bottom: "{name}_c" top: "{name}_p"
        permute_param {{ order: 0 order: 2 order: 3 order: 1 }} }}"""
    if not softmax:
        return text + f'layer {{ name: "{name}" type: "Flatten" bottom: "{name}_p" top: "{name}" }}'
    return (
        text
        + f"""
      layer {{ name: "{name}_r" type: "Reshape" bottom: "{name}_p" top: "{name}_r"
        reshape_param {{ shape {{ dim: 0 dim: -1 dim: {values} }} }} }}
      layer {{ name: "{name}_s" type: "Softmax" bottom: "{name}_r" top: "{name}_s" softmax_param {{ axis: 2 }} }}
      layer {{ name: "{name}" type: "Flatten" bottom: "{name}_s" top: "{name}" }}"""
    )


@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE", "CORNER_SIZE"])
@pytest.mark.parametrize("with_offsets", [True, False], ids=["moved", "objectness"])
def test_detections_of_refinedet(code: str, with_offsets: bool) -> None:
    heads = head("arm_conf", 2, True) + head("odm_conf", 4, True) + head("odm_loc", 4, False)
    if with_offsets:
        heads += head("arm_loc", 4, False)
    encoded = "true" if code == "CORNER_SIZE" else "false"
    text = REFINEDET.format(heads=heads, code=code, encoded=encoded, fifth='bottom: "arm_loc"' if with_offsets else "")
    net = Net(text_format.Parse(text, caffe_pb2.NetParameter()), TEST)
    for images in (1, 2):
        expected, found = outputs(net, images)
        assert expected["out"].shape[2] > 5 * images
        np.testing.assert_allclose(found["out"], expected["out"], rtol=1e-3, atol=1e-4)
