"""`plot_training_log`: a chart of one or several training logs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from caffe.cli.flags import FlagParser, run
from caffe.errors import CaffeError
from caffe.files import replacing
from caffe.solver.log_reader import TrainingLog, read_training_log

#: the numbers are the original script's
CHART_TYPES = tuple(
    f"{what}  vs. {along}"
    for what in ("Test accuracy", "Test loss", "Train learning rate", "Train loss")
    for along in ("Iters", "Seconds")
)
Series = tuple[str, list[float], list[float]]


def parser() -> FlagParser:
    """The command's flags."""
    kinds = "\n".join(f"  {i}: {name}" for i, name in enumerate(CHART_TYPES))
    p = FlagParser(
        "plot_training_log",
        description="Plot training logs.",
        epilog=f"chart types (accuracy: every test output that is not a loss, such as detection_eval):\n{kinds}\n\n"
        "example:\n  plot_training_log 6 loss.png train.log",
    )
    p.add_argument("chart_type", type=int, help=f"0 to {len(CHART_TYPES) - 1}, see below")
    p.add_argument("png", help="where to save the chart: .png, or .svg or .pdf")
    p.add_argument("logs", nargs="+", help="logs, or directories of -log_dir, each drawn as a line")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; its exit status."""
    return run("plot_training_log", _command, argv)


def _command(argv: Sequence[str]) -> int:
    flags = parser().parse_args(argv)
    if not 0 <= flags.chart_type < len(CHART_TYPES):
        raise CaffeError(f"chart type {flags.chart_type} does not exist; give 0 to {len(CHART_TYPES) - 1}, see --help")
    if Path(flags.png).suffix not in (".png", ".svg", ".pdf"):
        raise CaffeError(f"{flags.png}: the chart's name must end in .png, .svg or .pdf")
    title = CHART_TYPES[flags.chart_type]
    lines: list[Series] = []
    for path in flags.logs:
        for name, x, y in series(read_training_log(path), flags.chart_type):
            label = Path(path).stem
            lines.append((f"{label}: {name}" if name else label, x, y))
    if not lines:
        raise CaffeError(f"nothing to draw: no log has values for '{title}'")
    _draw(lines, title, flags.png)
    return 0


def series(log: TrainingLog, chart_type: int) -> list[Series]:
    """The lines that a log gives for a chart: name (empty if there is only one kind), x and y."""
    what, along = divmod(chart_type, 2)
    if what >= 2:
        points = log.rates if what == 2 else log.losses
        return [("", [p[along] for p in points], [p[2] for p in points])] if points else []
    names = {name for row in log.test for name in row} - {"NumIters", "Seconds", "LearningRate"}
    wanted = names & log.loss_outputs if what == 1 else names - log.loss_outputs
    axis = ("NumIters", "Seconds")[along]
    result = []
    for name in sorted(wanted):
        rows = [row for row in log.test if name in row]
        result.append((name, [row[axis] for row in rows], [row[name] for row in rows]))
    return result


def _draw(lines: Sequence[Series], title: str, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), dpi=120)
    for label, x, y in lines:
        axes.plot(x, y, label=label, linewidth=0.75, marker="o" if len(x) < 50 else None, markersize=3)
    y_name, x_name = title.split("  vs. ")
    axes.set(title=title, xlabel=x_name, ylabel=y_name)
    axes.legend(loc="lower right" if "accuracy" in title else "upper right")
    axes.grid(alpha=0.3)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:])
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
