"""Batch normalization in the networks that start from random numbers: all have it, with statistics for a short training.

Without it, the networks on VGG-16 do not learn within hundreds of iterations. It adds nothing to what a trained network
can compute, because it can be folded into the convolutions.
"""

from __future__ import annotations

from pathlib import Path

from caffe import log
from caffe.files import write_text
from caffe.proto import caffe_pb2
from caffe.proto.text import read_net, to_text
from demo.pretrain.batch_norm import insert

#: how much of the mean and the variance so far an iteration keeps. Caffe's 0.999 averages over a thousand iterations,
#: so that after a short training the statistics would be mostly those of earlier weights.
KEPT = 0.97


def normalized(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """Returns a net in which each convolution with a ReLU is normalized. One that has BatchNorm layers keeps to these."""
    has_own = any(layer.type == "BatchNorm" for layer in net.layer)
    result = caffe_pb2.NetParameter()
    result.CopyFrom(net if has_own else insert(net))
    for layer in result.layer:
        if layer.type == "BatchNorm":
            layer.batch_norm_param.moving_average_fraction = KEPT
    return result


def normalize(folder: Path) -> None:
    """Normalizes the nets in a directory that a generator wrote. It may be called again."""
    for path in sorted(folder.glob("*.prototxt")):
        if path.name.startswith("solver"):
            continue
        with log.quiet():
            net = read_net(str(path))
        changed = normalized(net)
        if changed != net:
            heading = path.read_text(encoding="utf-8").partition("\n")[0]
            write_text(path, f"{heading}\n{to_text(changed)}")
