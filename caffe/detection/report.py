"""Scores for people to read: tables in plain text, precision-recall curves as pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from caffe.detection.average_precision import mean
from caffe.detection.coco import CocoScore
from caffe.detection.hoiem import SIZES, ClassDiagnosis, impact
from caffe.detection.hoiem.false_positives import KINDS
from caffe.detection.voc import ClassScore
from caffe.files import replacing


def table(head: Sequence[str], rows: Sequence[Sequence[str]], total: Sequence[str] | None = None) -> str:
    """A table: first column left-aligned, the others right-aligned, a line under the head and one above `total`."""
    everything = [head, *rows, *([total] if total else [])]
    widths = [max(len(row[i]) for row in everything) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return "  ".join(cells).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [line(head), rule, *map(line, rows)]
    if total:
        lines += [rule, line(total)]
    return "\n".join(lines) + "\n"


def percent(value: float) -> str:
    """A share in percent with one decimal; a dash if there is none."""
    return "-" if math.isnan(value) or value < 0 else f"{100 * value:.1f}"


def voc_table(scores: Sequence[ClassScore]) -> str:
    """AP in percent by class, with the numbers of objects and detections, and mAP."""
    rows = [
        [s.name, str(s.objects), str(s.detections), percent(float(s.recall[-1]) if len(s.recall) else 0.0),
         percent(s.average_precision)]
        for s in scores
    ]  # fmt: skip
    total = ["mean", str(sum(s.objects for s in scores)), str(sum(s.detections for s in scores)), ""]
    return table(
        ["class", "objects", "detections", "recall %", "AP %"],
        rows,
        [*total, percent(mean([s.average_precision for s in scores]))],
    )


def size_table(diagnoses: Sequence[ClassDiagnosis]) -> str:
    """Normalised AP in percent with its standard error, by class and size."""
    means = []
    for place in range(len(SIZES)):
        values = [d.size[place].average_precision for d in diagnoses]
        known = [value for value in values if not math.isnan(value)]
        means.append(mean(known) if known else math.nan)
    rows = [[d.name, *(with_error(g.average_precision, g.error) for g in d.size)] for d in diagnoses]
    return table(["AP_N % by object size", *SIZES], rows, ["mean", *map(percent, means)])


def with_error(value: float, error: float) -> str:
    """A share in percent with its standard error; a dash if there is none."""
    return percent(value) if math.isnan(value) else f"{percent(value)} ± {percent(error)}"


def diagnosis_table(diagnoses: Sequence[ClassDiagnosis]) -> str:
    """False positives by kind, with what each kind costs, and how much depends on objects' size and shape."""
    kinds = table(
        ["class", "objects", "missed", "correct", *KINDS],
        [
            [d.name, str(d.objects), str(d.missed), *(str(d.first_objects[kind]) for kind in ("correct", *KINDS))]
            for d in diagnoses
        ],
    )
    without = table(
        ["AP_N % of all, without a kind", "all", "loc", "sim", "oth, bg"],
        [
            [
                d.name,
                with_error(*d.normalized),
                *(percent(d.without.get(kind, math.nan)) for kind in ("loc", "sim", "bg")),
            ]
            for d in diagnoses
        ],
    )
    summary = impact(diagnoses)
    sensitivity = table(
        ["AP_N % of groups, mean over classes", "worst", "all", "best"],
        [
            [name, percent(summary[name]["least"]), percent(summary["all"]["AP_N"]), percent(summary[name]["greatest"])]
            for name in ("size", "aspect")
        ],
    )
    return f"{kinds}\n{without}\n{sensitivity}"


def coco_table(score: CocoScore) -> str:
    """COCO's twelve numbers, then AP by class."""
    measures = table(["measure", "%"], [[name, percent(value)] for name, value in score.measures.items()])
    classes = table(
        ["class", "AP 0.50 %", "AP %"],
        [[name, percent(half), percent(ap)] for name, (ap, half) in score.classes.items()],
    )
    return f"{measures}\n{classes}"


def plot_curves(scores: Sequence[ClassScore], folder: str | Path) -> list[Path]:
    """Draws precision over recall: one picture per class, and one with all classes. Returns their paths."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    groups = [([score], f"precision_recall_{score.name}.png") for score in scores]
    groups.append((list(scores), "precision_recall.png"))
    paths = []
    for group, name in groups:
        # fixed margins: a layout engine would draw every picture twice
        figure, axes = plt.subplots(
            figsize=(6, 5), gridspec_kw={"left": 0.1, "right": 0.98, "bottom": 0.1, "top": 0.98}
        )
        for score in group:
            axes.plot(score.recall, score.precision, label=f"{score.name} (AP {percent(score.average_precision)} %)")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", ncols=1 + len(group) // 11)
        with replacing(folder / name) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
        plt.close(figure)
        paths.append(folder / name)
    return paths
