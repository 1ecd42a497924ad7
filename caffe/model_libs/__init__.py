"""Building blocks for nets in NetSpec (SSD's `caffe.model_libs`): VGG, ZF, ResNet and Inception bodies, multibox heads.

Scripts use it as `from caffe.model_libs import *`, which gives them `L`, `P`, `caffe_pb2`, `caffe` and `os` as well.
The functions have the names, arguments, and layer names that those scripts and the weights made with them rely on.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import caffe
from caffe.model_libs.blocks import ConvBNLayer, UnpackVariable
from caffe.model_libs.inception import InceptionTower, InceptionV3Body
from caffe.model_libs.multibox_head import CreateMultiBoxHead
from caffe.model_libs.resnet import ResBody, ResNet101Body, ResNet152Body
from caffe.model_libs.vgg import VGGNetBody, ZFNetBody
from caffe.net_spec import layers as L
from caffe.net_spec import params as P
from caffe.proto import caffe_pb2

__all__ = [
    "ConvBNLayer", "CreateAnnotatedDataLayer", "CreateMultiBoxHead", "InceptionTower", "InceptionV3Body", "L", "P",
    "ResBody", "ResNet101Body", "ResNet152Body", "UnpackVariable", "VGGNetBody", "ZFNetBody", "caffe", "caffe_pb2",
    "check_if_exist", "make_if_not_exist", "os",
]  # fmt: skip


def check_if_exist(path: str) -> bool:
    """Whether `path` exists."""
    return os.path.exists(path)


def make_if_not_exist(path: str) -> None:
    """Creates the directory `path` and its parents, if they are missing."""
    os.makedirs(path, exist_ok=True)


def CreateAnnotatedDataLayer(
    source: str,
    batch_size: int = 32,
    backend: int = P.Data.LMDB,
    output_label: bool = True,
    train: bool = True,
    label_map_file: str = "",
    anno_type: int | None = None,
    transform_param: dict[str, Any] | None = None,
    batch_sampler: Sequence[dict[str, Any]] = ({},),
) -> Any:
    """An AnnotatedData layer: its tops `data` and, with `output_label`, `label`."""
    annotated: dict[str, Any] = {"label_map_file": label_map_file, "batch_sampler": list(batch_sampler)}
    if anno_type is not None:
        annotated["anno_type"] = anno_type
    return L.AnnotatedData(
        name="data",
        include=dict(phase=caffe_pb2.TRAIN if train else caffe_pb2.TEST),
        transform_param=transform_param or {},
        annotated_data_param=annotated,
        data_param=dict(batch_size=batch_size, backend=backend, source=source),
        ntop=2 if output_label else 1,
    )
