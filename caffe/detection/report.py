"""Scores for people to read: tables in plain text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from caffe.detection import tide
from caffe.detection.average_precision import mean
from caffe.detection.coco import CocoScore
from caffe.detection.hoiem import SIZES, ClassDiagnosis, impact
from caffe.detection.hoiem.false_positives import KINDS
from caffe.detection.voc import ClassScore


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
    """Normalized AP in percent with its standard error, by class and size."""
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


def mean_size_table(models: Mapping[str, Sequence[ClassDiagnosis]]) -> str:
    """AP_N in percent by size, as means over classes, one row per model (MDSSD, Table IV)."""
    rows = []
    for model, diagnoses in models.items():
        groups = [[d.size[i].average_precision for d in diagnoses if d.size[i].objects] for i in range(len(SIZES))]
        everything = mean([d.normalized.average_precision for d in diagnoses])
        rows.append([model, *(percent(mean(g) if g else math.nan) for g in groups), percent(everything)])
    return table(["mean AP_N %", *SIZES, "all"], rows)


def comparison_table(models: Mapping[str, Sequence[ClassScore]]) -> str:
    """AP in percent by class, one column per model, all with the same classes."""
    columns = list(models.values())
    rows = [
        [of_class[0].name, *(percent(s.average_precision) for s in of_class)] for of_class in zip(*columns, strict=True)
    ]
    total = ["mean", *(percent(mean([s.average_precision for s in scores])) for scores in columns)]
    return table(["AP %", *models], rows, total)


def tide_table(models: Mapping[str, tide.TideResult]) -> str:
    """TIDE's AP and dAP in percent, one row per model; the numbers of errors too for a single one."""
    head = ["TIDE, dAP %", *tide.KINDS, "all false", "all missed", "AP %"]
    rows = [
        [
            model or "dAP",
            *(percent(result.errors[kind].delta) for kind in tide.KINDS),
            *(f"{100 * value:.1f}" for value in (result.false_positives, result.false_negatives)),
            percent(result.average_precision),
        ]
        for model, result in models.items()
    ]
    if len(models) == 1:
        (result,) = models.values()
        rows.append(["errors", *(str(result.errors[kind].count) for kind in tide.KINDS), "", "", ""])
    return table(head, rows)


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


def coco_table(models: Mapping[str, CocoScore]) -> str:
    """COCO's measures with a column per model; AP by class; and for a single model, all measures by class."""
    scores = list(models.values())
    heads = list(models) if len(models) > 1 else ["%"]
    measures = table(
        ["measure", *heads], [[name, *(percent(s.measures[name]) for s in scores)] for name in scores[0].measures]
    )
    if len(models) == 1:
        names = list(scores[0].measures)
        rows = [[c, *(percent(values[n]) for n in names)] for c, values in scores[0].class_measures.items()]
        return f"{measures}\n{table(['class', *names], rows)}"
    rows = [[c, *(percent(s.class_measures[c]["AP"]) for s in scores)] for c in scores[0].class_measures]
    return f"{measures}\n{table(['AP by class', *heads], rows)}"
