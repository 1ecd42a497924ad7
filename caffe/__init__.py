"""Caffe's SSD branch, rebuilt on PyTorch: the Python interface that its scripts and notebooks import."""

from __future__ import annotations

import importlib
from typing import Any

# The version of the SSD branch's pycaffe, for scripts that check it. The version of this package is its metadata's
# (`caffe --version` shows both).
__version__ = "1.0.0-rc3"

# Commands that need no net (convert_annoset, parse_log, …) should start at once, so what needs PyTorch is loaded when
# first asked for.
_WHERE = {
    "Net": "caffe.pycaffe",
    "SGDSolver": "caffe.pysolver",
    "NesterovSolver": "caffe.pysolver",
    "AdaGradSolver": "caffe.pysolver",
    "RMSPropSolver": "caffe.pysolver",
    "AdaDeltaSolver": "caffe.pysolver",
    "AdamSolver": "caffe.pysolver",
    "get_solver": "caffe.pysolver",
    "set_mode_cpu": "caffe.engine.modes",
    "set_mode_gpu": "caffe.engine.modes",
    "set_device": "caffe.engine.modes",
    "set_random_seed": "caffe.runtime",
    "layer_type_list": "caffe.engine.modes",
    "Layer": "caffe.engine.modes",
    "Classifier": "caffe.classifier",
    "Detector": "caffe.detector",
    "ImageDetector": "caffe.image_detector",
    "NetSpec": "caffe.net_spec",
    "layers": "caffe.net_spec",
    "params": "caffe.net_spec",
    "to_proto": "caffe.net_spec",
    "TRAIN": "caffe.proto.caffe_pb2",
    "TEST": "caffe.proto.caffe_pb2",
}
_MODULES = {"io", "draw", "net_spec", "classifier", "detector", "model_libs", "coord_map", "dnn", "proto", "pycaffe"}

__all__ = sorted([*_WHERE, "io", "proto", "__version__"])


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"caffe.{name}")
    else:
        raise AttributeError(f"module 'caffe' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE, *_MODULES})
