"""`metrics.csv` and TensorBoard events: the numbers of a training as it goes."""

from __future__ import annotations

import csv
import io
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from caffe.errors import CaffeError
from caffe.files import replacing
from caffe.solver.watchers import Displayed, Tested, Watcher

FILE_NAME = "metrics.csv"
#: the first columns; the nets' outputs and the classes follow as they come up
COLUMNS = ("iteration", "seconds", "phase", "loss", "learning_rate", "images_per_second")
#: precedes the name of a class in a column's name
CLASS = "AP "
_ITERATION = re.compile(r"[0-9]{1,18}")
#: follows the name of an output of the second test net and later ones
_TEST_NET = re.compile(r" \(test net (\d+)\)$")


class MetricsFile(Watcher):
    """Adds a row to `metrics.csv` for each display (phase `train`) and test (phase `test`).

    A run that goes on from a snapshot continues the file, without the rows after that snapshot's iteration. One that
    starts from the beginning keeps an earlier file under another name.
    """

    name = FILE_NAME

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / FILE_NAME
        self._columns = list(COLUMNS)
        self._images = 0
        self._before = 0.0
        self._earlier: list[Tested] = []
        self._last: tuple[int, float] = (0, 0.0)

    def begins(self, iteration: int, images_per_update: int) -> None:
        self._images, self._began = images_per_update, time.monotonic()
        rows: list[dict[str, str]] = []
        if self.path.exists():
            if iteration:
                columns, rows = read_rows(self.path)
                self._columns += [name for name in columns if name not in self._columns]
                rows = [row for row in rows if int(row["iteration"]) < iteration]
                self._before = max((float(row["seconds"]) for row in rows), default=0.0)
                self._earlier = [result for row in rows if row["phase"] == "test" for result in _tests_of(row)]
            else:
                os.replace(self.path, _free_name(self.path))
        self._last = (iteration, 0.0)
        self._rewrite(rows)

    def earlier_tests(self) -> Sequence[Tested]:
        return self._earlier

    def displayed(self, row: Displayed) -> None:
        seconds = time.monotonic() - self._began
        done, before = self._last
        pace = self._images * (row.iteration + 1 - done) / max(seconds - before, 1e-9)
        self._last = (row.iteration + 1, seconds)
        values = {"loss": row.loss, "learning_rate": row.rate, "images_per_second": round(pace, 3)}
        self._add(row.iteration, "train", values | dict(row.outputs))

    def tested(self, result: Tested) -> None:
        scores = {_of_net(name, result.index): value for name, value in result.scores.items()}
        classes = {_of_net(CLASS + name, result.index): value for name, value in result.classes.items()}
        self._add(result.iteration, "test", scores | classes)
        self._last = (self._last[0], self._last[1] + result.seconds)  # the pace is that of training alone

    def _add(self, iteration: int, phase: str, values: Mapping[str, float]) -> None:
        seconds = self._before + time.monotonic() - self._began
        row = {"iteration": str(iteration), "seconds": f"{seconds:.3f}", "phase": phase}
        row |= {name: f"{value:.7g}" for name, value in values.items()}
        new = [name for name in row if name not in self._columns]
        if new:
            rows = read_rows(self.path)[1]
            self._columns += new
            self._rewrite([*rows, row])
            return
        with open(self.path, "r+", encoding="utf-8", newline="") as file:
            end = file.seek(0, io.SEEK_END)
            try:
                csv.DictWriter(file, self._columns).writerow(row)
                file.flush()
            except OSError:
                with suppress(OSError):  # half a row is worse than none
                    file.truncate(end)
                raise

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        with replacing(self.path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)


def read_rows(path: str | Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and rows of a `metrics.csv`. Raises CaffeError if it is not one.

    A last line that does not end is left out: it is being written, or the machine went down meanwhile.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8", errors="replace")
        reader = csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
        columns = next(reader, [])
        if columns[: len(COLUMNS)] != list(COLUMNS):
            raise CaffeError(
                f"{path}: its first columns are not {', '.join(COLUMNS)}, as `caffe train -log_dir` writes them"
            )
        rows = []
        for values in reader:
            if not values:
                continue
            row = dict(zip(columns, values, strict=False))
            if len(values) != len(columns) or not _ITERATION.fullmatch(row["iteration"]):
                raise CaffeError(f"{path}, line {reader.line_num}: is not a complete row")
            rows.append(row)
    except OSError as error:
        raise CaffeError(f"{path}: {error.strerror}") from None
    except csv.Error as error:
        raise CaffeError(f"{path}: not a CSV file: {error}") from None
    return columns, rows


def _of_net(name: str, index: int) -> str:
    return f"{name} (test net {index})" if index else name


def _tests_of(row: Mapping[str, str]) -> list[Tested]:
    """The scores in a row of phase `test`, which is that of one test net."""
    scores: dict[int, dict[str, float]] = {}
    for column, text in row.items():
        if text and column not in COLUMNS[:3] and not column.startswith(CLASS):
            net = _TEST_NET.search(column)
            scores.setdefault(int(net[1]) if net else 0, {})[_TEST_NET.sub("", column)] = float(text)
    return [Tested(int(row["iteration"]), index, values) for index, values in scores.items()]


def _free_name(path: Path) -> Path:
    number = 1
    while (other := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    return other


class TensorBoard(Watcher):
    """Writes TensorBoard event files. Raises CaffeError if TensorBoard is not installed."""

    name = "TensorBoard events"

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise CaffeError(
                "-tensorboard: the package tensorboard is not installed; `pip install tensorboard`, or leave the flag out"
            ) from None
        self._writer: Any = SummaryWriter(str(folder))

    def displayed(self, row: Displayed) -> None:
        self._scalars("train", {"loss": row.loss, "learning_rate": row.rate} | dict(row.outputs), row.iteration)

    def tested(self, result: Tested) -> None:
        prefix = f"test{result.index or ''}"
        self._scalars(prefix, result.scores, result.iteration)
        self._scalars(f"{prefix}_AP", result.classes, result.iteration)
        self._writer.flush()

    def _scalars(self, group: str, values: Mapping[str, float], iteration: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, iteration)

    def ends(self) -> None:
        self._writer.close()
