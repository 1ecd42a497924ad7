"""The wire format against protobuf's own parser, on whatever hypothesis generates."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from caffe.errors import ProtoError
from caffe.proto import caffe_pb2
from caffe.proto.weights import read_weights
from caffe.proto.wire import (
    START_GROUP,
    BlobWriter,
    Budget,
    WireError,
    fields,
    read_blob,
    read_varint,
    signed,
    split_fields,
    varint,
)

arrays = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))


@settings(max_examples=60, deadline=None)
@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_varints_come_back(value: int) -> None:
    data = varint(value)
    found, end = read_varint(memoryview(data), 0, len(data))
    assert (signed(found), end) == (value, len(data))
    assert caffe_pb2.BlobShape(dim=[value]).SerializeToString() == b"\x0a" + varint(len(data)) + data


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=64))
def test_what_protobuf_refuses_is_refused(data: bytes) -> None:
    """And what it accepts is accepted, except groups, which no file of Caffe's has."""
    try:
        # A message of two numbers: everything else is kept as unknown fields.
        caffe_pb2.EmitConstraint.FromString(data)
        taken = True
    except DecodeError:
        taken = False
    if taken:
        try:
            list(fields(memoryview(data), 0, len(data), Budget()))
        except WireError as error:
            if f"wire type {START_GROUP}" not in str(error):
                raise
    else:
        with pytest.raises(WireError):
            list(fields(memoryview(data), 0, len(data), Budget()))


@settings(max_examples=60, deadline=None)
@given(arrays, st.booleans())
def test_blobs_are_written_as_protobuf_writes_them(array: np.ndarray, with_diff: bool) -> None:
    blob = caffe_pb2.BlobProto(data=array.reshape(-1).tolist())
    if with_diff:
        blob.diff.extend(array.reshape(-1).tolist())
    if array.ndim:
        blob.shape.dim.extend(array.shape)
    writer, out = BlobWriter(array, array if with_diff else None), io.BytesIO()
    writer.write(out)
    assert out.getvalue() == blob.SerializeToString(deterministic=True)
    assert len(out.getvalue()) == writer.size
    back = read_blob(memoryview(out.getvalue()), 0, writer.size, Budget())
    np.testing.assert_array_equal(back.data, array)
    assert (back.diff is not None) == bool(with_diff and array.size)


numbers = st.lists(st.floats(width=32), max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), numbers), max_size=4), st.booleans())
def test_packed_and_unpacked_numbers_in_any_mixture(chunks: list[tuple[bool, list[float]]], doubles: bool) -> None:
    kind, packed_tag, tag = ("<f8", b"\x42", b"\x41") if doubles else ("<f4", b"\x2a", b"\x2d")
    raw = b""
    for packed, values in chunks:
        words = [np.array(value, kind).tobytes() for value in values]
        raw += (
            packed_tag + varint(len(b"".join(words))) + b"".join(words) if packed else b"".join(tag + w for w in words)
        )
    count = sum(len(values) for _, values in chunks)
    raw += b"\x3a" + varint(1 + len(varint(count))) + b"\x08" + varint(count)
    blob = caffe_pb2.BlobProto.FromString(raw)
    expected = np.array(blob.double_data if doubles else blob.data, np.float32)
    np.testing.assert_array_equal(read_blob(memoryview(raw), 0, len(raw), Budget()).data, expected)


def test_fields_are_split_whole_and_in_order() -> None:
    net = caffe_pb2.NetParameter(name="n", input=["a", "b"], force_backward=True)
    parts = split_fields(net.SerializeToString())
    assert [number for number, _ in parts] == [1, 3, 3, 5]
    assert caffe_pb2.NetParameter.FromString(b"".join(part for _, part in reversed(parts))).name == "n"


def test_there_is_a_limit_to_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caffe.proto.wire.MAX_FIELDS", 1000)
    with pytest.raises(WireError, match="over 1,000 fields in one file"):
        list(fields(memoryview(b"\x08\x00" * 1001), 0, 2002, Budget(1000)))


def test_the_limit_counts_all_messages_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many layers of many fields each, none of which exceeds the limit alone."""
    monkeypatch.setattr("caffe.proto.wire.Budget.__init__.__defaults__", (1000,))
    layer = b"\x10\x00" * 60
    path = tmp_path / "many.caffemodel"
    path.write_bytes((b"\xa2\x06" + varint(len(layer)) + layer) * 20)
    with pytest.raises(ProtoError, match="many.caffemodel: damaged.* fields in one file"):
        read_weights(path)


def read_seconds(raw: bytes) -> float:
    began = time.process_time()
    with pytest.raises(WireError):
        read_blob(memoryview(raw), 0, len(raw), Budget())
    return time.process_time() - began


def test_hostile_blobs_take_no_time() -> None:
    """Each would take minutes if every entry were read, or everything behind every short run were looked at."""
    size = 1 << 25
    axes = b"\x0a" + varint(size) + bytes(size)
    assert read_seconds(b"\x3a" + varint(len(axes)) + axes) < 1
    assert read_seconds(b"\x3a\x02\x08\x01" * 2000) < 1
    runs = (b"\x2d\0\0\0\0" + b"\x35\0\0\0\0") * 200_000
    assert read_seconds(runs) < 1
