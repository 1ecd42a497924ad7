"""What the layers share whose batches a Prefetcher makes: where they are in the stream, and the names of what they read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from torch import Tensor

from caffe.data.feed.prefetch import Array, Load, LoadAs, Prefetcher
from caffe.engine.layer import TRAIN, SourceLayer
from caffe.errors import DataError
from caffe.runtime import runtime

T = TypeVar("T")


class PrefetchingLayer(SourceLayer):
    """A source of records at places 0, 1, 2, … of a stream, `batch_size` of them to a batch."""

    _prefetcher: Prefetcher | None = None
    _batches_read = 0

    def prefetch(
        self,
        load: Load,
        shape: tuple[int, ...],
        batch_size: int,
        where: Callable[[int], str],
        key: Callable[[int], str],
        load_as: LoadAs | None = None,
    ) -> None:
        """Gets ready to read; `where` names the record at a place in words, `key` by its name alone. Called in `setup`.

        `load_as` is for layers whose batches differ; see `Prefetcher`.
        """
        self._batch_size, self._key = batch_size, key
        self._prefetcher = Prefetcher(load, shape, batch_size, where, skip=self._skip(), load_as=load_as)

    def _skip(self) -> int:
        """How many bad records may be left out. A test's scores would change without a word, so there it is none."""
        return runtime.skip_bad_records if self.phase == TRAIN else 0

    def first_readable(self, read: Callable[[int], T]) -> T:
        """What `read` returns for the first place of the stream where it raises no DataError."""
        for place in range(self._skip()):
            with suppress(DataError):
                return read(place)
        return read(self._skip())

    def next_records(self) -> tuple[Tensor, list[Array]]:
        """The next batch: data [N, C, H, W], and each record's label rows."""
        assert self._prefetcher is not None, f"{type(self).__name__}.setup did not call prefetch"
        batch = self._prefetcher.batch()
        self._batches_read += 1
        return batch

    def record_keys(self, batches: int = 1) -> list[str]:
        stop = max(self._batches_read, 1)
        places = range(max(0, stop - batches) * self._batch_size, stop * self._batch_size)
        return [self._key(place) for place in places]

    def start_at(self, batch: int) -> None:
        assert self._prefetcher is not None
        self._batches_read = batch
        self._prefetcher.start_at(batch)

    def close(self) -> None:
        if self._prefetcher is not None:
            self._prefetcher.close()
