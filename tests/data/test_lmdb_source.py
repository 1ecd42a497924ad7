"""Databases that are missing, empty, foreign, truncated, shared or half-written."""

from __future__ import annotations

import os
from pathlib import Path

import lmdb
import pytest

from caffe.data.lmdb_source import LmdbSource, LmdbWriter
from caffe.errors import DataError
from caffe.proto import caffe_pb2


def _write(path: Path, *values: bytes) -> Path:
    with LmdbWriter(path) as writer:
        for number, value in enumerate(values):
            writer.put(f"{number:08d}_{number}.jpg".encode(), value)
    return path


def _annotated() -> bytes:
    record = caffe_pb2.AnnotatedDatum()
    record.datum.data = b"jpeg"
    return bytes(record.SerializeToString())


def _datum() -> bytes:
    return bytes(caffe_pb2.Datum(channels=3, height=1, width=1, data=b"abc", label=7).SerializeToString())


def test_records_in_key_order(tmp_path: Path) -> None:
    source = LmdbSource(_write(tmp_path / "db", *[b"%d" % i for i in range(1500)]))
    assert len(source) == 1500
    assert source.key(1499) == "00001499_1499.jpg"
    assert source.value(1234) == b"1234"


def test_two_readers_and_a_forked_one(tmp_path: Path) -> None:
    path = _write(tmp_path / "db", b"x")
    first, second = LmdbSource(path), LmdbSource(str(path) + "/")
    child = os.fork()
    if child == 0:
        os._exit(0 if (first.value(0), second.value(0)) == (b"x", b"x") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert first.value(0) == second.value(0) == b"x"
    first.close()
    assert second.value(0) == first.value(0) == b"x"


def test_missing_and_foreign_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no database at"):
        LmdbSource(tmp_path / "none")
    with pytest.raises(DataError, match=r"has no data\.mdb"):
        LmdbSource(tmp_path)
    (tmp_path / "CURRENT").write_text("MANIFEST-000002")
    with pytest.raises(DataError, match="is a LevelDB"):
        LmdbSource(tmp_path)


def test_empty_database(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is empty"):
        LmdbSource(_write(tmp_path / "db"))


@pytest.mark.parametrize("keep", [0, 1, 100, 4096, 8192, 20_000])
def test_truncated_file(tmp_path: Path, keep: int) -> None:
    path = _write(tmp_path / "db", b"x" * 9000, b"y" * 9000)
    data = (path / "data.mdb").read_bytes()
    assert len(data) > 20_000
    (path / "data.mdb").write_bytes(data[:keep])
    with pytest.raises(DataError, match=r"truncated|damaged"):
        LmdbSource(path)


def test_foreign_file(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(os.urandom(10_000))
    with pytest.raises(DataError, match="damaged or not an LMDB"):
        LmdbSource(tmp_path)


@pytest.mark.parametrize("value", [b"\xff\xff\xff\xff", b"\x0a\x7fshort", b"plain text of someone"])
def test_foreign_values_name_the_record(tmp_path: Path, value: bytes) -> None:
    source = LmdbSource(_write(tmp_path / "db", value))
    for read in (source.datum, source.annotated_datum):
        with pytest.raises(DataError, match=r"db', record '00000000_0\.jpg'"):
            read(0)


def test_records_of_the_other_kind_are_recognized(tmp_path: Path) -> None:
    source = LmdbSource(_write(tmp_path / "db", _annotated(), _datum()))
    with pytest.raises(DataError, match="AnnotatedData layer"):
        source.datum(0)
    with pytest.raises(DataError, match="with a Data layer"):
        source.annotated_datum(1)
    assert source.datum(1).label == 7


def test_keys_out_of_order_leave_nothing(tmp_path: Path) -> None:
    def write() -> None:
        with LmdbWriter(tmp_path / "db") as writer:
            writer.put(b"b", b"")
            writer.put(b"a", b"")

    with pytest.raises(DataError, match="repeated or out of order"):
        write()
    assert not list(tmp_path.iterdir())


def test_an_error_while_writing_leaves_the_old_database(tmp_path: Path) -> None:
    path = _write(tmp_path / "db", b"old")

    def write() -> None:
        with LmdbWriter(path, replace=True) as writer:
            writer.put(b"00000000_0.jpg", b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert LmdbSource(path).value(0) == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["db"]


def test_the_original_reads_what_py_lmdb_wrote(tmp_path: Path) -> None:
    """Plain LMDB: one unnamed database, no flags."""
    path = _write(tmp_path / "db", b"x")
    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as transaction:
        assert transaction.stat()["entries"] == 1
        assert not any(env.open_db(txn=transaction).flags().values())
