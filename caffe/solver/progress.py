"""The progress of a long run: a bar with loss and time left on a terminal, nothing if the log goes to a file."""

from __future__ import annotations

import sys
from contextlib import suppress
from types import TracebackType
from typing import Any

from tqdm import tqdm

from caffe import log
from caffe.solver.number_format import ostream_number


class Progress:
    """A progress bar from `start` to `total`, with log lines scrolling above it. A context manager.

    `enabled` None: only if stderr is a terminal and the log level has not been raised.
    """

    def __init__(self, total: int, start: int = 0, *, unit: str = "it", enabled: bool | None = None) -> None:
        if enabled is None:
            enabled = sys.stderr.isatty() and log.minimum_level() <= log.WARNING
        self._enabled = enabled
        self._bar: tqdm[Any] | None = None
        self._total, self._start, self._unit = total, start, unit

    def __enter__(self) -> Progress:
        if self._enabled:
            self._bar = tqdm(
                total=self._total,
                initial=self._start,
                unit=self._unit,
                file=sys.stderr,
                dynamic_ncols=True,
                leave=False,
            )
            log.write_lines_with(lambda line: tqdm.write(line, file=sys.stderr))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            log.write_lines_with(None)
            with suppress(OSError, ValueError):
                self._bar.close()
            self._bar = None

    def advance(self, **figures: float) -> None:
        """Advances by one step; `figures` are shown beside the bar (loss=4.2)."""
        if self._bar is not None:
            with suppress(OSError, ValueError):  # the terminal is gone; the log says so
                self._bar.set_postfix({k: ostream_number(v) for k, v in figures.items()}, refresh=False)
                self._bar.update()
