"""Weights files: the original's bytes, all format versions, and other files in their place."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from google.protobuf.message import Message

from caffe.errors import CaffeError, ProtoError
from caffe.proto import caffe_pb2
from caffe.proto.weights import LayerWeights, read_weights, write_weights
from tests.processes import python
from tests.proto.small_net import small_net


def outline_of(data: bytes) -> caffe_pb2.NetParameter:
    net = caffe_pb2.NetParameter.FromString(data)
    for layer in net.layer:
        del layer.blobs[:]
    return net


@pytest.fixture
def small(tmp_path: Path) -> Path:
    net, blobs = small_net()
    path = tmp_path / "small.caffemodel"
    write_weights(path, net, blobs)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "train_run/tiny_iter_120.caffemodel",
        "train_run/tiny_iter_240.caffemodel",
        "end_to_end/small_s1_iter_2000.caffemodel",
    ],
)
def test_the_originals_file_is_read_and_written_byte_for_byte(shared: Path, tmp_path: Path, name: str) -> None:
    source = shared / "golden" / name
    layers = read_weights(source)
    message = caffe_pb2.NetParameter.FromString(source.read_bytes())
    assert [(layer.name, layer.type) for layer in layers] == [(layer.name, layer.type) for layer in message.layer]
    for layer, expected in zip(layers, message.layer, strict=True):
        for blob, proto in zip(layer.blobs, expected.blobs, strict=True):
            assert blob.shape == tuple(proto.shape.dim)
            np.testing.assert_array_equal(blob.reshape(-1), np.array(proto.data, "f4"))
    copy = tmp_path / "copy.caffemodel"
    write_weights(copy, outline_of(source.read_bytes()), [layer.blobs for layer in layers])
    assert copy.read_bytes() == source.read_bytes()


def test_weights_of_another_fork_are_read(shared: Path) -> None:
    layers = read_weights(shared / "data/facedetect/yufacedetectnet-open-v2.caffemodel")
    assert sum(blob.size for layer in layers for blob in layer.blobs) > 800_000


@pytest.mark.parametrize("name", ["w.caffemodel", "w.caffemodel.h5"])
def test_data_and_diffs_come_back(tmp_path: Path, name: str) -> None:
    net, blobs = small_net()
    diffs = [[blob + 1 for blob in layer] for layer in blobs]
    write_weights(tmp_path / name, net, blobs, diffs)
    for index, layer in enumerate(
        sorted(read_weights(tmp_path / name), key=lambda w: ["data", "ip", "scale"].index(w.name))
    ):
        for mine, given in zip(layer.blobs + layer.diffs, blobs[index] + diffs[index], strict=True):
            assert mine.shape == given.shape
            np.testing.assert_array_equal(mine, given)


def test_our_bytes_are_protobufs(small: Path) -> None:
    net, blobs = small_net()
    for layer, arrays in zip(net.layer, blobs, strict=True):
        for array in arrays:
            blob = layer.blobs.add(data=array.reshape(-1).tolist())
            if array.ndim:
                blob.shape.dim.extend(array.shape)
    assert small.read_bytes() == net.SerializeToString(deterministic=True)


def test_arrays_of_other_kinds_are_written_as_floats(tmp_path: Path) -> None:
    net = caffe_pb2.NetParameter()
    net.layer.add(name="a", type="Scale")
    array = np.arange(6, dtype=np.float64).reshape(2, 3).T
    write_weights(tmp_path / "a", net, [[array]])
    np.testing.assert_array_equal(read_weights(tmp_path / "a")[0].blobs[0], array.astype("f4"))


def test_hdf5_leaves_out_parameters_that_another_layer_owns(tmp_path: Path) -> None:
    net, blobs = small_net()
    path = tmp_path / "w.h5"
    write_weights(path, net, blobs, shared={(1, 0)})
    with h5py.File(path) as file:
        assert list(file["data"]) == ["data", "ip", "scale"]
        assert list(file["data/ip"]) == ["1"]
        assert file["data/ip/1"].dtype == np.float32


def test_layer_names_with_slashes_survive_hdf5(tmp_path: Path) -> None:
    net = caffe_pb2.NetParameter()
    net.layer.add(name="fire/squeeze")
    net.layer.add(name="fire/expand")
    write_weights(tmp_path / "w.h5", net, [[np.ones(2, "f4")], []])
    assert [(w.name, len(w.blobs)) for w in read_weights(tmp_path / "w.h5")] == [
        ("fire/expand", 0),
        ("fire/squeeze", 1),
    ]


def test_hdf5_is_recognized_under_any_name(tmp_path: Path) -> None:
    net, blobs = small_net()
    write_weights(tmp_path / "w.h5", net, blobs)
    os.rename(tmp_path / "w.h5", tmp_path / "w.caffemodel")
    assert {layer.name for layer in read_weights(tmp_path / "w.caffemodel")} == {"data", "ip", "scale"}


def blob_with(**values: Any) -> caffe_pb2.BlobProto:
    return caffe_pb2.BlobProto(**values)


def save(path: Path, message: Message) -> Path:
    path.write_bytes(message.SerializeToString())
    return path


def test_v1_and_v0_layers_and_legacy_shapes(tmp_path: Path) -> None:
    net = caffe_pb2.NetParameter(name="old")
    v1 = net.layers.add(name="fc", type=caffe_pb2.V1LayerParameter.INNER_PRODUCT)
    v1.blobs.add(num=1, channels=1, height=2, width=3, data=range(6))
    v0 = net.layers.add().layer
    v0.name, v0.type = "conv1", "conv"
    v0.blobs.add(num=2, data=[1, 2], channels=1, height=1, width=1, diff=[3, 4])
    net.layers.add().layer.type = "padding"
    first, second = read_weights(save(tmp_path / "old.caffemodel", net))
    assert (first.name, first.type, first.blobs[0].shape) == ("fc", "InnerProduct", (1, 1, 2, 3))
    assert (second.name, second.type, second.blobs[0].shape) == ("conv1", "Convolution", (2, 1, 1, 1))
    np.testing.assert_array_equal(second.diffs[0].reshape(-1), [3, 4])


def test_unpacked_and_double_numbers(tmp_path: Path) -> None:
    """Protobuf's own parser accepts packed fields unpacked, and mixtures; so do these."""
    unpacked = b"".join(b"\x2d" + np.float32(v).tobytes() for v in (1, 2, 45))
    mixed = unpacked + b"\x2a\x08" + np.array([4, 5], "<f4").tobytes() + b"\x2d" + np.float32(6).tobytes()
    shape = b"\x3a\x02\x08\x06"
    doubles = b"\x42\x10" + np.array([0.1, 7], "<f8").tobytes() + b"\x41" + np.float64(8).tobytes()
    net = caffe_pb2.NetParameter()
    layer = net.layer.add(name="l", type="Scale")
    layer.blobs.add().MergeFromString(mixed + shape)
    layer.blobs.add().MergeFromString(doubles + b"\x3a\x03\x0a\x01\x03")
    raw = b"".join(b"\x3a" + bytes([len(blob)]) + blob for blob in (mixed + shape, doubles + b"\x3a\x03\x0a\x01\x03"))
    path = tmp_path / "w.caffemodel"
    path.write_bytes(b"\xa2\x06" + bytes([len(raw)]) + raw)
    blobs = read_weights(path)[0].blobs
    np.testing.assert_array_equal(blobs[0], np.array(layer.blobs[0].data, "f4"))
    np.testing.assert_array_equal(blobs[1], np.array(layer.blobs[1].double_data, "f4"))


def test_packed_data_is_not_copied(small: Path) -> None:
    blob = read_weights(small)[1].blobs[0]
    assert not blob.flags.owndata
    assert not blob.flags.writeable


@pytest.mark.parametrize("cut", [1, 20, 60, 80, -1])
def test_a_truncated_file_is_refused(small: Path, cut: int) -> None:
    small.write_bytes(small.read_bytes()[:cut])
    with pytest.raises(ProtoError, match=r"small\.caffemodel: (truncated|not weights)"):
        read_weights(small)


def test_a_truncated_file_says_how_far_it_goes(small: Path) -> None:
    small.write_bytes(small.read_bytes()[:-4])
    with pytest.raises(ProtoError, match=r"truncated after layer 'ip' \(2 read\).*copy or download it again"):
        read_weights(small)


def test_a_shape_that_contradicts_its_data_names_layer_and_blob(tmp_path: Path) -> None:
    net = caffe_pb2.NetParameter()
    blob = net.layer.add(name="conv1").blobs.add(data=[1, 2, 3])
    blob.shape.dim.extend([2, 2])
    with pytest.raises(ProtoError, match=r"layer 'conv1', blob 0: a blob of shape \(2, 2\) with 3 numbers"):
        read_weights(save(tmp_path / "w.caffemodel", net))


@pytest.mark.parametrize("dims", [[-1, -3], [1 << 40, 1 << 40], [1 << 62], [0, 1 << 40], [1] * 33 + [3]])
def test_hostile_shapes_cost_nothing(tmp_path: Path, dims: list[int]) -> None:
    net = caffe_pb2.NetParameter()
    net.layer.add(name="conv1").blobs.add(data=[1, 2, 3]).shape.dim.extend(dims)
    with pytest.raises(ProtoError, match="conv1"):
        read_weights(save(tmp_path / "w.caffemodel", net))


def test_a_hostile_length_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    path.write_bytes(b"\x0a\x01n\xa2\x06\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
    with pytest.raises(ProtoError, match="claims 9,223,372,036,854,775,807 bytes"):
        read_weights(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "an empty file"),
        (b'name: "net"\nlayer {\n}\n', "text"),
        (b"PK\x03\x04aaaa", "zip archive"),
        (b"\x80\x04\x95aaaa", "a Python pickle"),
        (b"\xff\xd8\xff\xe0 JFIF", "a JPEG image"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (bytes(4096), "zeros"),
        (caffe_pb2.SolverState(iter=3, learned_net="a.caffemodel").SerializeToString(), "SolverState"),
        (caffe_pb2.BlobProto(num=1, channels=3, height=1, width=1, data=[1, 2, 3]).SerializeToString(), "BlobProto"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "given.caffemodel"
    path.write_bytes(content)
    with pytest.raises(ProtoError, match=says) as error:
        read_weights(path)
    assert str(path) in str(error.value)


def test_a_missing_file_a_folder_and_an_lmdb(tmp_path: Path, small: Path) -> None:
    with pytest.raises(ProtoError, match=r"no such file.*small\.caffemodel"):
        read_weights(tmp_path / "smalll.caffemodel")
    with pytest.raises(ProtoError, match="a directory"):
        read_weights(tmp_path)
    (tmp_path / "data.mdb").touch()
    with pytest.raises(ProtoError, match="directory of an LMDB"):
        read_weights(tmp_path)


def test_an_lmdbs_data_file(shared: Path) -> None:
    with pytest.raises(ProtoError, match="LMDB"):
        read_weights(shared / "golden/train_run/lmdb/data.mdb")


@pytest.mark.parametrize("name", ["w.caffemodel", "w.caffemodel.h5"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, blobs = small_net()
    path = tmp_path / name
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("caffe.files.os.fsync", full)
    with pytest.raises(CaffeError, match=r"no space left .*MB are free"):
        write_weights(path, net, blobs)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [name]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    net, blobs = small_net()
    with pytest.raises(CaffeError, match=r"the directory .*snapshots does not exist"):
        write_weights(tmp_path / "snapshots" / "w.caffemodel", net, blobs)


def test_layer_weights_default_to_no_diffs() -> None:
    assert LayerWeights("a", "b", []).diffs == []


@pytest.mark.parametrize("name", ["w.caffemodel", "w.caffemodel.h5"])
def test_a_file_that_cannot_grow_is_an_error_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    """A limit on the size of files makes writes fail as on a full disk, which a test cannot fill."""
    program = f"""
import resource, signal, numpy as np
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from caffe.proto.weights import write_weights
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
net = caffe_pb2.NetParameter()
net.layer.add(name="x")
try:
    write_weights({str(tmp_path / name)!r}, net, [[np.ones(100_000, "f4")]])
except CaffeError as error:
    print(error)
"""
    result = python("-c", program, check=True)
    assert result.stdout == f"{tmp_path / name}: not written: File too large\n"
    assert os.listdir(tmp_path) == []
