"""Binary files of single messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffe.errors import CaffeError, ProtoError
from caffe.proto import caffe_pb2
from caffe.proto.binary import read_binary, write_binary


def test_a_mean_image_comes_back(tmp_path: Path) -> None:
    mean = caffe_pb2.BlobProto(num=1, channels=3, height=1, width=2, data=range(6))
    write_binary(tmp_path / "mean.binaryproto", mean)
    assert read_binary(tmp_path / "mean.binaryproto", caffe_pb2.BlobProto()) == mean


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "an empty file"),
        (b"\xff\xd8\xff\xe0", "a JPEG image"),
        (b"\x0a\x05ab", "not a binary NetParameter"),
        (b"\x0a\x01\xff", "damaged"),
        (b"\x1a\x01\xff", "damaged"),
        (b"\xa2\x06\x03\x0a\x01\xff", "damaged"),
    ],
)
def test_what_is_no_such_message_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    with pytest.raises(ProtoError, match=says) as error:
        read_binary(path, caffe_pb2.NetParameter())
    assert str(path) in str(error.value)


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(CaffeError, match="it is a directory"):
        write_binary(tmp_path, caffe_pb2.BlobProto())
