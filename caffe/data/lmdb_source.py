"""LMDB databases of Datum and AnnotatedDatum records, read and written as Caffe does.

Keys are `%08d_<image path of the list's line>`, so their order is the list's. The library writes; reading is
`caffe.data.lmdb_pages`, which a damaged file cannot crash.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb

from caffe.data.lmdb_pages import Damage, LmdbPages, Truncated
from caffe.errors import DataError, shown
from caffe.proto import caffe_pb2

#: upper bound of a database's size; the file grows only as records are written
_MAP_SIZE = 1 << 40
_COMMIT_EVERY = 1000
#: LMDB's own limit
MAX_KEY_BYTES = 511


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _show(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")


class LmdbSource:
    """The records of a database in key order. `len()`, `key(i)`, `value(i)`."""

    def __init__(self, path: str | Path) -> None:
        """Opens the database and lists its keys; raises DataError if it is missing, empty or not an LMDB."""
        self.path = str(path)
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
        try:
            self._pages = LmdbPages(data)
        except Truncated as error:
            raise DataError(f"database '{path}' is truncated: data.mdb has {error}. Copy or build it again") from None
        except (Damage, OSError) as error:
            raise DataError(
                f"cannot read database '{path}': data.mdb: {_reason(error)}. It is damaged or not an LMDB: copy or "
                "build it again"
            ) from None
        self._keys = self._pages.keys
        if not self._keys:
            raise DataError(f"database '{path}' is empty: no image was converted into it")

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        """The key of record `index`, readable."""
        return _show(self._keys[index])

    def value(self, index: int) -> bytes:
        """The bytes of record `index`."""
        try:
            return self._pages.value(index)
        except (Damage, OSError) as error:
            raise DataError(f"{self.where(index)} cannot be read: {_reason(error)}") from None

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
        """Closes the file."""
        self._pages.close()


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
