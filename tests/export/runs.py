"""Nets and their exported models, run by the engine and by ONNX Runtime. Skips a test module without the packages."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from google.protobuf import text_format

from caffe.engine.layer_types.recurrent import Recurrent
from caffe.engine.net import Net
from caffe.proto import caffe_pb2

pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")


def net_of(text: str) -> Net:
    """A TEST net from text, with positive parameters."""
    net = Net(text_format.Parse(text, caffe_pb2.NetParameter()), 1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            # some are variances
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.1)
    return net


def run(model: Any, **inputs: Any) -> dict[str, Any]:
    """The outputs of an ONNX model, in its order. Inputs that it does not read are left out."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    read = {value.name for value in session.get_inputs()}
    found = session.run(None, {name: value for name, value in inputs.items() if name in read})
    return dict(zip([output.name for output in session.get_outputs()], found, strict=True))


def engine(net: Net, **inputs: Any) -> dict[str, Any]:
    """The net's output blobs."""
    for step in net.steps:
        if isinstance(step.layer, Recurrent):
            step.layer.reset()
    with torch.no_grad():
        _, blobs = net({name: torch.from_numpy(value.copy()) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in blobs.items()}
