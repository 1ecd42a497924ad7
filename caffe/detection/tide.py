"""TIDE: which kinds of errors a detector makes, and what each costs (Bolya et al., "TIDE: A General Toolbox for
Identifying Object Detection Errors", ECCV 2020).

Every detection that is not correct has one kind of error, and objects that no other correction would find are missed.
The cost of a kind, dAP, is how much mAP rises if its errors alone are corrected. AP is COCO's, the mean precision at
101 recalls, at one overlap. The numbers equal those of the authors' package, including its order of the tests
(`_label_image`). Difficult objects are what the package calls ignored regions: a detection that lies in one by more
than the overlap does not count, but still has a kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe.detection.average_precision import best_at_or_after
from caffe.detection.detection_table import DetectionTable
from caffe.detection.hoiem import ObjectTable
from caffe.detection.pairs import Doubles, Indices, overlaps_of_pairs
from caffe.detection.voc import Detections, GroundTruth

KINDS = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
#: what the kinds mean, for people to read
DESCRIPTIONS = {
    "Cls": "localized well enough, but of another class",
    "Loc": "of the right class, but localized too poorly",
    "Both": "of another class, and localized too poorly",
    "Dupe": "correct, but a better detection has already found the object",
    "Bkg": "on background",
    "Miss": "an object that neither a correct detection nor a corrected class or location finds",
}
_CLS, _LOC, _BOTH, _DUPE, _BKG = range(5)
_NONE = -1
#: the recalls at which precision is measured
_RECALLS = np.arange(101) / 100

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class TideError:
    """count: the number of errors of a kind. delta: how much AP rises, 0 to 1, without them."""

    count: int
    delta: float


@dataclass(frozen=True)
class TideResult:
    """average_precision: the mean over classes, 0 to 1. errors: by kind, in the order of KINDS.

    false_positives, false_negatives: how much AP rises if all false positives rank last, and if only the objects that
    were found are to be found.
    """

    average_precision: float
    errors: dict[str, TideError]
    false_positives: float
    false_negatives: float


@dataclass(frozen=True)
class _Labeled:
    """What K detections and N objects are.

    true, ignored, [K]. kinds, [K]: the index of the kind of error, or -1 for true positives. target, [K]: for Cls and
    Loc, the object that a corrected detection would find, or -1 if another one finds it. found, missed, [N].
    """

    true: Mask
    ignored: Mask
    kinds: Indices
    target: Indices
    found: Mask
    missed: Mask


def tide(
    truth: GroundTruth, found: Mapping[str, Detections], *, threshold: float = 0.5, background: float = 0.1,
    max_dets: int = 100,
) -> TideResult:  # fmt: skip
    """Computes TIDE's errors for the detections of one model, by class.

    threshold: the overlap at which an object is found. background: detections that overlap no object by more are on
    background. max_dets: only this many detections of an image count, the best ones of all classes. Raises DataError
    for unknown images and for values that are not finite.
    """
    objects = ObjectTable.of(truth)
    table = DetectionTable.of(truth, found, objects, most_per_image=max_dets)
    labeled = _label(table, objects, threshold, background)
    to_find = np.bincount(objects.classes[~objects.difficult], minlength=len(table.names))
    base = _mean_ap(table, table.classes, labeled.true, ~labeled.ignored, to_find)

    errors = {}
    for number, name in enumerate(KINDS):
        if name == "Miss":
            count = int(labeled.missed.sum())
            left = to_find - np.bincount(objects.classes[labeled.missed], minlength=len(table.names))
            fixed = _mean_ap(table, table.classes, labeled.true, ~labeled.ignored, left, behind=labeled.true)
        else:
            wrong = labeled.kinds == number
            count = int(wrong.sum())
            corrected = wrong & (labeled.target >= 0)
            classes = table.classes.copy()
            classes[corrected] = objects.classes[labeled.target[corrected]]
            keep = corrected | (~wrong & ~labeled.ignored)
            fixed = _mean_ap(table, classes, labeled.true | corrected, keep, to_find, behind=labeled.true)
        errors[name] = TideError(count, max(fixed - base, 0.0))

    without_false = _mean_ap(
        table, table.classes, labeled.true, ~labeled.ignored, to_find, scores=labeled.true.astype(float)
    )
    only_found = np.bincount(objects.classes[labeled.found], minlength=len(table.names))
    all_found = _mean_ap(table, table.classes, labeled.true, ~labeled.ignored, only_found, behind=labeled.true)
    return TideResult(base, errors, without_false - base, all_found - base)


def _label(table: DetectionTable, objects: ObjectTable, threshold: float, background: float) -> _Labeled:
    """Labels all detections, image by image."""
    detections, number = len(table.scores), len(objects.boxes)
    labeled = _Labeled(
        np.zeros(detections, bool),
        np.zeros(detections, bool),
        np.full(detections, _NONE, np.int64),
        np.full(detections, -1, np.int64),
        np.zeros(number, bool),
        np.zeros(number, bool),
    )
    for image in range(len(table.begin) - 1):
        rows = slice(int(table.begin[image]), int(table.begin[image + 1]))
        inside = np.arange(objects.begin[image], objects.begin[image + 1])
        _label_image(table, objects, rows, inside, threshold, background, labeled)
    return labeled


def _label_image(
    table: DetectionTable, objects: ObjectTable, rows: slice, inside: Indices, threshold: float, background: float,
    labeled: _Labeled,
) -> None:  # fmt: skip
    """Labels the D detections of an image, a slice of the table, with its objects, G of them not difficult.

    The tests, in this order: Loc if the largest overlap with an object of the class is from `background` to
    `threshold`; Cls if that with an object of another class reaches `threshold`; Dupe if a found object of the class
    is overlapped that much; Bkg if no object is overlapped by more than `background`; else Both.
    """
    normal, difficult = inside[~objects.difficult[inside]], inside[objects.difficult[inside]]
    boxes, classes = table.boxes[rows], table.classes[rows]
    if not len(boxes):
        labeled.missed[normal] = True
        return
    overlaps = overlaps_of_pairs(boxes[:, None], objects.boxes[normal][None])  # D×G
    same = classes[:, None] == objects.classes[normal][None]
    own, other = overlaps * same, overlaps * ~same
    true, used = np.zeros(len(boxes), bool), np.zeros(len(normal), bool)
    free = own.copy()
    for row in np.flatnonzero((own >= threshold).any(axis=1)).tolist():
        best = int(free[row].argmax())
        if free[row, best] >= threshold:
            true[row] = used[best] = True
            free[:, best] = 0
    for number in difficult.tolist():
        of_class = classes == objects.classes[number]
        labeled.ignored[rows] |= ~true & of_class & (_share_inside(boxes, objects.boxes[number]) > threshold)

    kinds = np.full(len(boxes), _BKG, np.int64)
    target = np.full(len(boxes), -1, np.int64)
    if len(normal):
        nearest_own, nearest_other = own.argmax(axis=1), other.argmax(axis=1)
        best_own, best_other = own.max(axis=1), other.max(axis=1)
        loc = (best_own >= background) & (best_own <= threshold)
        cls = ~loc & (best_other >= threshold)
        dupe = ~loc & ~cls & ((own * used).max(axis=1) >= threshold)
        both = ~loc & ~cls & ~dupe & (overlaps.max(axis=1) > background)
        kinds[loc], kinds[cls], kinds[dupe], kinds[both] = _LOC, _CLS, _DUPE, _BOTH
        target = np.where(loc, nearest_own, np.where(cls, nearest_other, -1))
        target[true | (target >= 0) & used[target]] = -1
    kinds[true] = _NONE
    labeled.true[rows], labeled.kinds[rows] = true, kinds
    labeled.found[normal[used]] = True
    # detections are in order of their scores: the first with a target is the one that finds it
    reached, first = np.unique(target, return_index=True)
    first = first[reached >= 0]
    labeled.target[rows.start + first] = normal[reached[reached >= 0]]
    missed = ~used
    missed[reached[reached >= 0]] = False
    labeled.missed[normal[missed]] = True


def _share_inside(boxes: Doubles, region: Doubles) -> Doubles:
    """Returns the share of each box's area, [D], that lies in a region."""
    sides = np.minimum(boxes[:, 2:], region[2:]) - np.maximum(boxes[:, :2], region[:2]) + 1
    shared = np.where((sides > 0).all(axis=1), sides.prod(axis=1), 0.0)
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1)
    return np.asarray(np.divide(shared, areas, out=np.zeros(len(boxes)), where=areas > 0))


def _mean_ap(
    table: DetectionTable, classes: Indices, true: Mask, keep: Mask, to_find: Indices, *, scores: Doubles | None = None,
    behind: Mask | None = None,
) -> float:  # fmt: skip
    """Returns the mean AP over the classes with a detection or an object.

    classes, true, keep, [K]: the detections' classes, whether they are correct, and whether they count. to_find: the
    number of objects of each class. scores: others than the table's. behind, [K]: which of equal scores rank last, as
    in the package after a correction.
    """
    scores = table.scores if scores is None else scores
    order = np.lexsort((np.zeros(len(true)) if behind is None else behind, -scores, classes))
    order = order[keep[order]]
    begin = np.searchsorted(classes[order], np.arange(len(table.names) + 1))
    values = [
        _ap(true[order[start:stop]], int(objects))
        for start, stop, objects in zip(begin[:-1].tolist(), begin[1:].tolist(), to_find.tolist(), strict=True)
        if stop > start or objects
    ]
    return float(np.mean(values)) if values else 0.0


def _ap(true: Mask, objects: int) -> float:
    """Returns the mean precision at 101 recalls. true, [K]: which detections are correct, best score first."""
    if not objects:
        return 0.0
    hits = np.cumsum(true)
    precision = best_at_or_after(hits / np.arange(1, len(true) + 1))
    places = np.searchsorted(hits / objects, _RECALLS, side="left")
    return float(precision[places[places < len(true)]].sum()) / len(_RECALLS)


def as_json(result: TideResult) -> dict[str, Any]:
    """Returns the result as it is written to `tide.json`."""
    return {
        "AP": result.average_precision,
        "errors": {name: {"count": error.count, "dAP": error.delta} for name, error in result.errors.items()},
        "dAP_false_positives": result.false_positives,
        "dAP_false_negatives": result.false_negatives,
    }
