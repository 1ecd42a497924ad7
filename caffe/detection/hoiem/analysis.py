"""The analysis of a class: scores by size and aspect ratio, missed objects, false positives and their impact."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe.detection.hoiem.false_positives import FalsePositives
from caffe.detection.hoiem.groups import SIZES, areas, aspect_ratios, group_of
from caffe.detection.hoiem.labeling import label
from caffe.detection.hoiem.matching import ObjectTable
from caffe.detection.hoiem.precision import Score, interpolated_precision, score
from caffe.detection.hoiem.similar_classes import SimilarClasses
from caffe.detection.voc import Detections, GroundTruth

#: N of normalized precision, per image of the test set: about the number of objects of a VOC class
OBJECTS_PER_IMAGE = 0.15
#: classes with fewer objects are too small to be divided into groups
LEAST_OBJECTS = 10
#: groups with fewer objects are left out of `impact`
LEAST_IN_GROUP = 5
#: an object is missed if it is not found before normalized precision falls below this
_LEAST_PRECISION = 0.05
#: kinds are counted up to this false positive
_FIRST = 100

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class GroupScore:
    """The score of a group of objects: their number, AP_N and its standard error, which are NaN without objects."""

    objects: int
    average_precision: float
    error: float


@dataclass(frozen=True)
class ClassDiagnosis:
    """The analysis of one class. Difficult objects are not counted. Groups are in the order of `SIZES`.

    plain, normalized: AP and AP_N with standard errors. size, aspect: the scores of the groups by area and by aspect
    ratio. missed, missed_by_size: numbers of objects that are not found. first_100: the number of each kind of false
    positive among the detections up to the 100th false positive; None if there are fewer. first_objects: the same among
    as many detections as there are objects, and the number of `correct` ones. without: AP_N if the false positives of a
    kind ranked last, where `bg` includes `oth`, and `sim` is absent for a class without similar classes.
    false_positives: the kind of each detection, best score first.
    """

    name: str
    objects: int
    plain: Score
    normalized: Score
    size: tuple[GroupScore, ...]
    aspect: tuple[GroupScore, ...]
    missed: int
    missed_by_size: tuple[int, ...]
    first_100: dict[str, int] | None
    first_objects: dict[str, int]
    without: dict[str, float]
    false_positives: FalsePositives


def diagnose(
    truth: GroundTruth, detections: Mapping[str, Detections], *, similar: SimilarClasses | None = None,
    objects_per_image: float = OBJECTS_PER_IMAGE, threshold: float = 0.5, least_objects: int = LEAST_OBJECTS,
) -> dict[str, ClassDiagnosis]:  # fmt: skip
    """Analyses each class of `detections` with `least_objects` objects or more.

    similar: sets of similar classes (default: VOC's sets if all classes are VOC's). objects_per_image: N divided by the
    number of images. threshold: the overlap at which an object counts as found. Returns the analysis of each class by
    name. Raises DataError for detections in images that the ground truth does not have, and for values that are not
    finite.
    """
    if similar is None:
        similar = SimilarClasses.for_classes({*truth.classes, *detections})
    objects = ObjectTable.of(truth)
    normalize_to = objects_per_image * len(truth.images)
    return {
        name: _diagnose_class(name, found, truth, objects, similar, normalize_to, threshold)
        for name, found in detections.items()
        if truth.count(name) >= max(least_objects, 1)
    }  # fmt: skip


def _diagnose_class(
    name: str, found: Detections, truth: GroundTruth, objects: ObjectTable, similar: SimilarClasses,
    normalize_to: float, threshold: float,
) -> ClassDiagnosis:  # fmt: skip
    labeled = label(name, found, truth, objects, similar, threshold)
    true, false, kinds = labeled.true, labeled.false, labeled.kinds

    # Objects to find are numbered from 0; `place` maps the numbers of the table to these.
    wanted = np.flatnonzero((objects.classes == labeled.own) & ~objects.difficult)
    place = np.full(len(objects.classes), -1, np.int64)
    place[wanted] = np.arange(len(wanted))
    found_place = np.where(true, place[labeled.matching.found], -1)

    total = len(wanted)
    sizes = group_of(areas(objects.boxes[wanted]))
    missed = np.ones(total, bool)
    in_time = true & (interpolated_precision(true, false, total, normalize_to) >= _LEAST_PRECISION)
    missed[found_place[in_time]] = False

    hundredth = np.flatnonzero(false)[_FIRST - 1 : _FIRST]

    def without(kind: Mask) -> float:
        return score(true, false & ~kind, total, normalize_to).average_precision

    return ClassDiagnosis(
        name=name,
        objects=total,
        plain=score(true, false, total),
        normalized=score(true, false, total, normalize_to),
        size=_by_group(sizes, found_place, false, normalize_to),
        aspect=_by_group(group_of(aspect_ratios(objects.boxes[wanted])), found_place, false, normalize_to),
        missed=int(missed.sum()),
        missed_by_size=tuple(np.bincount(sizes[missed], minlength=len(SIZES)).tolist()),
        first_100=kinds.counts(int(hundredth[0]) + 1) if len(hundredth) else None,
        first_objects={"correct": int((~false[:total]).sum()), **kinds.counts(total)},
        without={
            "loc": without(kinds.loc),
            "bg": without(false & ~kinds.loc & ~kinds.near_similar),
            **({"sim": without(kinds.near_similar)} if similar.to(name) else {}),
        },
        false_positives=kinds,
    )


def _by_group(
    groups: NDArray[np.int64], found_place: NDArray[np.int64], false: Mask, normalize_to: float
) -> tuple[GroupScore, ...]:
    """Returns AP_N of each group. True positives of other groups are ignored; all false positives count.

    groups, [n]: the group of each object. found_place, [k]: the object that each detection found, or -1. false, [k]:
    which detections are false positives.
    """
    group_found = np.where(found_place >= 0, groups[found_place], -1)
    result = []
    for group in range(len(SIZES)):
        total = int((groups == group).sum())
        result.append(GroupScore(total, *score(group_found == group, false, total, normalize_to)))
    return tuple(result)


def impact(diagnoses: Sequence[ClassDiagnosis]) -> dict[str, dict[str, float]]:
    """How much AP_N depends on size and aspect ratio (the summary in Figure 6), as means over classes.

    Returns `all` with the mean AP_N, and `size` and `aspect` with the mean AP_N of the best groups (`greatest`) and of
    the worst ones (`least`). Only groups of at least five objects count.
    """

    def mean(values: list[float]) -> float:
        return float(np.mean(values)) if values else math.nan

    result = {"all": {"AP_N": mean([d.normalized.average_precision for d in diagnoses])}}
    for name in ("size", "aspect"):
        groups = [[g.average_precision for g in getattr(d, name) if g.objects >= LEAST_IN_GROUP] for d in diagnoses]
        result[name] = {
            "greatest": mean([max(values) for values in groups if values]),
            "least": mean([min(values) for values in groups if values]),
        }
    return result


def as_json(diagnosis: ClassDiagnosis) -> dict[str, Any]:
    """Returns the entry of a class in `diagnosis.json`, with None in place of NaN."""

    def number(value: float) -> float | None:
        return None if math.isnan(value) else value

    def groups(scores: Sequence[GroupScore]) -> list[dict[str, Any]]:
        return [{"objects": g.objects, "AP_N": number(g.average_precision), "error": number(g.error)} for g in scores]

    first_100 = {"first_100": diagnosis.first_100} if diagnosis.first_100 is not None else {}
    return {
        "objects": diagnosis.objects,
        "AP": diagnosis.plain.average_precision,
        "AP_N": diagnosis.normalized.average_precision,
        "AP_N_error": diagnosis.normalized.error,
        "size": groups(diagnosis.size),
        "aspect": groups(diagnosis.aspect),
        "missed": diagnosis.missed,
        "missed_by_size": list(diagnosis.missed_by_size),
        "false_positives": {**first_100, "first_objects": diagnosis.first_objects},
        "AP_N_without": diagnosis.without,
    }
