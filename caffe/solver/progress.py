"""The progress of a long run: one line that stays on a terminal, nothing if the log goes to a file."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from time import perf_counter
from types import TracebackType
from typing import Any

from tqdm import tqdm

from caffe import log

#: weight of the last step in the mean time of a step
_NEWEST = 0.1
_BAR, _BAR_WIDTH = "{percentage:3.0f}%|{bar:10}| ", 17


class Progress:
    """A line with the progress from `start` to `total`, below the log lines. A context manager.

    It shows the time left, the images a second (if `images`, their number in a step, is given), and what `advance` and
    `note` are given. What does not fit on the terminal is left out, the least important first.

    `enabled` None: only if stderr is a terminal that can overwrite a line, and the log level has not been raised.
    """

    def __init__(
        self, total: int, start: int = 0, *, unit: str = "it", images: int = 0, enabled: bool | None = None
    ) -> None:
        if enabled is None:
            enabled = (
                sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and log.minimum_level() <= log.WARNING
            )  # fmt: skip
        self._enabled = enabled
        self._bar: tqdm[Any] | None = None
        self._total, self._start, self._done, self._unit, self._images = total, start, start, unit, images
        self._note = self._short_note = ""
        # Seconds: a step's mean; what did not belong to a step, such as tests, in total; the end of the last step.
        self._pace, self._aside, self._last = 0.0, 0.0, 0.0

    def __enter__(self) -> Progress:
        self._last = perf_counter()
        if self._enabled:
            self._bar = tqdm(
                total=self._total, initial=self._start, unit=self._unit, file=sys.stderr, dynamic_ncols=True, leave=False,
                bar_format=_BAR + f"{self._start}/{self._total} [? left]",
            )  # fmt: skip
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
        """Advances by one step; `figures` are shown beside the bar (loss=4.2), the most important one first."""
        if self._bar is None:
            return
        now = perf_counter()
        spent, self._last = now - self._last, now
        self._pace += (spent - self._pace) * (_NEWEST if self._done > self._start + 1 else 1)
        self._done += 1
        with suppress(OSError, ValueError):  # the terminal is gone; the log says so
            self._bar.bar_format = self._line([f"{name}={value:.4g}" for name, value in figures.items()], _width())
            self._bar.update()

    def note(self, text: str, short: str = "") -> None:
        """Shows `text` too from the next step on, such as the score of the last test; `short` where that is too long.

        The time since the last step was not a step's.
        """
        self._note, self._short_note = text, short or text
        now = perf_counter()
        self._aside, self._last = self._aside + now - self._last, now

    def _line(self, figures: list[str], width: int) -> str:
        """The line as tqdm's bar_format, with as many of its parts as fit in `width` columns."""
        steps = self._done - self._start
        seconds = (self._total - self._done) * (self._pace + self._aside / steps)
        left = f"{tqdm.format_interval(seconds)} left"
        pace = [f"{self._images / self._pace:.3g} images/s"] if self._images and self._pace > 0 else []
        note, short = [self._note] if self._note else [], [self._short_note] if self._note else []
        text = ""
        for bar, parts in (
            (True, [*figures, *pace, *note]), (False, [*figures, *pace, *note]), (False, [*figures, *pace, *short]),
            (False, [*figures[:1], *pace, *short]), (False, [*figures[:1], *short]), (False, figures[:1]), (False, []),
        ):  # fmt: skip
            text = f"{self._done}/{self._total} [{', '.join([left, *parts])}]"
            if len(text) + bar * _BAR_WIDTH < width:
                break
        text = text[: width - 1].replace("{", "{{").replace("}", "}}")
        return _BAR * bar + text


def _width() -> int:
    """The columns of the terminal."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
