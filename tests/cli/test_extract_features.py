"""extract_features: what is in the databases, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import lmdb
import pytest

from caffe.cli import extract_features
from caffe.engine.layer import TEST
from caffe.engine.net import Net
from caffe.engine.weights import save
from caffe.proto import caffe_pb2
from caffe.proto.text import parse_text

DATA = """
from caffe import Layer


class Halves(Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(2, 3, 2, 2)

    def forward(self, bottom, top):
        top[0].data[...] = 0.5
"""
NET = """
name: "features"
layer { name: "x" type: "Python" top: "x" python_param { module: "halves" layer: "Halves" } }
layer { name: "y" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 5 weight_filler { type: "constant" value: 0.25 } } }
"""


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "halves.py").write_text(DATA)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    save(Net(parse_text(NET, caffe_pb2.NetParameter(), "net.prototxt"), TEST), "net.caffemodel")
    return tmp_path


def test_datums_of_two_blobs(workdir: Path) -> None:
    assert extract_features.main(["net.caffemodel", "net.prototxt", "x,y", "x_lmdb,y_lmdb", "3", "lmdb"]) == 0
    for name, shape, value in (("x_lmdb", (3, 2, 2), 0.5), ("y_lmdb", (5, 1, 1), 12 * 0.5 * 0.25)):
        with lmdb.open(name, readonly=True) as env, env.begin() as transaction:
            records = list(transaction.cursor())
        assert [key for key, _ in records] == [f"{i:010d}".encode() for i in range(6)]
        datum = caffe_pb2.Datum.FromString(records[-1][1])
        assert (datum.channels, datum.height, datum.width) == shape
        assert set(datum.float_data) == {value}
        assert len(datum.float_data) == shape[0] * shape[1] * shape[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["net.caffemodel", "net.prototxt", "x,y", "x_lmdb", "3", "lmdb"], "2 blob names and 1 dataset names"),
        (["net.caffemodel", "net.prototxt", "z", "z_lmdb", "3", "lmdb"], "no blob named z; it has: x, y"),
        (["net.caffemodel", "net.prototxt", "x", "x_lmdb", "0", "lmdb"], "must be at least 1"),
        (["none.caffemodel", "net.prototxt", "x", "x_lmdb", "1", "lmdb"], "none.caffemodel: no such file"),
    ],
)
def test_refused(workdir: Path, capfd: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert extract_features.main(words) == 1
    assert message in capfd.readouterr().err
    assert not (workdir / words[3].split(",")[0]).exists()
