"""Plots of scores and errors, for the command line and for reports.

Every function returns a matplotlib Figure that no global state refers to. `models` maps the name of each model to its
values, in the order of the columns. Class names may contain any characters.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.colors
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from caffe.detection import tide
from caffe.detection.confusion import MISSED, NO_OBJECT, ConfusionMatrix
from caffe.detection.hoiem import ASPECTS, SIZES, ClassDiagnosis, impact
from caffe.detection.hoiem.false_positives import KINDS
from caffe.detection.voc import ClassScore
from caffe.errors import shown
from caffe.files import replacing

#: of lines and text; `svg` turns it into the color of the page's text
INK = "#1f2328"
_MUTED = "#8b949e"
_KIND_COLORS = ("#4c72b0", "#dd8452", "#c44e52", "#8172b3")
_KIND_NAMES = {"loc": "localization", "sim": "similar class", "oth": "other class", "bg": "background"}
_MODEL_COLORS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c")
#: of shares, from transparent on, so that it suits a light and a dark page
_SHARES = mpl.colors.LinearSegmentedColormap.from_list("shares", ["#2a64ad00", "#2a64adff"])
#: classes in one row of Figure 6, as many as the paper shows
_CLASSES_PER_ROW = 7
#: points of a curve; more cannot be told apart
_MOST_POINTS = 4000
#: matrices with more classes get no numbers in their cells
_MOST_NUMBERS = 25

Models = Mapping[str, Sequence[ClassDiagnosis]]


# ---- output


def save(
    figure: Figure, folder: str | Path, stem: str, kinds: Sequence[str] = ("svg", "png")
) -> list[str]:  # fmt: skip
    """Writes `stem`.svg and `stem`.png to a directory, complete or not at all. Returns the names."""
    names = []
    for kind in kinds:
        with replacing(Path(folder) / f"{stem}.{kind}") as temporary, _style():
            figure.savefig(temporary, format=kind, dpi=130, facecolor="white", metadata=_metadata(kind))
        names.append(f"{stem}.{kind}")
    return names


def svg(figure: Figure) -> str:
    """Returns a figure as an <svg> element for a page: without background, its text in the page's color."""
    buffer = io.StringIO()
    with _style():
        figure.savefig(buffer, format="svg", transparent=True, metadata=_metadata("svg"))
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")


def _metadata(kind: str) -> dict[str, Any]:
    """No date, so that the same values give the same file; and no addresses of vocabularies."""
    return dict.fromkeys(("Creator", "Date", "Format", "Type")) if kind == "svg" else {}


@contextmanager
def _style() -> Iterator[None]:
    """The style of all figures; characters that the font does not have cause no warning."""
    import logging
    import warnings

    settings: dict[Any, Any] = {
        "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
        "font.size": 9.0, "axes.spines.top": False, "axes.spines.right": False, "text.usetex": False,
        "legend.frameon": False, "svg.fonttype": "path",
        "text.parse_math": False,
    }  # fmt: skip
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with mpl.rc_context(settings), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logger.setLevel(level)


def plain(name: str, limit: int = 24) -> str:
    """A name as text for matplotlib, which leaves labels that begin with `_` out of legends."""
    text = shown(name, limit)
    return f" {text}" if text.startswith("_") else text


# ---- precision and recall


def curve_figure(scores: Sequence[ClassScore]) -> Figure:
    """Precision over recall, one line per class."""
    with _style():
        figure = Figure(figsize=(6, 5))
        axes = figure.subplots()
        figure.subplots_adjust(left=0.1, right=0.98, bottom=0.1, top=0.98)
        lines = []
        for score in scores:
            count = len(score.recall)
            at = np.unique(np.linspace(0, count - 1, min(count, _MOST_POINTS)).astype(np.int64))
            lines += axes.plot(score.recall[at], score.precision[at])
        labels = [f"{plain(s.name)} (AP {100 * s.average_precision:.1f} %)" for s in scores]
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01))
        axes.grid(alpha=0.3)
        axes.legend(lines, labels, fontsize="small", ncols=1 + len(scores) // 11)
        return figure


# ---- Hoiem's analysis


def size_figure(models: Models, across: int | None = None) -> Figure:
    """AP_N by object size with standard errors, one column per model (MDSSD, Figure 6).

    across: the number of models side by side; others are below (default: all are side by side).
    """
    return _group_figure(models, "size", SIZES, across)


def aspect_figure(models: Models, across: int | None = None) -> Figure:
    """AP_N by aspect ratio with standard errors, one column per model. across: as for `size_figure`."""
    return _group_figure(models, "aspect", ASPECTS, across)


def _group_figure(models: Models, groups: str, labels: Sequence[str], across: int | None) -> Figure:
    names = list(dict.fromkeys(d.name for diagnoses in models.values() for d in diagnoses))
    rows = [names[i : i + _CLASSES_PER_ROW] for i in range(0, len(names), _CLASSES_PER_ROW)] or [[]]
    colors = mpl.colormaps["viridis"](np.linspace(0.0, 0.85, len(labels)))
    columns = min(across or len(models), len(models))
    blocks = math.ceil(len(models) / columns)
    with _style():
        figure, panels = _grid(blocks * len(rows), columns, 6.0, 2.4)
        for number, (model, diagnoses) in enumerate(models.items()):
            by_name = {d.name: d for d in diagnoses}
            block, column = divmod(number, columns)
            for row, classes in enumerate(rows, block * len(rows)):
                axes = panels[row][column]
                known = [(place, by_name[name]) for place, name in enumerate(classes) if name in by_name]
                _draw_groups(axes, known, groups, colors)
                axes.set(xlim=(-0.6, max(len(classes), 1) - 0.4), ylim=(0, 1.04))
                axes.set_xticks(range(len(classes)), [plain(name, 16) for name in classes], fontsize=8, rotation=15)
                axes.grid(axis="y", alpha=0.25)
                if column == 0:
                    axes.set_ylabel("normalized AP")
            panels[block * len(rows)][column].set_title(plain(model, 40))
        for last_row in panels[(blocks - 1) * len(rows) :]:
            for axes in last_row[(len(models) - 1) % columns + 1 :]:
                axes.set_axis_off()
        handles = [mpl.lines.Line2D([], [], color=color, marker="o", linestyle="") for color in colors]
        handles.append(mpl.lines.Line2D([], [], color=_MUTED, linestyle="--"))
        figure.legend(handles, [*labels, "all objects"], loc="lower center", ncols=len(labels) + 1, fontsize=8)
        return figure


def _draw_groups(axes: Axes, classes: Sequence[tuple[int, ClassDiagnosis]], groups: str, colors: NDArray[Any]) -> None:
    """Draws the groups of some classes around their places on the axis."""
    shifts = np.linspace(-0.3, 0.3, len(colors))
    for place, diagnosis in classes:
        values = [score.average_precision for score in getattr(diagnosis, groups)]
        axes.plot(place + shifts, values, color=_MUTED, linewidth=0.8, zorder=1)
    overall = [diagnosis.normalized.average_precision for _, diagnosis in classes]
    places = np.array([place for place, _ in classes], np.float64)
    axes.hlines(overall, places - 0.38, places + 0.38, _MUTED, "--", linewidth=0.8)
    for number, (shift, color) in enumerate(zip(shifts, colors, strict=True)):
        scores = [(place + shift, getattr(diagnosis, groups)[number]) for place, diagnosis in classes]
        drawn = [(x, s.average_precision, s.error) for x, s in scores if s.objects]
        if drawn:
            x, heights, errors = zip(*drawn, strict=True)
            axes.errorbar(x, heights, errors, color=color, marker="o", markersize=4, capsize=2, linestyle="")


def sensitivity_figure(models: Models) -> Figure:
    """How much AP_N depends on size and aspect ratio: the mean over classes of the worst and the best groups."""
    kinds = ("size", "aspect")
    with _style():
        figure, panels = _grid(1, 1, 2.2 + 1.1 * len(models), 3.2)
        axes = panels[0][0]
        for number, (model, diagnoses) in enumerate(models.items()):
            summary = impact(list(diagnoses))
            color = _MODEL_COLORS[number % len(_MODEL_COLORS)]
            mean = summary["all"]["AP_N"]
            shift = (number - (len(models) - 1) / 2) * 0.6 / max(len(models), 1)
            for place, kind in enumerate(kinds):
                least, greatest = summary[kind]["least"], summary[kind]["greatest"]
                if math.isnan(least) or math.isnan(mean):
                    continue
                x = place + shift
                axes.plot([x, x], [least, greatest], color=color, linewidth=2, marker="_", markersize=12)
                axes.plot(x, mean, color=color, marker="o", markersize=4)
                for value, align in ((least, "top"), (greatest, "bottom")):
                    axes.annotate(f"{value:.3f}", (x, value), ha="center", va=align, fontsize=7,
                                  xytext=(0, -4 if align == "top" else 4), textcoords="offset points")  # fmt: skip
            axes.plot([], [], color=color, marker="o", label=f"{plain(model, 40)} ({mean:.3f})")
        axes.set(xlim=(-0.6, 1.6), ylim=(0, 1.04), ylabel="normalized AP")
        axes.set_xticks(range(2), ["object size", "aspect ratio"])
        axes.grid(axis="y", alpha=0.25)
        figure.legend(loc="lower center", fontsize=8, title="mean of all objects", title_fontsize=8)
        figure.subplots_adjust(bottom=(0.75 + 0.17 * len(models)) / figure.get_figheight())
        return figure


def kinds_figure(models: Models, across: int | None = None) -> Figure:
    """The kinds of false positives over their rank, over all classes, one panel per model (Hoiem; MDSSD, Figure 9).

    At each number n: the shares of the kinds among the n highest-scored false positives of each class. across: as for
    `size_figure`.
    """
    columns = min(across or len(models), len(models))
    with _style():
        figure, panels = _grid(math.ceil(len(models) / columns), columns, 4.2, 2.8)
        everything = [axes for row in panels for axes in row]
        for axes, (model, diagnoses) in zip(everything, models.items(), strict=False):
            _draw_kinds(axes, list(diagnoses))
            axes.set_title(plain(model, 40))
        for axes in everything[len(models) :]:
            axes.set_axis_off()
        for row in panels:
            row[0].set_ylabel("share of false positives")
        _kind_legend(figure)
        return figure


def class_kinds_figure(diagnoses: Sequence[ClassDiagnosis], title: str = "") -> Figure:
    """The kinds of false positives over their rank, for each class of one model."""
    columns = min(4, max(len(diagnoses), 1))
    with _style():
        figure, panels = _grid(max(math.ceil(len(diagnoses) / columns), 1), columns, 3.0, 2.2)
        everything = [axes for row in panels for axes in row]
        for axes, diagnosis in zip(everything, diagnoses, strict=False):
            _draw_kinds(axes, [diagnosis])
            axes.set_title(plain(diagnosis.name), fontsize=9)
        for axes in everything[len(diagnoses) :]:
            axes.set_axis_off()
        if title:
            figure.suptitle(plain(title, 60), y=1 - 0.12 / figure.get_figheight(), fontsize=10)
        _kind_legend(figure)
        return figure


def _draw_kinds(axes: Axes, diagnoses: Sequence[ClassDiagnosis]) -> None:
    """Draws the shares of the kinds among the first n false positives of each class, over n."""
    ranks = {d.name: _kinds_in_order(d) for d in diagnoses}
    longest = max((len(kinds) for kinds in ranks.values()), default=0)
    if not longest:
        axes.text(0.5, 0.5, "no false positives", ha="center", va="center", transform=axes.transAxes)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    at = np.unique(np.geomspace(1, longest, 80).round().astype(np.int64))
    counts = np.zeros((len(KINDS), len(at)))
    for kinds in ranks.values():
        if len(kinds):
            for number in range(len(KINDS)):
                counts[number] += np.cumsum(kinds == number)[np.minimum(at, len(kinds)) - 1]
    if len(at) == 1:  # one false positive: an area needs a width
        at, counts = np.array([1, 2]), np.repeat(counts, 2, axis=1)
    axes.stackplot(at, counts / counts.sum(axis=0), colors=_KIND_COLORS, alpha=0.9)
    axes.set(xscale="log", xlim=(at[0], at[-1]), ylim=(0, 1), xlabel="false positives")
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    axes.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1.0))


def _kinds_in_order(diagnosis: ClassDiagnosis) -> NDArray[np.int64]:
    """Returns the kind of each false positive, as an index into KINDS, best score first."""
    masks = np.stack([diagnosis.false_positives.kind(kind) for kind in KINDS])
    return np.asarray(masks[:, masks.any(axis=0)].argmax(axis=0), np.int64)


def _kind_legend(figure: Figure) -> None:
    handles = [mpl.patches.Patch(color=color) for color in _KIND_COLORS]
    labels = [f"{kind}: {_KIND_NAMES[kind]}" for kind in KINDS]
    columns = 4 if figure.get_figwidth() > 6 else 2  # one row of them is 5.4 inches wide
    figure.legend(handles, labels, loc="lower center", ncols=columns, fontsize=8, borderaxespad=0.2)


# ---- TIDE, confusion


def tide_figure(models: Mapping[str, tide.TideResult]) -> Figure:
    """dAP of TIDE's six kinds of errors, and of all false positives and negatives, one bar per model."""
    special = ("false positives", "false negatives")
    with _style():
        figure = Figure(figsize=(8.4, 3.2))
        left, right = figure.subplots(1, 2, width_ratios=(3, 1.2))
        width = 0.8 / max(len(models), 1)
        for number, (model, result) in enumerate(models.items()):
            color = _MODEL_COLORS[number % len(_MODEL_COLORS)]
            shift = (number - (len(models) - 1) / 2) * width
            label = f"{plain(model, 40)} (AP {100 * result.average_precision:.1f} %)"
            main = [100 * result.errors[kind].delta for kind in tide.KINDS]
            rest = [100 * result.false_positives, 100 * result.false_negatives]
            for axes, values in ((left, main), (right, rest)):
                bars = axes.bar(np.arange(len(values)) + shift, values, width, color=color, label=label)
                axes.bar_label(bars, fmt="%.1f", fontsize=6 if len(models) > 3 else 7)
        left.set_xticks(range(len(tide.KINDS)), tide.KINDS)
        right.set_xticks(range(2), [name.replace(" ", "\n") for name in special])
        left.set_ylabel("dAP, points")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=2, fontsize=8)
        bottom = 0.55 + 0.18 * math.ceil(len(models) / 2)
        figure.subplots_adjust(left=0.07, right=0.99, top=0.95, bottom=bottom / 3.2)
        return figure


def confusion_figure(matrix: ConfusionMatrix, title: str = "") -> Figure:
    """A confusion matrix: colors are shares of each row; numbers are counts, up to 25 classes."""
    count = len(matrix.names) + 1
    totals = matrix.counts.sum(axis=1, keepdims=True)
    shares = np.divide(matrix.counts, totals, out=np.zeros(matrix.counts.shape), where=totals > 0)
    size = 8 if count <= 12 else 6 if count <= 30 else 4
    names = [plain(name, 16) for name in matrix.names]
    # In inches: the cells, and beside them the names (a character is about 0.6 of its height wide) and an axis label.
    cells = min(max(0.34 * count, 2.2), 12.0)
    margin = 0.6 * size / 72 * max(map(len, [*names, MISSED, NO_OBJECT])) + 0.5
    top = 0.35 if title else 0.1
    wide, high = margin + cells + 0.1, margin + cells + top
    with _style():
        figure = Figure(figsize=(wide, high))
        axes = figure.subplots()
        axes.imshow(shares, cmap=_SHARES, vmin=0, vmax=1)
        axes.set_xticks(range(count), [*names, MISSED], rotation=90, fontsize=size)
        axes.set_yticks(range(count), [*names, NO_OBJECT], fontsize=size)
        axes.set(xlabel=f"detected (score {matrix.score:g} or more)", ylabel="object")
        if title:
            axes.set_title(plain(title, 40), fontsize=9)
        if count <= _MOST_NUMBERS + 1:
            for row, column in zip(*np.nonzero(matrix.counts), strict=True):
                color = "white" if shares[row, column] > 0.5 else INK
                axes.text(column, row, f"{matrix.counts[row, column]}", ha="center", va="center", color=color,
                          fontsize=size - 1)  # fmt: skip
        figure.subplots_adjust(left=margin / wide, right=1 - 0.1 / wide, top=1 - top / high, bottom=margin / high)
        return figure


# ---- shared


def _grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[list[Axes]]]:
    """Returns a figure with a grid of panels of a size in inches, with space for titles and for a legend below."""
    left, right, top, bottom, gap_x, gap_y = 0.7, 0.1, 0.4, 0.85, 0.45, 0.65
    wide = left + right + columns * width + (columns - 1) * gap_x
    high = top + bottom + rows * height + (rows - 1) * gap_y
    figure = Figure(figsize=(wide, high))
    panels = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(
        left=left / wide, right=1 - right / wide, top=1 - top / high, bottom=bottom / high, wspace=gap_x / width,
        hspace=gap_y / height,
    )  # fmt: skip
    return figure, [list(row) for row in panels]
