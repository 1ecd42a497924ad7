"""pycaffe's compiled module by its name, for scripts that test for its types: `type(x) is caffe._caffe.BlobVec`.

Where the original converts a C++ vector to a class of its own, this project has a list: BlobVec holds a layer's
parameters; the other classes are lists, so that a test with `isinstance` finds what it looks for.
"""

from __future__ import annotations

from caffe import __version__
from caffe.engine.blob import Blob, BlobVec
from caffe.engine.modes import Layer, layer_type_list, set_device, set_mode_cpu, set_mode_gpu
from caffe.proto.caffe_pb2 import LayerParameter
from caffe.pycaffe import Net
from caffe.pysolver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    Solver,
    get_solver,
)
from caffe.runtime import set_random_seed

#: what a Python layer gets as bottom and top, net.layers, net.outputs, net._inputs, … and solver.test_nets
RawBlobVec = LayerVec = StringVec = IntVec = DtypeVec = NetVec = BoolVec = list

__all__ = [
    "AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "Blob", "BlobVec", "BoolVec", "DtypeVec", "IntVec", "Layer",
    "LayerParameter", "LayerVec", "NesterovSolver", "Net", "NetVec", "RMSPropSolver", "RawBlobVec", "SGDSolver",
    "Solver", "StringVec", "__version__", "get_solver", "layer_type_list", "set_device", "set_mode_cpu",
    "set_mode_gpu", "set_random_seed",
]  # fmt: skip
