"""Nets that are dropped leave nothing behind, without waiting for garbage collection."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import caffe
from caffe.data.lmdb_source import LmdbWriter
from caffe.proto import caffe_pb2

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
NET = """
layer { name: "data" type: "Data" top: "data" top: "label" transform_param { crop_size: 8 mirror: true }
  data_param { source: "db" batch_size: 4 backend: LMDB } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" inner_product_param { num_output: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _children() -> int:
    return len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_a_hundred_nets(phase: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAFFE_DATA_WORKERS", "1")
    monkeypatch.setenv("GLOG_minloglevel", "2")
    with LmdbWriter("db") as writer:
        for number in range(6):
            image = np.full((10, 10, 3), number, np.uint8)
            datum = caffe_pb2.Datum(channels=3, label=number % 5, encoded=True)
            datum.data = cv2.imencode(".png", image)[1].tobytes()
            writer.put(f"{number:08d}_{number}.png".encode(), datum.SerializeToString())
    Path("net.prototxt").write_text(NET)

    def use() -> None:
        net = caffe.Net("net.prototxt", phase)
        net.forward()
        net.backward()
        assert net.blobs["data"].data.shape == (4, 3, 8, 8)

    use()  # what is opened once for the process
    gc.collect()
    files, children = _open_files(), _children()
    gc.disable()
    try:
        for _ in range(50):
            use()
        assert _children() == children
        assert _open_files() == files
    finally:
        gc.enable()
