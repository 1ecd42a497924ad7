"""The plots of a report that are about training and default boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from caffe.detection.coco_files import is_finite
from caffe.detection.figures import INK, plain
from caffe.report.runs import Curves

#: colors of the models, as in caffe.detection.figures
COLORS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c")
#: a curve is drawn with at most so many points
_POINTS = 600
_STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "font.size": 9.0, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "text.parse_math": False, "axes.facecolor": "none",
}  # fmt: skip


@mpl.rc_context(_STYLE)
def training_figure(models: Mapping[str, Sequence[Curves]]) -> Figure | None:
    """Loss over iterations, and beside it the first score of each test; None without any curve."""
    drawn = {name: [curves for curves in runs if curves.loss or curves.tests] for name, runs in models.items()}
    if not any(drawn.values()):
        return None
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, runs), color in zip(drawn.items(), COLORS * len(drawn), strict=False):
        for number, curves in enumerate(runs):
            label = plain(name, 36) if not number else None
            points = curves.loss[:: max(1, len(curves.loss) // _POINTS)]
            if points:
                left.plot(*zip(*points, strict=True), color=color, linewidth=1, label=label)
            tests = [(iteration, 100 * score) for iteration, score in first_score(curves)]
            if tests:
                right.plot(*zip(*tests, strict=True), "o-", color=color, markersize=4, linewidth=1.2, label=label)
    left.set(xlabel="iteration", ylabel="training loss")
    right.set(xlabel="iteration", ylabel="mAP of the tests, %", ylim=(0, 100))
    for axes in (left, right):
        axes.grid(alpha=0.25)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="best")
        axes.set_xlim(left=0)
    if not right.lines:
        right.text(0.5, 0.5, "no test yet", ha="center", va="center", transform=right.transAxes)
    return figure


def first_score(curves: Curves) -> list[tuple[int, float]]:
    """The tests' first score that is not a class's AP."""
    return next((series for name, series in curves.tests.items() if not name.startswith("AP ")), [])


@mpl.rc_context(_STYLE)
def reach_figure(models: Mapping[str, Mapping[str, Any]]) -> Figure | None:
    """The share of objects that default boxes reach, by size, from the files of design_boxes."""
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    axes = figure.subplots()
    names: list[str] = []
    for (model, reach), color in zip(models.items(), COLORS * len(models), strict=False):
        for kind, style in (("net", "o--"), ("proposed", "o-"), ("boxes file", "o-")):
            rows = reach[kind].get("by size") if isinstance(reach.get(kind), dict) else None
            if not rows:
                continue
            names = list(rows)
            shares = [
                100 * row["reached"] if isinstance(row, dict) and is_finite(row.get("reached")) else float("nan")
                for row in rows.values()
            ]
            axes.plot(range(len(names)), shares, style, color=color, label=f"{plain(model)}: {kind}", markersize=4)
    if not names:
        return None
    axes.set_xticks(range(len(names)), names)
    axes.set(xlabel="size of the object, pixels of the net's input", ylabel="objects reached, %", ylim=(0, 102))
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right")
    return figure
