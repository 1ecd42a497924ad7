"""The progress of a long run: one line that stays on a terminal, nothing if the log goes to a file."""

from __future__ import annotations

import sys
from contextlib import suppress
from types import TracebackType
from typing import Any

from tqdm import tqdm

from caffe import log
from caffe.solver.number_format import ostream_number


class Progress:
    """A line with the progress from `start` to `total`, below the log lines. A context manager.

    It shows the time left, the images a second (if `images`, their number in a step, is given), and what `advance` and
    `note` are given.

    `enabled` None: only if stderr is a terminal and the log level has not been raised.
    """

    def __init__(
        self, total: int, start: int = 0, *, unit: str = "it", images: int = 0, enabled: bool | None = None
    ) -> None:
        if enabled is None:
            enabled = sys.stderr.isatty() and log.minimum_level() <= log.WARNING
        self._enabled = enabled
        self._bar: tqdm[Any] | None = None
        self._total, self._start, self._unit, self._images = total, start, unit, images
        self._note = ""

    def __enter__(self) -> Progress:
        if self._enabled:
            self._bar = tqdm(
                total=self._total,
                initial=self._start,
                unit=self._unit,
                file=sys.stderr,
                dynamic_ncols=True,
                leave=False,
                bar_format="{percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} [{remaining} left{postfix}]",
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
                parts = [f"{name}={ostream_number(value)}" for name, value in figures.items()]
                pace = self._bar.format_dict["rate"]
                if self._images and pace:
                    parts.append(f"{pace * self._images:.3g} images/s")
                self._bar.set_postfix_str(", ".join([*parts, self._note] if self._note else parts), refresh=False)
                self._bar.update()

    def note(self, text: str) -> None:
        """Shows `text` too from the next step on, such as the score of the last test."""
        self._note = text
