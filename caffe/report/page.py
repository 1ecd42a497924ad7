"""The page: everything that the templates show, and the finished HTML."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import cv2
from markupsafe import Markup
from matplotlib.figure import Figure

from caffe.detection import cases, figures, sheets, tide, voc
from caffe.detection.box_drawing import Image
from caffe.detection.image_folder import Images
from caffe.report import checks
from caffe.report.analysis import Analysis
from caffe.report.charts import COLORS, reach_figure, training_figure
from caffe.report.runs import Curves, Run, interval
from caffe.web_page.environment import data_url, environment

#: the largest page, in bytes, and what all pictures in it may take together
LIMIT, _PICTURES = 15_000_000, 8_000_000
#: cases on a sheet, and images side by side
_CASES, _IMAGES = 12, 6
#: runs of one model whose mAPs differ by more than this are named
SPREAD = 0.1
#: detections of this score and over are drawn
_DRAWN = 0.6


@dataclass
class Model:
    """A model: its runs (several seeds), and the analysis of each that has results."""

    name: str
    runs: list[Run]
    analyses: list[Analysis]
    color: str = ""

    @cached_property
    def shown(self) -> Analysis | None:
        """The run with the median mAP, on which all details are."""
        ranked = sorted(self.analyses, key=lambda analysis: analysis.mean_ap)
        return ranked[(len(ranked) - 1) // 2] if ranked else None

    @property
    def mean_ap(self) -> float | None:
        """mAP, the mean over the runs."""
        scores = [analysis.mean_ap for analysis in self.analyses]
        return sum(scores) / len(scores) if scores else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Mean and half the width of the 95 % interval over seeds."""
        return interval([analysis.mean_ap for analysis in self.analyses])

    @cached_property
    def small_objects(self) -> tuple[float, float] | None:
        """AP_N of extra-small and of small objects, the means over classes and runs; None without such objects."""
        means = []
        for place in (0, 1):
            groups = [each.size[place] for analysis in self.analyses for each in analysis.diagnoses.values()]
            values = [found.average_precision for found in groups if found.objects]
            if not values:
                return None
            means.append(sum(values) / len(values))
        return means[0], means[1]

    @property
    def curves(self) -> list[Curves]:
        return [run.curves for run in self.runs if run.curves is not None]


@dataclass
class Inputs:
    """What a page is made of. `images`: the data set's; `speed`: the JSON of scripts/speed.sh."""

    title: str
    models: list[Model]
    truth: voc.GroundTruth | None = None
    images: Images | None = None
    train_list: Path | None = None
    speed: Mapping[str, Any] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


def render(inputs: Inputs) -> str:
    """Returns the page. Everything that comes from files is escaped."""
    for model, color in zip(inputs.models, COLORS * len(inputs.models), strict=False):
        model.color = color
    scored = {model.name: model.shown for model in inputs.models if model.shown is not None}
    made = environment("caffe.report")
    made.filters.update(percent=percent, duration=duration)
    return made.get_template("report.html.j2").render(
        title=inputs.title,
        inputs=inputs,
        models=inputs.models,
        scored=scored,
        warnings=_warnings(inputs),
        verdict=_verdict([model for model in inputs.models if model.analyses]),
        figures=_figures(inputs, scored),
        sheets=_sheets(inputs, scored),
        classes=_class_rows(inputs, scored),
        coco=_coco_tables(scored),
        thresholds={name: _thresholds(analysis) for name, analysis in scored.items()},
        kinds=tide.DESCRIPTIONS,
        drawn=_DRAWN,
    )


def percent(value: float | None, digits: int = 1) -> str:
    """A share in percent; an en dash for none."""
    return "–" if value is None or math.isnan(value) or value < 0 else f"{100 * value:.{digits}f}"


def duration(seconds: float) -> str:
    """Seconds in words."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


# ---- parts


def _verdict(models: Sequence[Model]) -> str:
    """Which of several scored models has the highest mAP, by how much, and whether seeds confirm it.

    Empty for a single one, and for models with different classes, whose mAPs cannot be compared.
    """
    ranked = sorted(models, key=lambda model: -(model.mean_ap or 0.0))
    if len(ranked) < 2 or _have_different_classes(models):
        return ""
    first, second = ranked[:2]
    lead = 100 * ((first.mean_ap or 0.0) - (second.mean_ap or 0.0))
    if lead < 0.05:
        return f"{first.name} and {second.name} have the same mAP."
    text = f"{first.name} has the highest mAP, {lead:.1f} points above {second.name}"
    if first.interval is None or second.interval is None:
        return f"{text}. With one run of a model, it is not known whether another seed would say the same."
    apart = first.interval[0] - first.interval[1] > second.interval[0] + second.interval[1]
    return f"{text}. Their intervals over seeds {'do not overlap' if apart else 'overlap: it may be chance'}."


def _warnings(inputs: Inputs) -> list[tuple[str, str]]:
    """Pairs of a model's name (empty: the data set) and a warning."""
    found: list[tuple[str, str]] = []
    truth, images = inputs.truth, inputs.images
    sizes = checks.image_sizes(images, truth.images) if images is not None and truth is not None else {}
    if truth is not None and images is not None and inputs.train_list is not None:
        found += [("", text) for text in checks.shared_images(images, truth.images, inputs.train_list)]
    for model in inputs.models:
        for run in model.runs:
            if run.unfinished:
                found.append((model.name, f"The training in {run.folder} is unfinished: {run.unfinished}."))
        seeds = [run.seed for run in model.runs if run.seed is not None]
        if len(set(seeds)) < len(seeds):
            found.append((model.name, "Several runs have the same seed, so the interval may be too narrow."))
        analysis = model.shown
        if analysis is None:
            found.append((model.name, "There are no result files yet, so nothing is scored."))
            continue
        found += [(model.name, text) for text in checks.silent_classes(analysis.truth, analysis.found)]
        found += [(model.name, text) for text in checks.constant_boxes(analysis.truth, analysis.found, sizes)]
        found += _run_warnings(model, sizes)
        strangers = [name for name in analysis.found if not analysis.truth.count(name)]
        if strangers:
            names = ", ".join(strangers[:8])
            found.append((model.name, f"No test image has an object of: {names}. The AP of such a class counts as 0."))
    if _have_different_classes(inputs.models):
        found.append(("", "The models have different classes, so their mAPs are means over different classes."))
    return found


def _have_different_classes(models: Sequence[Model]) -> bool:
    return len({frozenset(model.shown.found) for model in models if model.shown is not None}) > 1


def _run_warnings(model: Model, sizes: checks.Sizes) -> list[tuple[str, str]]:
    """Warnings about each run by itself, not only the one that is shown, and about runs that differ too much."""
    found = []
    for each in model.analyses:
        texts = [*checks.other_images(each.truth, each.found), *checks.outside(each.found, sizes)]
        texts += checks.unended_files(each.run.results.values())
        if each.run.name_sizes is not None:
            texts += checks.listed_sizes(each.run.name_sizes, sizes)
        if each.mean_ap == 0:
            texts.append("Every class has an AP of 0.")
        who = model.name if len(model.analyses) == 1 else f"{model.name}, {each.run.folder}"
        found += [(who, text) for text in texts]
    scores = [each.mean_ap for each in model.analyses]
    if len(scores) > 1 and max(scores) - min(scores) > SPREAD:
        found.append(
            (
                model.name,
                f"The runs differ by {100 * (max(scores) - min(scores)):.0f} points. Was one interrupted, or scored on other "
                "data?",
            )
        )
    return found


def _figures(inputs: Inputs, scored: Mapping[str, Analysis]) -> dict[str, Markup]:
    """SVG by name; what cannot be drawn is absent."""
    result: dict[str, Any] = {"training": training_figure({m.name: m.curves for m in inputs.models})}
    # Models without it stay in, so that each has its own color.
    result["reach"] = reach_figure({m.name: m.runs[0].boxes or {} for m in inputs.models})
    if scored:
        diagnoses = {name: list(analysis.diagnoses.values()) for name, analysis in scored.items()}
        diagnoses = {name: each for name, each in diagnoses.items() if each}
        if diagnoses:
            result["size"] = figures.size_figure(diagnoses, across=2)
            result["kinds"] = figures.kinds_figure(diagnoses, across=2)
            result["sensitivity"] = figures.sensitivity_figure(diagnoses)
        result["tide"] = figures.tide_figure({name: analysis.tide for name, analysis in scored.items()})
        for name, analysis in scored.items():
            result[f"curves {name}"] = figures.curve_figure(list(analysis.scores.values()))
            result[f"confusion {name}"] = figures.confusion_figure(analysis.confusion)
    return {name: _inlined(figure) for name, figure in result.items() if figure is not None}


def _inlined(figure: Figure) -> Markup:
    """A figure as SVG, as wide as its text is readable: on a phone a wide one is scrolled."""
    # Safe: matplotlib escapes the text of a figure, and draws it as paths.
    points = figure.get_size_inches()[0] * 72
    style = f"min-width: {0.8 * points:.0f}px; max-width: {1.6 * points:.0f}px"
    return Markup('<div style="{}">{}</div>').format(style, Markup(figures.svg(figure)))


def _class_rows(inputs: Inputs, scored: Mapping[str, Analysis]) -> list[dict[str, Any]]:
    """AP of each class in each model, with the number of objects; None where a model has no such class."""
    names = sorted({name for analysis in scored.values() for name in analysis.scores})
    assert inputs.truth is not None or not names
    rows = []
    for name in names:
        values = [
            analysis.scores[name].average_precision if name in analysis.scores else None for analysis in scored.values()
        ]
        best = max((value for value in values if value is not None), default=None)
        objects = inputs.truth.count(name) if inputs.truth is not None else 0
        rows.append({"name": name, "objects": objects, "values": values, "best": best})
    return rows


def _coco_tables(scored: Mapping[str, Analysis]) -> dict[str, list[tuple[str, list[float]]]]:
    """Rows of COCO's measures: by the name of the groups, each measure's values by model."""
    tables: dict[str, list[tuple[str, list[float]]]] = {}
    for analysis in scored.values():
        for groups, score in analysis.coco.items():
            rows = tables.setdefault(groups, [(name, []) for name in score.measures])
            for (_, values), value in zip(rows, score.measures.values(), strict=True):
                values.append(value)
    return tables


def _thresholds(analysis: Analysis) -> dict[str, Any]:
    """The best operating point by class, and the same as JSON to be copied."""
    points = analysis.operating
    # Rounded down, for a score that is equal to the threshold counts.
    text = json.dumps(
        {name: math.floor(p.score * 1e4) / 1e4 for name, p in points.items()}, indent=1, ensure_ascii=False
    )
    return {"points": points, "json": text}


# ---- pictures


def _sheets(inputs: Inputs, scored: Mapping[str, Analysis]) -> dict[str, str]:
    """Image sheets as data URLs, by name."""
    images, truth = inputs.images, inputs.truth
    if images is None or truth is None or not scored:
        return {}
    found = {name: analysis.found for name, analysis in scored.items()}
    make: dict[str, Callable[[], Image]] = {}
    if len(found) > 1:
        names = cases.differing_images(truth, found, _IMAGES)
        if names:
            make["side by side"] = lambda: sheets.side_by_side(images, names, truth, found, score=_DRAWN)
    for name, analysis in scored.items():
        false = cases.false_detections(truth, analysis.found, similar=analysis.similar, score=_DRAWN, limit=_CASES)
        missed = cases.missed_objects(truth, analysis.found, score=_DRAWN, limit=_CASES)
        best, worst = cases.best_and_worst(analysis.images, _IMAGES)
        if false:
            make[f"false {name}"] = partial(sheets.false_sheet, images, false)
        if missed:
            make[f"missed {name}"] = partial(sheets.missed_sheet, images, missed)
        for what, chosen in (("worst", worst), ("best", best)):
            if chosen:
                make[f"{what} {name}"] = partial(
                    sheets.image_sheet, images, chosen, truth, analysis.found, score=_DRAWN
                )
    room = _PICTURES // max(len(make), 1)
    return {name: _fitted(draw(), room) for name, draw in make.items()}


def _fitted(image: Image, room: int) -> str:
    """A picture as a data URL of at most `room` bytes, smaller or of less quality if need be."""
    scale = 1.0
    while True:
        small: Any = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
        for quality in (80, 65, 50):
            url = data_url(small, quality)
            if len(url) <= room:
                return url
        if min(small.shape[:2]) < 64:
            return url
        scale *= 0.75


def group(runs: Sequence[Run], analyses: Mapping[int, Analysis]) -> list[Model]:
    """Models from runs, those of the same name together, in order. `analyses`: by the run's place."""
    models: dict[str, Model] = {}
    for place, run in enumerate(runs):
        model = models.setdefault(run.name, Model(run.name, [], []))
        model.runs.append(run)
        if place in analyses:
            model.analyses.append(analyses[place])
    return list(models.values())
