"""LMDB databases of Datum and AnnotatedDatum records, read and written as Caffe does.

Keys are `%08d_<image path of the list's line>`, so their order is the list's. LMDB requires that a
process opens an environment once and never uses it across a fork. `_Environment` ensures both, because several layers
may read one database.
"""

from __future__ import annotations

import errno
import os
import shutil
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb

from caffe.errors import DataError, shown
from caffe.proto import caffe_pb2

#: upper bound of a database's size; the file grows only as records are written
_MAP_SIZE = 1 << 40
_COMMIT_EVERY = 1000
#: LMDB's own limit
MAX_KEY_BYTES = 511


def _show(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")


class _Environment:
    """A database opened for reading in this process, shared by all that read it."""

    def __init__(self, path: str) -> None:
        self.pid = os.getpid()
        # lock=False: Caffe's databases are written once, and often are on read-only storage.
        self.env: Any = lmdb.open(path, readonly=True, lock=False, create=False)

    @classmethod
    def of(cls, path: str) -> _Environment:
        """The environment of `path` in this process; one inherited through a fork is closed and opened again."""
        file = os.stat(os.path.join(path, "data.mdb"))
        key = (file.st_dev, file.st_ino)
        environment = _opened.get(key)
        if environment is not None and environment.pid != os.getpid():
            environment.env.close()
            environment = None
        if environment is None:
            environment = _opened[key] = cls(path)
        return environment


_opened: weakref.WeakValueDictionary[tuple[int, int], _Environment] = weakref.WeakValueDictionary()


class LmdbSource:
    """The records of a database in key order. `len()`, `key(i)`, `value(i)`."""

    def __init__(self, path: str | Path) -> None:
        """Opens the database and lists its keys; raises DataError if it is missing, empty or not an LMDB."""
        self.path = str(path)
        self._env: _Environment | None = None
        data = Path(path) / "data.mdb"
        if not Path(path).exists():
            raise DataError(f"no database at '{path}'. Build one with convert_annoset or convert_imageset")
        if not data.is_file():
            entries = list(Path(path).iterdir()) if Path(path).is_dir() else []
            if any(entry.name == "CURRENT" or entry.suffix in (".ldb", ".sst") for entry in entries):
                raise DataError(
                    f"'{path}' is a LevelDB; this project reads LMDB. Build the database again with -backend=lmdb"
                )
            raise DataError(f"'{path}' is not an LMDB: it has no data.mdb")
        self._keys = self._read_keys()
        if not self._keys:
            raise DataError(f"database '{path}' is empty: no image was converted into it")

    def _read_keys(self) -> list[bytes]:
        try:
            with self._environment().begin() as transaction:
                cursor = transaction.cursor()
                self._check_whole()
                return list(cursor.iternext(keys=True, values=False))
        except (lmdb.Error, OSError) as error:
            raise self._broken(error) from None

    def _check_whole(self) -> None:
        """A truncated file would end the process with SIGBUS once a page beyond its end is touched."""
        info, stat = self._environment().info(), self._environment().stat()
        needed = (info["last_pgno"] + 1) * stat["psize"]
        size = os.path.getsize(os.path.join(self.path, "data.mdb"))
        if size < needed:
            raise DataError(
                f"database '{self.path}' is truncated: data.mdb has {size:,} bytes of {needed:,}. "
                "Copy or build it again"
            )

    def _environment(self) -> Any:
        if self._env is None or self._env.pid != os.getpid():
            try:
                self._env = _Environment.of(self.path)
            except lmdb.Error as error:
                raise self._broken(error) from None
        return self._env.env

    def _broken(self, error: Exception) -> DataError:
        return DataError(f"cannot read database '{self.path}': {error}. It is damaged or not an LMDB")

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        """The key of record `index`, readable."""
        return _show(self._keys[index])

    def value(self, index: int) -> bytes:
        """The bytes of record `index`."""
        try:
            with self._environment().begin(buffers=False) as transaction:
                value = transaction.get(self._keys[index])
        except lmdb.Error as error:
            raise DataError(f"database '{self.path}', record '{self.key(index)}': {error}") from None
        if value is None:
            raise DataError(
                f"database '{self.path}': record '{self.key(index)}' disappeared while the database was read"
            )
        return bytes(value)

    def datum(self, index: int) -> Any:
        """Record `index` as a Datum (classification)."""
        datum = self._parse(index, caffe_pb2.Datum)
        if not datum.data and not datum.float_data:
            hint = "It seems to hold AnnotatedDatum records: read it with an AnnotatedData layer"
            raise DataError(
                f"{self.where(index)} holds no image. {hint if self.holds_annotations(index) else ''}".rstrip()
            )
        return datum

    def annotated_datum(self, index: int) -> Any:
        """Record `index` as an AnnotatedDatum (detection)."""
        record = self._parse(index, caffe_pb2.AnnotatedDatum)
        if not record.datum.data and not record.datum.float_data:
            plain = caffe_pb2.Datum()
            try:
                is_datum = plain.ParseFromString(self.value(index)) > 0 and len(plain.data) > 0
            except Exception:  # upb and the Python runtime raise different classes for a foreign value
                is_datum = False
            hint = "It seems to hold Datum records: read it with a Data layer, or convert with -anno_type=detection"
            raise DataError(f"{self.where(index)} holds no image. {hint if is_datum else ''}".rstrip())
        return record

    def where(self, index: int) -> str:
        """Which record, in words, for messages."""
        return f"database '{self.path}', record '{shown(self.key(index), 200)}'"

    def holds_annotations(self, index: int = 0) -> bool:
        """Whether record `index` is an AnnotatedDatum."""
        try:
            return len(self._parse(index, caffe_pb2.AnnotatedDatum).datum.data) > 0
        except DataError:
            return False

    def _parse(self, index: int, message_class: Any) -> Any:
        message = message_class()
        try:
            message.ParseFromString(self.value(index))
        except DataError:
            raise
        except Exception as error:  # DecodeError's module depends on protobuf's runtime
            name = message_class.DESCRIPTOR.name
            raise DataError(f"{self.where(index)} is not a valid {name}: {error}") from None
        return message

    def close(self) -> None:
        """Releases the environment; the database is closed when its last reader does so."""
        self._env = None


class LmdbWriter:
    """Writes a database under a temporary name and moves it into place when it is complete.

    Use as a context manager: leaving it without an error puts the database in place, an error removes what was written.
    """

    def __init__(self, path: str | Path, *, replace: bool = False) -> None:
        """Raises DataError if `path` exists and `replace` is false."""
        self.path = Path(path)
        if self.path.exists() and not replace:
            raise DataError(f"'{path}' already exists; -redo replaces it")
        self._temporary = self.path.with_name(f".{self.path.name}.writing-{os.getpid()}")

    def __enter__(self) -> LmdbWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary.mkdir()
            # sync=False: one sync at the end is enough, because an unfinished database is removed anyway
            self._env = lmdb.open(str(self._temporary), map_size=_MAP_SIZE, sync=False, metasync=False)
            self._transaction = self._env.begin(write=True)
        except (OSError, lmdb.Error) as error:
            shutil.rmtree(self._temporary, ignore_errors=True)
            raise self._failure(error) from None
        self._pending = 0
        return self

    def put(self, key: bytes, value: bytes) -> None:
        """Adds a record; keys must come in order."""
        try:
            if not self._transaction.put(key, value, append=True):
                raise DataError(f"'{self.path}': record '{_show(key)}' is repeated or out of order")
            self._pending += 1
            if self._pending == _COMMIT_EVERY:
                self._transaction.commit()
                self._transaction = self._env.begin(write=True)
                self._pending = 0
        except (OSError, lmdb.Error) as error:
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> DataError:
        # LMDB reports a write that the disk cuts short as an input/output error
        words = ("No space", "MDB_MAP_FULL", "File too large", "Disk quota", "Input/output error")
        if any(word in str(error) for word in words) or getattr(error, "errno", None) == errno.ENOSPC:
            free = shutil.disk_usage(self.path.parent).free
            return DataError(
                f"no space left for '{self.path}', or a failing disk ({free / 1e6:,.0f} MB free there). Nothing was "
                "kept; free some space or choose another directory"
            )
        return DataError(f"cannot write '{self.path}': {error}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if kind is None:
                self._transaction.commit()
                self._env.sync(True)
                self._env.close()
                self._put_in_place()
            else:
                self._transaction.abort()
                self._env.close()
        except (OSError, lmdb.Error) as failure:
            raise self._failure(failure) from None
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _put_in_place(self) -> None:
        """A directory cannot replace another in one step: the old one is renamed first, and renamed back on failure."""
        if not self.path.exists():
            os.rename(self._temporary, self.path)
            return
        aside = self.path.with_name(f".{self.path.name}.old-{os.getpid()}")
        os.rename(self.path, aside)
        try:
            os.rename(self._temporary, self.path)
        except OSError:
            os.rename(aside, self.path)
            raise
        if aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink()
