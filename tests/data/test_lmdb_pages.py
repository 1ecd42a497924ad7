"""Reading LMDB's pages: the same entries as the library, and damage that never ends the process."""

from __future__ import annotations

import os
import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffe.data.lmdb_pages import Damage, LmdbPages
from caffe.data.lmdb_source import LmdbSource, LmdbWriter
from caffe.errors import DataError
from tests.processes import python

PAGE = 4096


def read(path: Path) -> dict[bytes, bytes]:
    pages = LmdbPages(path / "data.mdb")
    try:
        return {key: pages.value(index) for index, key in enumerate(pages.keys)}
    finally:
        pages.close()


def write(path: Path, count: int, size: Callable[[int], int]) -> dict[bytes, bytes]:
    records = {f"{i:08d}_a/{i}.jpg".encode(): random.Random(i).randbytes(size(i)) for i in range(count)}
    with LmdbWriter(path) as writer:
        for key, value in records.items():
            writer.put(key, value)
    return records


@pytest.mark.parametrize(
    ("count", "size"),
    [(1, lambda i: 0), (300, lambda i: i), (40, lambda i: 5000 * (i % 3)), (3000, lambda i: 30)],
    ids=["one", "small", "pages of their own", "three levels"],
)
def test_what_the_writer_wrote(tmp_path: Path, count: int, size: Callable[[int], int]) -> None:
    assert read(tmp_path / "db") == records if (records := write(tmp_path / "db", count, size)) else False


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(st.binary(min_size=1, max_size=511), st.integers(0, 9000), max_size=60), st.randoms())
def test_what_the_library_wrote_in_any_order_and_removed(
    tmp_path_factory: pytest.TempPathFactory, sizes: dict[bytes, int], order: random.Random
) -> None:
    path = tmp_path_factory.mktemp("db")
    records = {key: bytes([n % 251]) * size for n, (key, size) in enumerate(sizes.items())}
    keys = list(records)
    order.shuffle(keys)
    with lmdb.open(str(path), map_size=1 << 24, sync=False) as env:
        for key in keys:
            with env.begin(write=True) as transaction:
                transaction.put(key, records[key])
        with env.begin(write=True) as transaction:
            for key in keys[::3]:
                transaction.delete(key)
                del records[key]
        with env.begin() as transaction:
            expected = list(transaction.cursor())
    assert list(read(path).items()) == expected == sorted(records.items())


def _put(path: Path, offset: int, data: bytes) -> None:
    with open(path / "data.mdb", "r+b") as file:
        file.seek(offset)
        file.write(data)


def _first_entry(path: Path) -> int:
    """The place of the first entry of page 2, the leaf of a small database."""
    data = (path / "data.mdb").read_bytes()
    leaf = next(n for n in range(2, len(data) // PAGE) if struct.unpack_from("<QHH", data, n * PAGE) == (n, 0, 2))
    return leaf * PAGE + int(struct.unpack_from("<H", data, leaf * PAGE + 16)[0])


def test_a_value_that_points_beyond_the_file_is_an_error(tmp_path: Path) -> None:
    """The library followed it, and the process ended with SIGBUS."""
    write(tmp_path / "db", 3, lambda i: 9000)
    entry = _first_entry(tmp_path / "db")
    _put(tmp_path / "db", entry + 8 + len("00000000_a/0.jpg"), struct.pack("<Q", 1 << 30))
    with pytest.raises(DataError, match=r"cannot read database '.*db': data.mdb: page \d+ is damaged"):
        LmdbSource(tmp_path / "db")


def test_a_file_that_is_cut_while_it_is_read_costs_only_its_records(tmp_path: Path) -> None:
    records = list(write(tmp_path / "db", 3, lambda i: 9000).values())
    source = LmdbSource(tmp_path / "db")
    os.truncate(tmp_path / "db" / "data.mdb", os.path.getsize(tmp_path / "db" / "data.mdb") - 2 * PAGE)
    found = []
    for index, value in enumerate(records):
        try:
            found.append(source.value(index) == value)
        except DataError as error:
            assert f"record '0000000{index}_a/{index}.jpg' cannot be read: the file ends" in str(error)  # noqa: PT017
    assert found
    assert all(found)
    assert len(found) < len(records)


def test_lost_pages_of_a_value_are_an_error(tmp_path: Path) -> None:
    records = list(write(tmp_path / "db", 2, lambda i: 9000).values())
    data = (tmp_path / "db" / "data.mdb").read_bytes()
    source = LmdbSource(tmp_path / "db")
    _put(tmp_path / "db", data.index(records[1]) - 16, bytes(PAGE))
    assert source.value(0) == records[0]
    with pytest.raises(DataError, match=r"record '00000001_a/1.jpg' cannot be read: page \d+ is damaged"):
        source.value(1)


def test_a_tree_that_leads_into_itself_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "db", 300, lambda i: 30)
    data = (tmp_path / "db" / "data.mdb").read_bytes()
    branch = next(n for n in range(2, len(data) // PAGE) if struct.unpack_from("<QHH", data, n * PAGE) == (n, 0, 1))
    at = branch * PAGE + struct.unpack_from("<H", data, branch * PAGE + 18)[0]
    _put(tmp_path / "db", at, struct.pack("<HHH", branch, 0, 0))
    with pytest.raises(Damage, match=f"page {branch} is reached in two ways"):
        LmdbPages(tmp_path / "db" / "data.mdb")


def test_named_databases_are_refused(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), max_dbs=2) as env:
        env.open_db(b"inner")
    with pytest.raises(DataError, match="named databases"):
        LmdbSource(tmp_path)


def test_an_empty_database(tmp_path: Path) -> None:
    write(tmp_path / "db", 0, lambda i: 0)
    assert read(tmp_path / "db") == {}
    with pytest.raises(DataError, match="is empty"):
        LmdbSource(tmp_path / "db")


def made(page_size: int, records: dict[bytes, bytes], order: str = "<", version: int = 1, tree_flags: int = 0) -> bytes:
    """A database of one leaf, as a machine with other pages, another order of bytes or a later library writes it."""

    def header(number: int, flags: int, lower: int = 0, upper: int = 0) -> bytes:
        return struct.pack(f"{order}QHHHH", number, 0, flags, lower, upper)

    def meta(number: int) -> bytes:
        tree = struct.pack(f"{order}IHHQQQQQ", page_size, 0, 0, 0, 0, 0, 0, (1 << 64) - 1)
        main = struct.pack(f"{order}IHHQQQQQ", 0, tree_flags, 1, 0, 1, 0, len(records), 2)
        start = struct.pack(f"{order}IIQQ", 0xBEEFC0DE, version, 0, page_size * 3)
        end = struct.pack(f"{order}QQ", 2, number)
        return (header(number, 8) + start + tree + main + end).ljust(page_size, b"\0")

    places, entries, at = b"", b"", page_size
    for key, value in records.items():
        entry = struct.pack(f"{order}HHHH", len(value) & 0xFFFF, len(value) >> 16, 0, len(key)) + key + value
        entry += bytes(len(entry) % 2)
        at -= len(entry)
        places, entries = places + struct.pack(f"{order}H", at), entry + entries
    leaf = header(2, 2, 16 + len(places), at) + places
    return meta(0) + meta(1) + leaf + bytes(page_size - len(leaf) - len(entries)) + entries


@pytest.mark.parametrize("page_size", [4096, 16384, 32768])
def test_pages_of_another_size(tmp_path: Path, page_size: int) -> None:
    records = {b"a": b"first", b"b": bytes(1000), b"c": b""}
    (tmp_path / "data.mdb").write_bytes(made(page_size, records))
    assert read(tmp_path) == records
    if page_size == PAGE:  # the library's own on this machine: it reads what `made` makes
        with lmdb.open(str(tmp_path), readonly=True, lock=False) as env, env.begin() as transaction:
            assert dict(transaction.cursor()) == records


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (made(4096, {b"a": b"1"}, ">"), "big-endian machine; copy it with mdb_dump there and mdb_load here"),
        (made(4096, {b"a": b"1"}, version=2), "version 2; only 1, that of LMDB 0.9, is read"),
        (made(4096, {b"a": b"1"}, version=999), "version 999"),
        (made(4096, {b"a": b"1"}, tree_flags=4), "it has sorted duplicates or other options"),
        (bytes(8192), "it is not an LMDB"),
        (b"", "it is not an LMDB"),
    ],
    ids=["big-endian", "LMDB 1.0", "development version", "duplicates", "zeros", "nothing"],
)
def test_what_is_not_read_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "data.mdb").write_bytes(data)
    with pytest.raises(DataError, match=message):
        LmdbSource(tmp_path)


def test_pages_beyond_four_gigabytes(tmp_path: Path) -> None:
    """The leaf and the pages of a value are moved there, in a file with a hole before them."""
    records = write(tmp_path / "db", 2, lambda i: 9000 * (i + 1))
    data = (tmp_path / "db" / "data.mdb").read_bytes()
    far = (5 << 30) // PAGE
    leaf = _first_entry(tmp_path / "db") // PAGE
    for at in range(leaf * PAGE + 16, leaf * PAGE + 20, 2):
        entry = leaf * PAGE + struct.unpack_from("<H", data, at)[0]
        pointer = entry + 8 + len("00000000_a/0.jpg")
        (number,) = struct.unpack_from("<Q", data, pointer)
        _put(tmp_path / "db", pointer, struct.pack("<Q", far + number))
        _put(tmp_path / "db", number * PAGE, struct.pack("<Q", far + number))
    _put(tmp_path / "db", leaf * PAGE, struct.pack("<Q", far + leaf))
    moved = (tmp_path / "db" / "data.mdb").read_bytes()[2 * PAGE :]
    for meta in (0, PAGE):
        _put(tmp_path / "db", meta + 128, struct.pack("<QQ", far + leaf, far + len(data) // PAGE - 1))
    _put(tmp_path / "db", (far + 2) * PAGE, moved)
    assert read(tmp_path / "db") == records
    with (
        lmdb.open(str(tmp_path / "db"), readonly=True, lock=False, map_size=6 << 30) as env,
        env.begin() as transaction,
    ):
        assert dict(transaction.cursor()) == records


def test_a_writer_at_the_same_time_is_noticed(tmp_path: Path) -> None:
    """The library gives the pages of old transactions to new ones: what was read at the old place is another record."""
    write(tmp_path / "db", 40, lambda i: 100)
    source = LmdbSource(tmp_path / "db")
    first = source.value(0)
    os.utime(tmp_path / "db" / "data.mdb")
    assert source.value(0) == first
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 24) as env:
        for number in range(5):
            with env.begin(write=True) as transaction:
                transaction.put(f"{number:08d}_a/{number}.jpg".encode(), b"new" * 30)
    with pytest.raises(DataError, match=r"another program has changed it since it was opened \(transaction 1, now 6\)"):
        source.value(0)
    assert LmdbSource(tmp_path / "db").value(0) == b"new" * 30


_MUTANTS = """
import random, sys
from pathlib import Path
from caffe.data.lmdb_source import LmdbSource
from caffe.errors import DataError
folder = Path(sys.argv[1])
whole = (folder / "data.mdb").read_bytes()
refused = answered = 0
for seed in range(400):
    rng = random.Random(seed)
    data = bytearray(whole)
    for _ in range(rng.choice((1, 2, 8))):
        at = rng.randrange(len(data) // 4096) * 4096 + rng.randrange(rng.choice((32, 200, 4096)))
        data[at] = rng.choice((0, 255, data[at] ^ 1 << rng.randrange(8)))
    (folder / "data.mdb").write_bytes(data)
    try:
        source = LmdbSource(folder)
    except DataError:
        refused += 1
        continue
    for index in range(len(source)):
        try:
            source.value(index)
            answered += 1
        except DataError:
            refused += 1
print(refused, answered)
"""


def test_mutated_pages_never_end_the_process(tmp_path: Path) -> None:
    write(tmp_path / "db", 60, lambda i: 70 * i)
    result = python("-c", _MUTANTS, tmp_path / "db")
    assert result.returncode == 0, result.stderr
    refused, answered = map(int, result.stdout.split())
    assert refused > 100
    assert answered > 1000


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_file_is_closed_when_the_source_is_dropped(tmp_path: Path) -> None:
    write(tmp_path / "db", 3, lambda i: 10)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        LmdbSource(tmp_path / "db")
    assert len(os.listdir("/proc/self/fd")) == before
