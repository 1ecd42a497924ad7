"""The files of one training run: its solver, numbers, result files and default boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caffe.detection import voc
from caffe.detection.coco_files import read_json
from caffe.errors import CaffeError, DataError
from caffe.proto.text import read_net, read_solver, to_text
from caffe.solver.log_reader import read_made_with, read_training_log
from caffe.solver.metrics import COLUMNS, FILE_NAME, read_rows


@dataclass
class Curves:
    """Loss by iteration and test scores by iteration, and how long it took (seconds; 0 if unknown)."""

    loss: list[tuple[int, float]] = field(default_factory=list)
    tests: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def last_iteration(self) -> int:
        """The last iteration that anything is known of."""
        points = [*self.loss, *(point for series in self.tests.values() for point in series)]
        return max((iteration for iteration, _ in points), default=0)


@dataclass
class Run:
    """What was found in a run's directory; what it does not have is None or empty."""

    name: str
    folder: Path
    solver: Any = None
    solver_text: str = ""
    results: dict[str, Path] = field(default_factory=dict)
    curves: Curves | None = None
    boxes: dict[str, Any] | None = None
    #: the versions that trained, in words; empty if no log says it
    made_with: str = ""
    #: the list of image sizes by which the test net scaled the boxes in the result files
    name_sizes: Path | None = None

    @property
    def seed(self) -> int | None:
        """The solver's random_seed."""
        return int(self.solver.random_seed) if self.solver is not None and self.solver.random_seed >= 0 else None

    @property
    def unfinished(self) -> str:
        """How far an unfinished run is, in words; empty for one that has ended, or of which nothing is known."""
        if self.solver is None or self.curves is None or not self.solver.max_iter:
            return ""
        # The last display is before the last iteration.
        done = self.curves.last_iteration
        if done + max(self.solver.display, 1) >= self.solver.max_iter:
            return ""
        return f"{done:,} of {self.solver.max_iter:,} iterations"


def find_run(name: str, folder: str | Path, prefix: str = "comp4_det_test_") -> Run:
    """Looks for a run's files in a directory.

    The solver is `solver.prototxt` or `model/solver.prototxt`; result files are where its test net writes them, or in
    `results`, or in the directory itself; metrics or the log in `log`; default boxes in `boxes/reach.json`. Raises
    CaffeError for a directory with neither results nor a log, and for files that cannot be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise CaffeError(f"'{folder}' is not a directory; give that of a run, with its results or its log in it")
    run = Run(name, root)
    solver = _first(root / "solver.prototxt", root / "model" / "solver.prototxt")
    if solver is not None:
        run.solver = read_solver(str(solver))
        run.solver_text = to_text(run.solver)
    outputs = _outputs(run.solver)
    places = [*outputs, root / "results", root, root / "model" / "results"]
    for place in places:
        if any(place.glob(f"{prefix}*.txt")):
            run.results, run.name_sizes = voc.find_result_files(place, prefix), outputs.get(place)
            break
    logs = [place for base in (root, root / "model") for place in (base / "log", base)]
    if metrics := _first(*(place / FILE_NAME for place in logs)):
        run.curves = _from_metrics(metrics)
    if log := _first(*(place / "caffe.INFO" for place in logs)):
        run.curves = run.curves or _from_log(log)
        run.made_with = read_made_with(log)
    if reach := _first(root / "boxes" / "reach.json", root / "reach.json"):
        run.boxes = _read_reach(reach)
    if not run.results and run.curves is None:
        raise CaffeError(
            f"'{folder}' has no result files {prefix}<class>.txt (in it, in results/, or where its solver's test net "
            "writes them) and no log/metrics.csv or log/caffe.INFO; is it the directory of a run?"
        )
    return run


def _first(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _outputs(solver: Any) -> dict[Path, Path | None]:
    """Where the solver's test nets write their results, and the list of image sizes for them.

    Nets that cannot be read from here are left out.
    """
    found: dict[Path, Path | None] = {}
    for path in solver.test_net if solver is not None else ():
        try:
            net = read_net(path)
        except CaffeError:
            continue
        for layer in net.layer:
            saved = layer.detection_output_param.save_output_param
            if saved.output_directory:
                found[Path(saved.output_directory)] = Path(saved.name_size_file) if saved.name_size_file else None
    return found


def _from_metrics(path: Path) -> Curves:
    columns, rows = read_rows(path)
    curves = Curves()
    outputs = columns[len(COLUMNS) :]
    for row in rows:
        iteration = int(row["iteration"])
        try:
            curves.seconds = max(curves.seconds, float(row["seconds"]))
            if row["phase"] == "train":
                curves.loss.append((iteration, float(row["loss"])))
            else:
                for name in outputs:
                    if row[name]:
                        curves.tests.setdefault(name, []).append((iteration, float(row[name])))
        except ValueError as error:
            raise DataError(f"{path}: iteration {iteration}: {error}") from None
    return curves


def _from_log(path: Path) -> Curves:
    log = read_training_log(path)
    tests: dict[str, list[tuple[int, float]]] = {}
    for row in log.test:
        for name in row.keys() - {"NumIters", "Seconds", "LearningRate"}:
            tests.setdefault(name, []).append((int(row["NumIters"]), row[name]))
    seconds = [s for _, s, _ in log.losses] + [row["Seconds"] for row in log.test]
    return Curves([(i, loss) for i, _, loss in log.losses], tests, max(seconds, default=0.0))


def _read_reach(path: Path) -> dict[str, Any]:
    value = read_json(path, "reach of the default boxes")
    parts = value.values() if isinstance(value, dict) else [value]
    by_size = [part.get("by size", {}) for part in parts if isinstance(part, dict)]
    if not isinstance(value, dict) or not all(
        isinstance(rows, dict) and all(isinstance(row, dict) for row in rows.values()) for rows in by_size
    ):
        raise DataError(f"{path}: is not the JSON that design_boxes writes")
    return value


#: Student's t for 95 % by degrees of freedom, 1 to 10; from there on the last one, which is slightly too large
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The mean over several seeds, and half the width of its 95 % interval (Student's t); None for fewer than two."""
    count = len(values)
    if count < 2:
        return None
    mean = sum(values) / count
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    return mean, _STUDENT[min(count - 1, len(_STUDENT)) - 1] * deviation / math.sqrt(count)
