"""The Python layer: users' classes, run as layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe.errors import NetError

LAYERS = """
import caffe
import numpy as np


class TimesTen(caffe.Layer):
    def setup(self, bottom, top):
        assert self.param_str_ == self.param_str
        self.factor = float(self.param_str or 10)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.factor * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        assert propagate_down == [True]
        bottom[0].diff[...] = self.factor * top[0].diff


class Raises(caffe.Layer):
    def setup(self, bottom, top):
        raise RuntimeError("the user's own")


class Weighted(caffe.Layer):
    def setup(self, bottom, top):
        self.blobs.add_blob(1)
        self.blobs[0].data[0] = 3

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.blobs[0].data[0] * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[0] += (top[0].diff * bottom[0].data).sum()
        bottom[0].diff[...] = self.blobs[0].data[0] * top[0].diff


class Phase(caffe.Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape()

    def forward(self, bottom, top):
        assert str(self.phase) == ("TRAIN", "TEST")[self.phase]
        top[0].data[()] = self.phase


class NotOurs:
    pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "users_layers.py").write_text(LAYERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def make(folder: Path, layers: str, phase: int = 0) -> caffe.Net:
    file = folder / "net.prototxt"
    data = (
        "layer { name: 'data' type: 'Input' top: 'data' input_param { shape { dim: 4 dim: 9 } } } force_backward: true "
    )
    file.write_text(data + layers)
    return caffe.Net(str(file), phase)


def layer(name: str, cls: str, extra: str = "") -> str:
    return (
        f"layer {{ type: 'Python' name: '{name}' bottom: '{ {'one': 'data', 'two': 'one'}.get(name, 'data') }' top: '{name}' "
        f"python_param {{ module: 'users_layers' layer: '{cls}' {extra} }} }} "
    )


def test_forward_and_backward(folder: Path) -> None:
    net = make(folder, layer("one", "TimesTen") + layer("two", "TimesTen", "param_str: '5'"))
    net.blobs["data"].data[...] = 2
    assert (net.forward()["two"] == 100).all()
    net.blobs["two"].diff[...] = 7
    assert (net.backward()["data"] == 350).all()


def test_reshape(folder: Path) -> None:
    net = make(folder, layer("one", "TimesTen"))
    net.blobs["data"].reshape(3, 2)
    net.reshape()
    assert net.blobs["one"].shape == (3, 2)
    assert net.forward()["one"].shape == (3, 2)


def test_an_exception_of_the_user_s_comes_through(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="the user's own"):
        make(folder, layer("one", "Raises"))


def test_parameters_train_and_are_saved(folder: Path) -> None:
    net = make(folder, layer("one", "Weighted"))
    assert net.params["one"][0].data[0] == 3
    net.blobs["data"].data[...] = 2
    assert (net.forward()["one"] == 6).all()
    net.blobs["one"].diff[...] = 1
    net.backward()
    assert net.params["one"][0].diff[0] == 2 * 36
    net.params["one"][0].data[0] = 4
    assert (net.forward()["one"] == 8).all()
    net.save(str(folder / "w.caffemodel"))
    other = make(folder, layer("one", "Weighted"))
    other.copy_from(str(folder / "w.caffemodel"))
    assert other.params["one"][0].data[0] == 4


def test_phase_and_the_user_s_own_object(folder: Path) -> None:
    for phase in (caffe.TRAIN, caffe.TEST):
        net = make(folder, layer("one", "Phase"), phase)
        assert float(np.asarray(net.forward()["one"])) == phase
        assert type(net.layers[1]).__name__ == "Phase"


@pytest.mark.parametrize(
    ("python_param", "message"),
    [
        ("module: 'no_such_module' layer: 'X'", "layer 'one'.*cannot import module 'no_such_module'.*PYTHONPATH"),
        ("module: 'users_layers' layer: 'X'", "layer 'one'.*no class 'X'"),
        ("module: 'users_layers' layer: 'NotOurs'", "layer 'one'.*derived from caffe.Layer"),
    ],
)
def test_a_class_that_cannot_be_had(folder: Path, python_param: str, message: str) -> None:
    text = f"layer {{ type: 'Python' name: 'one' bottom: 'data' top: 'one' python_param {{ {python_param} }} }}"
    with pytest.raises(NetError, match=message):
        make(folder, text)


def test_backward_without_a_forward(folder: Path) -> None:
    net = make(folder, layer("one", "TimesTen"))
    net.blobs["one"].diff[...] = 7
    assert (net.backward()["data"] == 70).all()
