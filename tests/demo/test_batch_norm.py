"""Batch normalization that the demo's pretraining inserts and folds: the folded weights compute the same."""

from __future__ import annotations

import torch

from caffe.engine.layer import TEST
from caffe.engine.net import Net
from caffe.proto import caffe_pb2
from caffe.proto.text import parse_text
from demo.pretrain import batch_norm

PLAIN = """
name: "plain"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 9 dim: 9 } } }
layer { name: "a" type: "Convolution" bottom: "data" top: "a"
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "a_relu" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b" type: "Convolution" bottom: "a" top: "b"
        convolution_param { num_output: 5 kernel_size: 3 pad: 2 dilation: 2 weight_filler { type: "xavier" } } }
layer { name: "b_relu" type: "ReLU" bottom: "b" top: "b" }
layer { name: "head" type: "Convolution" bottom: "b" top: "head"
        convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "xavier" } } }
"""


def test_folded_weights_compute_the_same() -> None:
    plain = parse_text(PLAIN, caffe_pb2.NetParameter(), "test")
    normalized = batch_norm.insert(plain)
    assert [layer.name for layer in normalized.layer if layer.type == "BatchNorm"] == ["a_bn", "b_bn"]

    trained = Net(normalized, TEST)
    for step in trained.steps:
        for blob in step.layer.blobs:
            blob.data.uniform_(0.5, 1.5)
    image = torch.randn(2, 3, 9, 9)
    expected = trained({"data": image})[1]["head"]

    blobs = {s.layer.name: [blob.detach().numpy() for blob in s.layer.blobs] for s in trained.steps}
    folded = Net(plain, TEST)
    for step in folded.steps:
        for blob, value in zip(step.layer.blobs, batch_norm.fold(blobs, step.layer.name), strict=True):
            blob.data.copy_(torch.from_numpy(value))
    torch.testing.assert_close(folded({"data": image})[1]["head"], expected, rtol=1e-4, atol=1e-4)
