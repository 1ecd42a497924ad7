"""A caffemodel as safetensors and back: the same bytes, for every form that a caffemodel has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

from caffe.cli import export_weights, import_weights
from caffe.errors import CaffeError
from caffe.interop.safetensors_file import from_safetensors, to_safetensors
from caffe.proto import caffe_pb2
from caffe.proto.weights import read_weights, write_weights

ROOT = Path(__file__).parents[2]


def there_and_back(path: Path, tmp_path: Path) -> bytes:
    to_safetensors(path, tmp_path / "x.safetensors")
    from_safetensors(tmp_path / "x.safetensors", tmp_path / "back.caffemodel")
    return (tmp_path / "back.caffemodel").read_bytes()


def test_the_command(tmp_path: Path) -> None:
    """A whole detector's file."""
    source = ROOT / "demo/pretrain/ssd300_narrow.caffemodel"
    middle, back = tmp_path / "x.safetensors", tmp_path / "back.caffemodel"
    assert export_weights.main(["-to", "safetensors", "-weights", str(source), "-out", str(middle)]) == 0
    assert import_weights.main(["-from", "safetensors", "-weights", str(middle), "-out", str(back)]) == 0
    assert back.read_bytes() == source.read_bytes()


NETS = {
    "shape": 'layer { name: "a" type: "X" blobs { data: 1 data: -0.0 data: nan shape { dim: 3 } } bottom: "x" }',
    "legacy shape": 'layer { name: "a" blobs { num: 1 channels: 1 height: 1 width: 2 data: 1 data: 2 } }',
    "V1": 'layers { name: "a" type: CONVOLUTION blobs { data: 3 data: 4 shape { dim: 2 } } }',
    "V0": 'layers { layer { name: "a" type: "conv" blobs { data: 3 num: 1 channels: 1 height: 1 width: 1 } } }',
    "diff": 'layer { name: "a" blobs { data: 3 diff: 5 shape { dim: 1 } } }',
    "doubles": 'layer { name: "a" blobs { double_data: 0.1 double_data: 1e-30 shape { dim: 2 } } }',
    "one name twice": 2 * 'layer { name: "a" blobs { data: 1 shape { dim: 1 } } } ',
    "no name": 'layer { blobs { data: 1 shape { dim: 1 } } }',
    "no axes": 'layer { name: "a/b.c" blobs { data: 1 shape { } } }',
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_bit_for_bit(name: str, tmp_path: Path) -> None:
    content = text_format.Parse(NETS[name], caffe_pb2.NetParameter()).SerializeToString()
    # a field that this project does not know stays too
    content += b"\xfa\x7f\x03abc"
    (tmp_path / "x.caffemodel").write_bytes(content)
    assert there_and_back(tmp_path / "x.caffemodel", tmp_path) == content


def test_changed_numbers_arrive(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    source = ROOT / "demo/pretrain/ssd300_narrow.caffemodel"
    to_safetensors(source, tmp_path / "x.safetensors")
    arrays = load_file(tmp_path / "x.safetensors")
    assert arrays["conv1_1.0"].shape == read_weights(source)[1].blobs[0].shape
    arrays["conv1_1.1"] += 1
    with safe_open(tmp_path / "x.safetensors", "np") as file:
        metadata = file.metadata()
    save_file(arrays, tmp_path / "y.safetensors", metadata)
    from_safetensors(tmp_path / "y.safetensors", tmp_path / "y.caffemodel")
    before, after = ({layer.name: layer for layer in read_weights(p)} for p in (source, tmp_path / "y.caffemodel"))
    np.testing.assert_array_equal(after["conv1_1"].blobs[1], before["conv1_1"].blobs[1] + 1)
    np.testing.assert_array_equal(after["conv1_2"].blobs[0], before["conv1_2"].blobs[0])


def test_hdf5_and_unpacked_numbers(tmp_path: Path) -> None:
    """The numbers' bits are kept; the note says that the rest is not."""
    net = text_format.Parse('layer { name: "a" } layer { name: "b" }', caffe_pb2.NetParameter())
    blobs = [[np.array([1.5, -0.0], np.float32)], [np.ones((2, 1), np.float32)]]
    write_weights(tmp_path / "x.caffemodel.h5", net, blobs)
    (note,) = to_safetensors(tmp_path / "x.caffemodel.h5", tmp_path / "x.safetensors")
    assert "has HDF5: the weights' bits are kept" in note
    from_safetensors(tmp_path / "x.safetensors", tmp_path / "back.caffemodel")
    for layer, expected in zip(read_weights(tmp_path / "back.caffemodel"), blobs, strict=True):
        assert layer.blobs[0].tobytes() == expected[0].tobytes()
    # field 5 of a blob as two single floats: tag 0x2d
    numbers = b"".join(b"\x2d" + np.float32(x).tobytes() for x in (1.5, 2.5))
    blob = numbers + b"\x3a\x03\x0a\x01\x02"
    message = b"\x0a\x01a" + b"\x3a" + bytes([len(blob)]) + blob
    (tmp_path / "u.caffemodel").write_bytes(b"\xa2\x06" + bytes([len(message)]) + message)
    (note,) = to_safetensors(tmp_path / "u.caffemodel", tmp_path / "u.safetensors")
    assert "numbers that are not packed" in note
    from_safetensors(tmp_path / "u.safetensors", tmp_path / "u2.caffemodel")
    assert read_weights(tmp_path / "u2.caffemodel")[0].blobs[0].tolist() == [1.5, 2.5]


def test_bad_files(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    out = tmp_path / "out.caffemodel"
    x = {"a.0": np.ones(2, np.float32)}
    cases: list[tuple[dict[str, np.ndarray], dict[str, str], str]] = [
        (x, {"caffemodel_without_numbers": "%%", "caffemodel_places": "[]"}, "metadata .* is damaged"),
        (x, {"caffemodel_without_numbers": "eJwDAAAAAAE=", "caffemodel_places": json.dumps([[9, "a.0", 0, 2]])}, "damaged"),
        (x, {"caffemodel_without_numbers": "eJwDAAAAAAE=", "caffemodel_places": json.dumps([[0, "a.0", 0, 3]])}, "another size"),
        (
            x,
            {"caffemodel_without_numbers": "eJwDAAAAAAE=", "caffemodel_places": json.dumps([[0, "a.0", 0, 2]])},
            "metadata .* is damaged",
        ),
        (x, {"caffemodel_without_numbers": "eJwDAAAAAAE="}, "damaged"),
        ({"conv.weight": x["a.0"]}, {}, "'conv.weight' is not named <layer>.<blob>"),
        ({"a.0": np.ones(2, np.int32)}, {}, "tensor 'a.0' holds integers"),
        ({"a.1": x["a.0"]}, {}, r"layer 'a' has blobs \[1\]; they must count from 0"),
    ]  # fmt: skip
    for arrays, metadata, message in cases:
        save_file(arrays, tmp_path / "x.safetensors", metadata)
        with pytest.raises(CaffeError, match=message):
            from_safetensors(tmp_path / "x.safetensors", out)
        assert not out.exists()
    (tmp_path / "x.safetensors").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(
        CaffeError, match="a Python pickle, which is never opened here, where a .safetensors file should be"
    ):
        from_safetensors(tmp_path / "x.safetensors", out)
