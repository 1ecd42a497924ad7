"""Batch normalization for pretraining: inserted into a net that has none, and folded into its weights afterwards.

    python demo/pretrain/batch_norm.py insert train.prototxt
        inserts BatchNorm and Scale after every convolution that a ReLU follows; rewrites the file
    python demo/pretrain/batch_norm.py fold trained.caffemodel plain.prototxt plain.caffemodel
        weights for the net without them (`plain.prototxt`) with the same result as the trained ones in phase TEST

Deep nets without it start slowly, and SSD has none. With mean m, standard deviation s, scale g and shift b per channel,
g (W x + c − m) / s + b is a convolution of weights W g / s and bias (c − m) g / s + b, so nothing is lost.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from caffe.proto import caffe_pb2
from caffe.proto.text import read_net, to_text
from caffe.proto.weights import read_weights, write_weights

#: BatchNormParameter's default
EPS = 1e-5


def insert(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """`net` with BatchNorm and Scale, in place, after each convolution that an in-place ReLU follows."""
    activated = {layer.bottom[0] for layer in net.layer if layer.type == "ReLU"}
    result = caffe_pb2.NetParameter()
    result.CopyFrom(net)
    del result.layer[:]
    for layer in net.layer:
        result.layer.append(layer)
        if layer.type == "Convolution" and layer.top[0] in activated:
            blob = layer.top[0]
            norm = result.layer.add(name=f"{layer.name}_bn", type="BatchNorm", bottom=[blob], top=[blob])
            norm.batch_norm_param.moving_average_fraction = 0.97  # the run is short: statistics of its last part
            scale = result.layer.add(name=f"{layer.name}_scale", type="Scale", bottom=[blob], top=[blob])
            scale.scale_param.bias_term = True
    return result


def fold(trained: dict[str, list[np.ndarray]], name: str) -> list[np.ndarray]:
    """The blobs of convolution `name` with the normalization after it folded in; unchanged if there is none."""
    blobs = trained.get(name, [])
    if f"{name}_bn" not in trained:
        return blobs
    (mean, variance, weight), (gain, shift) = trained[f"{name}_bn"], trained[f"{name}_scale"]
    factor = gain / np.sqrt(variance / weight + EPS)
    kernel, bias = blobs
    return [kernel * factor[:, None, None, None], (bias - mean / weight) * factor + shift]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("insert", "fold"))
    parser.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    if options.action == "insert":
        (path,) = options.files
        path.write_text(to_text(insert(read_net(path))))
        return
    source, prototxt, target = options.files
    trained = {layer.name: [np.array(blob) for blob in layer.blobs] for layer in read_weights(source)}
    net = read_net(prototxt)
    write_weights(target, net, [fold(trained, layer.name) for layer in net.layer])


if __name__ == "__main__":
    main()
