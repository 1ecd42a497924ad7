"""Nets to be built, run forward and backward, and exported: one for each configuration of each layer type.

Most byte mutations of a prototxt die in the parser, so these change fields of the parsed message: a number becomes
another, a field goes or comes twice, a blob gets another shape, a layer reads another blob.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from caffe.engine import memory
from caffe.engine.net import Net
from caffe.errors import CaffeError
from caffe.export.onnx_model import onnx_model
from caffe.proto import caffe_pb2
from caffe.proto.text import parse_text, read_net, to_text
from caffe.runtime import runtime

NET_MEMORY = 48 << 20
"""Nets that need more are refused as if the machine had no more, so that what they take beyond it is the engine's."""

_NUMBERS = (0, 1, 2, 3, 5, 7, 16, 255, 1000, 65_536, 1_000_000, 2**31 - 1, 2**31, 2**32 - 1, -1, -2, -5, -(2**31))
_FLOATS = (0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, float("inf"), float("-inf"), float("nan"), 2.0**31, 1e9, -1e9)
_STRINGS = (
    "",
    "b0",
    "t0",
    "data",
    "label",
    "x" * 300,
    "../x",
    "\u2028",
    "l",
    "l/Relu",
    "l/node",
    "l/weights",
    "constant",
    "xavier",
    "Split",
    "Python",
)


def _inputs(shapes: Sequence[Sequence[int]]) -> str:
    dims = (" ".join(f"dim: {size}" for size in shape) for shape in shapes)
    return "".join(
        f'layer {{ name: "b{i}" type: "Input" top: "b{i}" input_param {{ shape {{ {text} }} }} }}\n'
        for i, text in enumerate(dims)
    )


#: with data of its own (as a loss reads them) or a convolution in front, so that there is something to learn
_DETECTOR = """
layer { name: "conv" type: "Convolution" bottom: "b0" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "norm" type: "Normalize" bottom: "conv" top: "norm" norm_param { across_spatial: false
  scale_filler { type: "constant" value: 20 } channel_shared: false } }
layer { name: "prior" type: "PriorBox" bottom: "norm" bottom: "b0" top: "prior" prior_box_param {
  min_size: 4 max_size: 8 aspect_ratio: 2 flip: true clip: false variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2
  step: 2 offset: 0.5 } }
layer { name: "loc" type: "Convolution" bottom: "norm" top: "loc" convolution_param { num_output: 16 kernel_size: 1 } }
layer { name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_perm" top: "loc_flat" flatten_param { axis: 1 } }
layer { name: "conf" type: "Convolution" bottom: "norm" top: "conf" convolution_param { num_output: 12 kernel_size: 1
  weight_filler { type: "gaussian" std: 1 } } }
layer { name: "conf_perm" type: "Permute" bottom: "conf" top: "conf_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_flat" type: "Flatten" bottom: "conf_perm" top: "conf_flat" flatten_param { axis: 1 } }
"""
_LOSS = """
layer { name: "loss" type: "MultiBoxLoss" bottom: "loc_flat" bottom: "conf_flat" bottom: "prior" bottom: "b1" top: "loss"
  loss_param { normalization: VALID } multibox_loss_param { loc_loss_type: SMOOTH_L1 conf_loss_type: SOFTMAX
  loc_weight: 1 num_classes: 3 share_location: true match_type: PER_PREDICTION overlap_threshold: 0.5 use_prior_for_matching: true
  background_label_id: 2 use_difficult_gt: true neg_pos_ratio: 3 neg_overlap: 0.5 code_type: CENTER_SIZE
  ignore_cross_boundary_bbox: false mining_type: MAX_NEGATIVE } }
"""
_DETECTIONS = """
layer { name: "reshape" type: "Reshape" bottom: "conf_flat" top: "reshape"
  reshape_param { shape { dim: 0 dim: -1 dim: 3 } } }
layer { name: "softmax" type: "Softmax" bottom: "reshape" top: "softmax" softmax_param { axis: 2 } }
layer { name: "flat" type: "Flatten" bottom: "softmax" top: "flat" flatten_param { axis: 1 } }
layer { name: "out" type: "DetectionOutput" bottom: "loc_flat" bottom: "flat" bottom: "prior" top: "out"
  detection_output_param { num_classes: 3 share_location: true background_label_id: 0
  nms_param { nms_threshold: 0.45 top_k: 40 } code_type: CENTER_SIZE keep_top_k: 20 confidence_threshold: 0.01 } }
"""


@cache
def nets() -> list[bytes]:
    """Each configuration of tests/layers with Input layers before it, and a small SSD with its loss and detections."""
    from tests.layers.cases import CASES

    samples = [
        (_inputs([(2, 3, 16, 16), (1, 1, 3, 8)]) + _DETECTOR + _LOSS).encode(),
        (_inputs([(2, 3, 16, 16)]) + _DETECTOR + _DETECTIONS).encode(),
    ]
    for case in CASES:
        bottoms = " ".join(f'bottom: "b{i}"' for i in range(len(case.bottoms)))
        tops = " ".join(f'top: "t{i}"' for i in range(case.tops))
        text = f'layer {{ name: "l" type: "{case.type}" {bottoms} {tops} {case.text} }}'
        samples.append((_inputs([b.shape for b in case.bottoms]) + text).encode())
    return samples


@cache
def exportable_nets() -> list[bytes]:
    """Those of `nets` that can be exported, and one in which every name is one that the exporter could make."""
    names = 'layer { name: "a" type: "Input" top: "a" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }'
    for bottom, top in (("a", "a/weights"), ("a/weights", "a/node"), ("a/node", "a/Conv_2")):
        names += (
            f'layer {{ name: "{top.replace("a/", "")}" type: "Convolution" bottom: "{bottom}" top: "{top}" '
            "convolution_param { num_output: 3 kernel_size: 1 } }"
        )
    samples = [names.encode()]
    for sample in nets():
        try:
            onnx_model(Net(parse_text(sample.decode(), caffe_pb2.NetParameter(), "sample"), 1))
            samples.append(sample)
        except CaffeError:
            pass
    return samples


def _fields(message: Message) -> list[tuple[Message, FieldDescriptor]]:
    """Every field that is set in a message or those in it."""
    found: list[tuple[Message, FieldDescriptor]] = []
    for field, value in message.ListFields():
        found.append((message, field))
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                found += _fields(part)
    return found


def _other(field: FieldDescriptor, rng: random.Random) -> Any:
    """Another value for a field that holds no message."""
    if field.type == FieldDescriptor.TYPE_BOOL:
        return rng.random() < 0.5
    if field.enum_type is not None:
        return rng.choice(field.enum_type.values).number
    if field.type == FieldDescriptor.TYPE_STRING:
        return rng.choice(_STRINGS)
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return rng.choice(_FLOATS)
    return rng.choice(_NUMBERS)


def change(message: Message, rng: random.Random) -> None:
    """One change to a message, in place; sometimes none, where the value does not fit the field."""
    fields = _fields(message)
    if not fields:
        return
    owner, field = rng.choice(fields)
    value = getattr(owner, field.name)
    many = not isinstance(value, Message | str | bytes | int | float | bool)
    kind = rng.choice(("value", "value", "value", "clear", "twice", "new"))
    if kind == "clear":
        owner.ClearField(field.name)
    elif kind == "twice" and many and len(value):
        value.extend([rng.choice(list(value))] * rng.choice((1, 1, 5, 40)))
    elif kind == "new":
        descriptor: Any = owner.DESCRIPTOR  # which protobuf declares as one of two classes
        other: FieldDescriptor = rng.choice(descriptor.fields)
        if other.message_type is not None:
            target = getattr(owner, other.name)
            target.SetInParent() if isinstance(target, Message) else target.add()
        elif other.name not in ("file_name", "source", "save_file", "module"):
            _set(owner, other, _other(other, rng))
    elif field.message_type is None:
        _set(owner, field, _other(field, rng), rng.randrange(len(value)) if many else None)


def _set(owner: Message, field: FieldDescriptor, value: Any, index: int | None = None) -> None:
    try:
        if index is not None:
            getattr(owner, field.name)[index] = value
        elif isinstance(getattr(owner, field.name), str | bytes | int | float | bool):
            setattr(owner, field.name, value)
        else:
            getattr(owner, field.name).append(value)
    except (ValueError, TypeError):
        pass  # -1 for an unsigned field


def changed(samples: Sequence[bytes], rng: random.Random) -> bytes:
    """One of the nets after one to four changes."""
    net: Any = parse_text(rng.choice(samples).decode(), caffe_pb2.NetParameter(), "sample")
    for _ in range(rng.choice((1, 1, 2, 4))):
        change(net, rng)
    return to_text(net).encode()


def _safely(work: Callable[[Path], object]) -> Callable[[Path], object]:
    """With little memory, and without what a net is allowed to do: run code, write files."""

    def run(path: Path) -> object:
        memory.device_memory = lambda: NET_MEMORY
        runtime.python_layers = runtime.layers_write = False
        torch.set_num_threads(1)
        torch.manual_seed(0)
        return work(path)

    return run


def _run(path: Path) -> float:
    """Both phases, as a whole graph and layer by layer, forward and backward."""
    total = 0.0
    for phase in (0, 1):
        net = Net(read_net(path), phase)
        for name in net.inputs:
            shape = net.blobs[name].shape
            net.blobs[name].set_data(torch.randint(0, 2, tuple(shape)).float())
        if phase == 0:
            for blob in net.learnable_params:
                if blob.requires_grad:
                    blob.data.normal_()
            loss, _ = net()
            if loss.requires_grad:
                loss.backward()
            net.forward_layers()
            net.backward_layers()
            total += float(loss.detach())
        else:
            with torch.no_grad():
                total += float(net()[0])
        net.close()
    return total


def _export(path: Path) -> int:
    net = Net(read_net(path), 1)
    return len(onnx_model(net).SerializeToString())


run_net = _safely(_run)
export_net = _safely(_export)
