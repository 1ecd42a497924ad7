"""Scores as people read them: tables in plain text, precision-recall curves as pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from caffe.detection.average_precision import mean
from caffe.detection.coco import CocoScore
from caffe.detection.size_classes import SIZES
from caffe.detection.voc import ClassScore
from caffe.files import replacing


def table(head: Sequence[str], rows: Sequence[Sequence[str]], total: Sequence[str] | None = None) -> str:
    """Columns aligned, the first to the left and the others to the right, under a line; `total` under another."""
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
    """A share in percent with one decimal; a dash where there is none."""
    return "-" if math.isnan(value) or value < 0 else f"{100 * value:.1f}"


def voc_table(scores: Sequence[ClassScore]) -> str:
    """AP in percent by class, with how much there was to find and was found, and mAP."""
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


def size_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Normalised AP in percent by class and size."""
    means = []
    for size in SIZES:
        known = [s[size] for s in scores.values() if not math.isnan(s[size])]
        means.append(mean(known) if known else math.nan)
    rows = [[name, *(percent(by_size[size]) for size in SIZES)] for name, by_size in scores.items()]
    return table(["AP_N % by object size", *SIZES], rows, ["mean", *map(percent, means)])


def coco_table(score: CocoScore) -> str:
    """COCO's twelve numbers, then AP by class."""
    measures = table(["measure", "%"], [[name, percent(value)] for name, value in score.measures.items()])
    classes = table(
        ["class", "AP 0.50 %", "AP %"],
        [[name, percent(half), percent(ap)] for name, (ap, half) in score.classes.items()],
    )
    return f"{measures}\n{classes}"


def plot_curves(scores: Sequence[ClassScore], folder: str | Path) -> list[Path]:
    """Draws precision over recall: a picture a class, and one with all. Returns their paths."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    groups = [([score], f"precision_recall_{score.name}.png") for score in scores]
    groups.append((list(scores), "precision_recall.png"))
    paths = []
    for group, name in groups:
        figure, axes = plt.subplots(figsize=(6, 5), layout="constrained")
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
