"""`score_voc`: mAP of VOC result files, as the VOC development kit computes it, and what the errors are."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from caffe.cli import voc_flags
from caffe.cli.flags import FlagParser, boolean, number, run
from caffe.detection import confusion, hoiem, report, tide, voc
from caffe.detection.average_precision import mean
from caffe.errors import counted
from caffe.files import check_target, write_text

_EPILOG = f"""\
{voc_flags.EPILOG}
    score_voc results/VOC2007/SSD_300x300/Main --voc ~/data/VOCdevkit/VOC2007 --set test
    score_voc results --annotations BCCD/Annotations --list BCCD/ImageSets/Main/test.txt --area

Several directories are compared:

    score_voc results/SSD300 results/MDSSD300 --voc ~/data/VOCdevkit/VOC2007 --diagnose --out score

--sizes and --diagnose are the analysis of Hoiem et al. (ECCV 2012), for classes with ten objects or more. --diagnose
adds the errors of TIDE (Bolya et al., ECCV 2020) and, with --out, plots. docs/evaluation.md explains all of them.
"""


@dataclass(frozen=True)
class _Scored:
    """What is known about one model; diagnoses and tide only as far as the flags ask for them."""

    scores: list[voc.ClassScore]
    diagnoses: dict[str, hoiem.ClassDiagnosis]
    tide: tide.TideResult | None
    matrix: confusion.ConfusionMatrix | None


def main(argv: Sequence[str] | None = None) -> int:
    return run("score_voc", _main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = FlagParser(prog="score_voc", description="Scores VOC result files: AP by class and mAP.", epilog=_EPILOG)
    voc_flags.add(parser)
    parser.flag("area", type=boolean, default=False, help="AP as the area under the curve (VOC 2010 on), not 11 points")
    parser.flag("sizes", type=boolean, default=False, help="also AP_N by object size, XS to XL (MDSSD, Table IV)")
    parser.flag(
        "diagnose", type=boolean, default=False,
        help="also kinds of errors and what they cost; with --out, all values in JSON, and plots",
    )  # fmt: skip
    parser.flag(
        "objects_per_image", type=float, default=hoiem.OBJECTS_PER_IMAGE,
        help="with --sizes and --diagnose: number of objects that precision is normalized to, per image",
    )  # fmt: skip
    parser.flag(
        "confusion_score", type=number(float, 0, 1), default=0.5, help="score from which the confusion matrix counts"
    )
    parser.flag("out", help="directory for score.txt, score.json and precision-recall curves")
    flags = parser.parse_args(argv)
    voc_flags.check(parser, flags)
    if flags.similar and not flags.diagnose:
        parser.error("--similar needs --diagnose")
    if not 0 < flags.objects_per_image < math.inf:
        parser.error(f"--objects_per_image must be a positive number, not {flags.objects_per_image}")

    if flags.out:
        check_target(Path(flags.out) / "score.txt")
    compared = voc_flags.read(flags)
    similar = voc_flags.similar(flags, compared)
    scored = {model: _score(compared.truth, found, similar, flags) for model, found in compared.models.items()}
    texts = {model: _text(result, diagnose=flags.diagnose) for model, result in scored.items()}
    print(f"{counted(len(compared.truth.images), 'image')}, {'area under the curve' if flags.area else '11-point'} AP")
    for model, text in texts.items():
        print(f"\n{f'{model}:{chr(10)}{chr(10)}' if len(texts) > 1 else ''}{text}", end="")
    comparison = _comparison(scored) if len(scored) > 1 else ""
    if comparison:
        print(f"\n{comparison}", end="")
    for note in _notes(compared, scored, analyzed=flags.sizes or flags.diagnose):
        print(f"\n{note}")
    if flags.out:
        written = _write(Path(flags.out), texts, comparison, scored, full=flags.diagnose)
        print(f"\nWritten to {flags.out}: {', '.join(written)}")


def _score(
    truth: voc.GroundTruth, found: Mapping[str, voc.Detections], similar: hoiem.SimilarClasses | None, flags: Any
) -> _Scored:
    """Scores one model."""
    scores = [
        voc.score_class(name, detections, truth, eleven_points=not flags.area, threshold=flags.overlap)
        for name, detections in tqdm(found.items(), desc="scoring", unit="class", disable=None, leave=False)
    ]
    diagnoses: dict[str, hoiem.ClassDiagnosis] = {}
    if flags.sizes or flags.diagnose:
        diagnoses = hoiem.diagnose(
            truth, found, similar=similar, objects_per_image=flags.objects_per_image, threshold=flags.overlap
        )
    if not flags.diagnose:
        return _Scored(scores, diagnoses, None, None)
    errors = tide.tide(truth, found, threshold=flags.overlap, background=min(0.1, flags.overlap))
    matrix = confusion.confusion_matrix(truth, found, score=flags.confusion_score, overlap=flags.overlap)
    return _Scored(scores, diagnoses, errors, matrix)


def _text(result: _Scored, *, diagnose: bool) -> str:
    """The tables of one model."""
    text = report.voc_table(result.scores)
    diagnoses = list(result.diagnoses.values())
    if diagnoses:
        text += "\n" + report.size_table(diagnoses)
    if diagnose and diagnoses:
        text += "\n" + report.diagnosis_table(diagnoses)
    if result.tide is not None:
        text += "\n" + report.tide_table({"": result.tide})
    return text


def _comparison(scored: Mapping[str, _Scored]) -> str:
    """The tables with a column or a row per model."""
    text = report.comparison_table({model: result.scores for model, result in scored.items()})
    diagnoses = {model: list(result.diagnoses.values()) for model, result in scored.items() if result.diagnoses}
    if diagnoses:
        text += "\n" + report.mean_size_table(diagnoses)
    errors = {model: result.tide for model, result in scored.items() if result.tide is not None}
    if errors:
        text += "\n" + report.tide_table(errors)
    return text


def _notes(compared: voc_flags.Compared, scored: Mapping[str, _Scored], *, analyzed: bool) -> list[str]:
    """What a reader of the tables has to know."""
    notes = [f"The ground truth has no '{name}': its AP counts as 0." for name in compared.strangers]
    for model, result in scored.items():
        if not any(s.detections for s in result.scores):
            notes.append(
                f"'{model}' has result files, but no detection in them: is confidence_threshold too high, or has the net "
                "not learned yet?"
            )
    first = next(iter(scored.values()))
    few = [s.name for s in first.scores if s.name not in first.diagnoses and s.name not in compared.strangers]
    if few and analyzed:
        notes.append(f"Not analyzed by size (fewer than {hoiem.LEAST_OBJECTS} objects): {', '.join(few)}.")
    return notes


# ---- files


def _write(
    folder: Path, texts: Mapping[str, str], comparison: str, scored: Mapping[str, _Scored], *, full: bool
) -> list[str]:
    """Writes the files of --out, those of one of several models in a directory of its own. Returns what was written.

    full: also those of --diagnose.
    """
    written: list[str] = []
    for model, result in scored.items():
        own = folder if len(scored) == 1 else folder / voc_flags.file_stem(model)
        contents = {"score.txt": texts[model], "score.json": _json(_values(result))}
        if full and result.tide is not None and result.matrix is not None:
            analysis = {name: hoiem.as_json(diagnosis) for name, diagnosis in result.diagnoses.items()}
            contents["diagnosis.json"] = _json(analysis)
            contents["tide.json"] = _json(tide.as_json(result.tide))
            contents["confusion.json"] = _json(confusion.as_json(result.matrix))
        for name, content in contents.items():
            write_text(own / name, content)
        plots = _plot_model(own, model, result)
        written += [*contents, "precision_recall*.png", *plots]
    if len(scored) > 1:
        written = [f"{voc_flags.file_stem(model)}/" for model in scored]
        write_text(folder / "comparison.txt", comparison)
        written.append("comparison.txt")
    if full:
        written += _plot_models(folder, scored)
    return written


def _json(values: Any) -> str:
    return json.dumps(values, indent=1) + "\n"


def _values(result: _Scored) -> dict[str, Any]:
    """The contents of score.json."""
    return {
        "mAP": mean([s.average_precision for s in result.scores]),
        "AP": {s.name: s.average_precision for s in result.scores},
        "AP_N by size": {
            name: {
                size: None if math.isnan(group.average_precision) else group.average_precision
                for size, group in zip(hoiem.SIZES, diagnosis.size, strict=True)
            }
            for name, diagnosis in result.diagnoses.items()
        },
    }


def _plot_model(folder: Path, model: str, result: _Scored) -> list[str]:
    """Draws the plots of one model and returns their names, except those of the curves."""
    from caffe.detection import figures

    figures.save(figures.curve_figure(result.scores), folder, "precision_recall", ("png",))
    for score in result.scores:
        figures.save(figures.curve_figure([score]), folder, f"precision_recall_{score.name}", ("png",))
    names: list[str] = []
    if result.matrix is not None and result.diagnoses:
        plot = figures.class_kinds_figure(list(result.diagnoses.values()), model)
        names += figures.save(plot, folder, "false_positives_by_class")
    if result.matrix is not None:
        names += figures.save(figures.confusion_figure(result.matrix, model), folder, "confusion")
    return names


def _plot_models(folder: Path, scored: Mapping[str, _Scored]) -> list[str]:
    """Draws the plots with a column or a color per model and returns their names."""
    from caffe.detection import figures

    names: list[str] = []
    diagnoses = {model: list(result.diagnoses.values()) for model, result in scored.items()}
    if any(diagnoses.values()):
        names += figures.save(figures.size_figure(diagnoses), folder, "sizes")
        names += figures.save(figures.aspect_figure(diagnoses), folder, "aspects")
        names += figures.save(figures.kinds_figure(diagnoses), folder, "false_positives")
        names += figures.save(figures.sensitivity_figure(diagnoses), folder, "sensitivity")
    errors = {model: result.tide for model, result in scored.items() if result.tide is not None}
    names += figures.save(figures.tide_figure(errors), folder, "tide")
    return names


if __name__ == "__main__":
    raise SystemExit(main())
