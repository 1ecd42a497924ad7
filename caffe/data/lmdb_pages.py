"""LMDB's file format, as far as reading whole databases needs it, through reads that can fail without ending the process.

The LMDB library maps the file into memory. A page number that a flipped bit made point beyond the file, a file that is
cut while it is read, or a failing disk then ends the process with SIGBUS, and a training with it. Here pages are read
with `pread`, and each is checked before it is used: what it should be, whether its entries lie within it, whether its
keys are in order, and whether it was reached before. Damage is an error that names its place.

Why not the library, which writes the databases:

- It follows page numbers and offsets without checking them, so a flipped bit leads anywhere: SIGBUS beyond the file,
  SIGSEGV beyond the map, or another record's bytes as this one's. Checking the bounds of all pages when the file is
  opened would need this module's knowledge of the format, and would not help against a file or disk that fails later.
- In a process of its own, which may die, each record has to be copied to this one, and after a death the record that
  caused it has to be found. Data workers are such processes, but a net with CAFFE_DATA_WORKERS=0, the commands that read
  a whole database, and the check of the first record when a net is built are not.

Reading a record of 60 kB takes 5 µs here and 3 µs with the library; decoding it takes milliseconds. Without a lock file
nothing keeps a writer from using pages again, so a database that another program changes meanwhile is an error.

The format is that of LMDB 0.9 on little-endian 64-bit machines (version 1, `mdb.c`), with pages of any size, in which
Caffe's databases have one unnamed database without duplicates.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MAGIC, VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _OVERFLOW, _META = 1, 2, 4, 8
#: a leaf's entry whose value is in pages of its own; the others belong to named databases and duplicates
_BIG_DATA, _OTHER_KINDS = 1, 6
_NO_PAGE = (1 << 64) - 1
#: page number, padding, flags, and the bounds of the free space between the table of entries and the entries
_HEADER = struct.Struct("<QHHHH")
#: magic, version, address, size of the map
_META_START = struct.Struct("<IIQQ")
#: padding (the page size, in the first), flags, depth, three counts of pages, entries, root page
_TREE = struct.Struct("<IHHQQQQQ")
_META_END = struct.Struct("<QQ")
_ENTRY = struct.Struct("<HHHH")
#: LMDB's own limit of a tree's depth
_MOST_LEVELS = 32


class Damage(Exception):
    """What is wrong with the file, and where."""


class Truncated(Damage):
    """The file is shorter than its pages; says how long it is and should be."""


class _Meta(NamedTuple):
    page_size: int
    flags: int
    entries: int
    root: int
    last_page: int
    transaction: int


class LmdbPages:
    """The entries of an LMDB data file in the order of their keys: `keys`, and `value(i)`.

    Opening reads the tree's pages, not the values. The file stays open until `close`, and is opened again where it is
    needed; any thread, and a process forked later, may read.
    """

    def __init__(self, path: str | Path) -> None:
        """Raises Damage for a file that is not an LMDB, or is truncated or damaged, and OSError."""
        self._path = path
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        self._identity = self._identify()
        self.keys: list[bytes] = []
        #: where each value is, how long it is, and the number of its own first page, 0 for a value within the tree
        self._places, self._sizes, self._own_pages = array("Q"), array("Q"), array("Q")
        try:
            self._seen = self._state()
            self._size = self._seen[0]
            meta = self._newest_meta()
            self._transaction = meta.transaction
            self._page_size, self._pages = meta.page_size, meta.last_page + 1
            if self._size < self._pages * self._page_size:
                raise Truncated(f"{self._size:,} bytes of {self._pages * self._page_size:,}")
            if meta.flags:
                raise Damage(
                    f"it has sorted duplicates or other options (flags {meta.flags:#x}), as no database of Caffe's"
                )
            if meta.root != _NO_PAGE:
                for page, data in self._leaves(meta.root):
                    self._take(page, data)
            if len(self.keys) != meta.entries:
                raise Damage(f"{len(self.keys):,} entries instead of {meta.entries:,}")
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _identify(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_dev, status.st_ino

    def value(self, index: int) -> bytes:
        """The bytes of entry `index`; raises Damage or OSError."""
        if self._file.closed:
            self._file = open(self._path, "rb", buffering=0)  # noqa: SIM115
            if self._identify() != self._identity:
                raise Damage("another file has taken its place")
        place, size, own = self._places[index], self._sizes[index], self._own_pages[index]
        if not own:
            data = self._read(place, size)
            self._check_unchanged()
            return data
        data = self._read(place, _HEADER.size + size)
        self._check_unchanged()
        number, _, flags, low, high = _HEADER.unpack_from(data)
        if number != own or not flags & _OVERFLOW or (low | high << 16) * self._page_size < len(data):
            raise Damage(f"page {own} is damaged: it is not the first of {size:,} bytes of data")
        return data[_HEADER.size :]

    def _state(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _check_unchanged(self) -> None:
        """Raises Damage if there was another transaction. After a read, because pages are used again after the next one."""
        now = self._state()
        if now == self._seen:
            return
        newest = self._newest_meta().transaction
        if newest != self._transaction:
            raise Damage(
                f"another program has changed it since it was opened (transaction {self._transaction:,}, now {newest:,}); "
                "begin again when that has ended"
            )
        self._seen = now

    def _read(self, place: int, size: int) -> bytes:
        parts, have = [], 0
        while have < size:
            part = os.pread(self._file.fileno(), size - have, place + have)
            if not part:
                raise Damage(f"the file ends at byte {place + have:,}, within data")
            parts.append(part)
            have += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _newest_meta(self) -> _Meta:
        first = self._meta(0)
        second = self._meta(first.page_size)
        if second.page_size != first.page_size:
            raise Damage("its first two pages contradict each other")
        return max(first, second, key=lambda meta: meta.transaction)

    def _meta(self, place: int) -> _Meta:
        if self._size < place + 152:
            raise Damage("it is truncated" if place else "it is not an LMDB")
        data = self._read(place, 152)
        _, _, flags, _, _ = _HEADER.unpack_from(data)
        magic, version, _, _ = _META_START.unpack_from(data, 16)
        if place == 0 and magic == int.from_bytes(MAGIC.to_bytes(4), "little"):
            raise Damage("it was written on a big-endian machine; copy it with mdb_dump there and mdb_load here")
        if place == 0 and magic == MAGIC and version != VERSION:
            raise Damage(f"its format has version {version}; only {VERSION}, that of LMDB 0.9, is read")
        if not flags & _META or magic != MAGIC or version != VERSION:
            raise Damage("its second page is damaged" if place else "it is not an LMDB")
        page_size = _TREE.unpack_from(data, 40)[0]
        _, tree_flags, _, _, _, _, entries, root = _TREE.unpack_from(data, 88)
        last_page, transaction = _META_END.unpack_from(data, 136)
        if page_size not in (1 << bits for bits in range(8, 17)) or last_page >= 1 << 48:
            raise Damage(f"its first page is damaged: pages of {page_size:,} bytes, the last is {last_page:,}")
        return _Meta(page_size, tree_flags, entries, root, last_page, transaction)

    def _leaves(self, root: int) -> Iterator[tuple[int, bytes]]:
        """Each leaf of the tree, as its number and its bytes, in the order of keys."""
        seen: set[int] = set()
        waiting: list[tuple[int, int]] = [(root, 1)]
        while waiting:
            page, depth = waiting.pop()
            if page in seen or depth > _MOST_LEVELS:
                raise Damage(f"page {page} is reached in two ways")
            seen.add(page)
            data = self._page(page)
            flags = _HEADER.unpack_from(data)[2]
            if flags & (_BRANCH | _LEAF) == _LEAF:
                yield page, data
            elif flags & (_BRANCH | _LEAF) == _BRANCH:
                children = [low | high << 16 | flags << 32 for _, low, high, flags, _ in self._entries(page, data)]
                waiting += [(child, depth + 1) for child in reversed(children)]
            else:
                raise Damage(f"page {page} is damaged: flags {flags:#x} where a page of the tree should be")

    def _page(self, page: int) -> bytes:
        if not 2 <= page < self._pages:
            raise Damage(f"page {page} does not exist: there are {self._pages:,}")
        data = self._read(page * self._page_size, self._page_size)
        if _HEADER.unpack_from(data)[0] != page:
            raise Damage(f"page {page} is damaged: it holds another page")
        return data

    def _entries(self, page: int, data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
        """(place in the page, three words, size of the key) of each entry, which with its key lies within the page."""
        _, _, _, lower, upper = _HEADER.unpack_from(data)
        if not _HEADER.size < lower <= upper <= self._page_size or lower % 2:
            raise Damage(f"page {page} is damaged: its bounds are {lower} and {upper}")
        for at in struct.unpack_from(f"<{(lower - _HEADER.size) // 2}H", data, _HEADER.size):
            if not upper <= at <= self._page_size - _ENTRY.size:
                raise Damage(f"page {page} is damaged: an entry at {at}")
            low, high, flags, key_size = _ENTRY.unpack_from(data, at)
            if at + _ENTRY.size + key_size > self._page_size:
                raise Damage(f"page {page} is damaged: a key of {key_size:,} bytes")
            yield at, low, high, flags, key_size

    def _take(self, page: int, data: bytes) -> None:
        """Adds the entries of a leaf."""
        start = page * self._page_size
        last = self.keys[-1] if self.keys else b""
        for at, low, high, flags, key_size in self._entries(page, data):
            end = at + _ENTRY.size + key_size
            key = data[at + _ENTRY.size : end]
            if key <= last:
                raise Damage(f"page {page} is damaged: its keys are not in order")
            size = low | high << 16
            if flags & _OTHER_KINDS:
                raise Damage("it has named databases or duplicates, as no database of Caffe's")
            if flags & _BIG_DATA:
                if end + 8 > self._page_size:
                    raise Damage(f"page {page} is damaged: an entry at {at}")
                own = int.from_bytes(data[end : end + 8], "little")
                if not 2 <= own < self._pages or own * self._page_size + _HEADER.size + size > self._size:
                    raise Damage(f"page {page} is damaged: {size:,} bytes of data in page {own}")
                place = own * self._page_size
            else:
                own, place = 0, start + end
                if end + size > self._page_size:
                    raise Damage(f"page {page} is damaged: {size:,} bytes of data at {end}")
            self.keys.append(key)
            self._places.append(place)
            self._sizes.append(size)
            self._own_pages.append(own)
            last = key
