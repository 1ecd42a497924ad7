"""A net of a few numbers, for tests of weights files."""

from __future__ import annotations

import numpy as np

from caffe.proto import caffe_pb2


def small_net() -> tuple[caffe_pb2.NetParameter, list[list[np.ndarray]]]:
    net = caffe_pb2.NetParameter(name="small")
    net.layer.add(name="data", type="Input", top=["x"])
    net.layer.add(name="ip", type="InnerProduct", bottom=["x"], top=["y"]).inner_product_param.num_output = 2
    net.layer.add(name="scale", type="Scale", bottom=["y"], top=["y"], phase=caffe_pb2.TEST)
    rng = np.random.default_rng(0)
    blobs = [[], [rng.normal(size=(2, 3)).astype("f4"), np.zeros(2, "f4")], [np.array(3.0, "f4")]]
    return net, blobs
