"""Which detections, objects and images to look at: false detections, surprising misses, best and worst images.

Detections and objects are matched as in Hoiem's analysis, for one model at a time (`found`: detections by class).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe.detection.average_precision import max_integral
from caffe.detection.hoiem import Labeled, ObjectTable, SimilarClasses, label
from caffe.detection.hoiem.false_positives import KINDS
from caffe.detection.hoiem.groups import areas, aspect_ratios
from caffe.detection.pairs import Doubles, overlaps_of_pairs
from caffe.detection.voc import Detections, GroundTruth

Corners = tuple[float, float, float, float]
#: the score from which the paper's figures show detections
SHOWN = 0.6


@dataclass(frozen=True)
class Near:
    """The object next to a detection, or the detection next to an object.

    overlap: intersection over union of the two, 0 if they do not meet. score: of a detection; 1 for an object.
    difficult: for an object.
    """

    name: str
    box: Corners
    overlap: float
    score: float = 1.0
    difficult: bool = False


@dataclass(frozen=True)
class FalseDetection:
    """A false positive: its kind ("loc", "sim", "oth" or "bg") and the nearest object, None in an image without any.

    duplicate: the detection lies on an object that a better detection has found; its kind is "loc".
    """

    image: str
    name: str
    score: float
    box: Corners
    kind: str
    duplicate: bool
    nearest: Near | None


@dataclass(frozen=True)
class MissedObject:
    """An object that no detection finds. chance: the share of such objects that are found, 0 to 1.

    nearest: the detection of any score that overlaps it most; of its own class if one meets it, otherwise of another;
    None if there is none.
    """

    image: str
    name: str
    box: Corners
    chance: float
    nearest: Near | None


@dataclass(frozen=True)
class Shown:
    """A detection in a picture. state: "true", "false", or "difficult" if it finds a difficult object."""

    name: str
    score: float
    box: Corners
    state: str


@dataclass(frozen=True)
class ImageScore:
    """The score of one image with `objects` objects that are not difficult.

    found, false: the objects found and the false positives, among the detections that are shown.
    """

    image: str
    average_precision: float
    objects: int
    found: int
    false: int


def false_detections(
    truth: GroundTruth, found: Mapping[str, Detections], *, similar: SimilarClasses | None = None,
    threshold: float = 0.5, score: float = SHOWN, limit: int | None = None,
) -> list[FalseDetection]:  # fmt: skip
    """Returns the false positives with a score of `score` or more, highest score first, at most `limit`.

    similar: sets of similar classes (default: VOC's if all classes are VOC's). threshold: the overlap at which an
    object is found. Raises DataError for unknown images and for values that are not finite.
    """
    objects, labels = _label_all(truth, found, similar, threshold)
    rows: list[tuple[float, str, int]] = []
    for name, labeled in labels.items():
        chosen = np.flatnonzero(labeled.false & (labeled.ranked.scores >= score))[:limit]
        rows += [(float(labeled.ranked.scores[i]), name, i) for i in chosen.tolist()]
    rows.sort(key=lambda row: -row[0])
    result = []
    for value, name, i in rows[:limit]:
        labeled = labels[name]
        image, box = int(labeled.ranked.images[i]), labeled.ranked.boxes[i]
        kind = next(kind for kind in KINDS if labeled.kinds.kind(kind)[i])
        result.append(
            FalseDetection(
                truth.images[image],
                name,
                value,
                _corners(box),
                kind,
                bool(labeled.matching.duplicate[i]),
                _nearest_object(box, image, objects),
            )
        )
    return result


def missed_objects(
    truth: GroundTruth, found: Mapping[str, Detections], *, threshold: float = 0.5, score: float = SHOWN,
    limit: int | None = None,
) -> list[MissedObject]:  # fmt: skip
    """Returns the objects that no detection with a score of `score` or more finds, the most surprising first.

    A miss is surprising if the class's objects like this one are usually found. A logistic regression for each class
    estimates that from the object's area and aspect ratio, the largest overlap with another object, and the number of
    objects in the image. Difficult objects are left out. Raises DataError for unknown images and for values that are
    not finite.
    """
    objects, labels = _label_all(truth, found, None, threshold)
    features = _features(objects)
    images = np.repeat(np.arange(len(truth.images)), np.diff(objects.begin))
    rows: list[tuple[float, str, int]] = []
    for name, labeled in labels.items():
        if labeled.own is None:
            continue
        wanted = np.flatnonzero((objects.classes == labeled.own) & ~objects.difficult)
        hit = np.zeros(len(objects.boxes), bool)
        hit[labeled.found[labeled.true & (labeled.ranked.scores >= score)]] = True
        chances = _chances(features[wanted], hit[wanted])
        rows += [(float(c), name, i) for c, i in zip(chances, wanted.tolist(), strict=True) if not hit[i]]
    rows.sort(key=lambda row: -row[0])
    return [
        MissedObject(
            truth.images[images[i]],
            name,
            _corners(objects.boxes[i]),
            chance,
            _nearest_detection(i, int(images[i]), name, objects, labels),
        )
        for chance, name, i in rows[:limit]
    ]


def image_scores(
    truth: GroundTruth, found: Mapping[str, Detections], *, threshold: float = 0.5, score: float = SHOWN
) -> list[ImageScore]:
    """Returns the score of each image with an object that is not difficult, in the order of the list.

    An image's AP is the area under the curve of all its detections, of all classes in one ranking. Raises DataError for
    unknown images and for values that are not finite.
    """
    objects, labels = _label_all(truth, found, None, threshold)
    parts = [(v.ranked.images, v.ranked.scores, v.true, v.false) for v in labels.values()]
    empty = (np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool), np.zeros(0, bool))
    images, scores, true, false = (np.concatenate(columns) for columns in zip(empty, *parts, strict=True))
    counted = np.flatnonzero(true | false)
    order = counted[np.lexsort((-scores[counted], images[counted]))]
    begin = np.searchsorted(images[order], np.arange(len(truth.images) + 1))
    normal = np.concatenate([[0], np.cumsum(~objects.difficult)])
    result = []
    for number, image in enumerate(truth.images):
        total = int(normal[objects.begin[number + 1]] - normal[objects.begin[number]])
        if not total:
            continue
        rows = order[begin[number] : begin[number + 1]]
        hits, shown = np.cumsum(true[rows]), scores[rows] >= score
        area = max_integral(hits / np.arange(1, len(rows) + 1), hits / total) if len(rows) else 0.0
        result.append(ImageScore(image, area, total, int((true[rows] & shown).sum()), int((false[rows] & shown).sum())))
    return result


def best_and_worst(scores: Sequence[ImageScore], limit: int) -> tuple[list[ImageScore], list[ImageScore]]:
    """Returns the `limit` images of the highest AP and those of the lowest, the most extreme first.

    Of equal APs, images with more objects come first, then those with fewer (more) false positives. No image is in
    both lists.
    """
    best = sorted(scores, key=lambda s: (-s.average_precision, -s.objects, s.false))
    worst = sorted(scores, key=lambda s: (s.average_precision, -s.objects, -s.false))
    high = best[: min(limit, (len(best) + 1) // 2)]
    chosen = {s.image for s in high}
    return high, [s for s in worst if s.image not in chosen][:limit]


def differing_images(
    truth: GroundTruth, models: Mapping[str, Mapping[str, Detections]], limit: int, *, threshold: float = 0.5
) -> list[str]:
    """Returns the images on which the last model's own AP differs most from the first one's.

    Those that the last model finds better and those that it finds worse alternate, so that neither hides the other.
    With one model: its worst images.
    """
    first, *rest = models.values()
    before = image_scores(truth, first, threshold=threshold)
    if not rest:
        return [s.image for s in best_and_worst(before, limit)[1]]
    after = image_scores(truth, rest[-1], threshold=threshold)
    gains = [(b.average_precision - a.average_precision, a) for a, b in zip(before, after, strict=True)]
    better = sorted((g for g in gains if g[0] > 0), key=lambda g: (-g[0], -g[1].objects))
    worse = sorted((g for g in gains if g[0] < 0), key=lambda g: (g[0], -g[1].objects))
    same = sorted((g for g in gains if g[0] == 0), key=lambda g: -g[1].objects)
    mixed = [g for pair in zip(better, worse, strict=False) for g in pair]
    shorter = min(len(better), len(worse))
    mixed += better[shorter:] + worse[shorter:] + same
    return [s.image for _, s in mixed[:limit]]


def shown_detections(
    truth: GroundTruth, found: Mapping[str, Detections], images: Sequence[str], score: float = SHOWN, *,
    threshold: float = 0.5,
) -> dict[str, list[Shown]]:  # fmt: skip
    """Returns the detections with a score of `score` or more in some images, best first, by image."""
    chosen = set(images)
    result: dict[str, list[Shown]] = {image: [] for image in images}
    parts = {}
    for name, d in found.items():
        rows = [i for i, image in enumerate(d.images) if image in chosen]
        parts[name] = Detections(tuple(d.images[i] for i in rows), d.scores[rows], d.boxes[rows])
    names = tuple(result)
    objects = {c: {i: v for i, v in by_image.items() if i in chosen} for c, by_image in truth.objects.items()}
    for name, labeled in _label_all(GroundTruth(names, objects), parts, None, threshold)[1].items():
        ranked = labeled.ranked
        for i in np.flatnonzero(ranked.scores >= score).tolist():
            state = "true" if labeled.true[i] else "false" if labeled.false[i] else "difficult"
            shown = Shown(name, float(ranked.scores[i]), _corners(ranked.boxes[i]), state)
            result[names[ranked.images[i]]].append(shown)
    for detections in result.values():
        detections.sort(key=lambda d: -d.score)
    return result


def _label_all(
    truth: GroundTruth, found: Mapping[str, Detections], similar: SimilarClasses | None, threshold: float
) -> tuple[ObjectTable, dict[str, Labeled]]:
    """Labels the detections of all classes, those with objects but without a result file included."""
    objects = ObjectTable.of(truth)
    if similar is None:
        similar = SimilarClasses.for_classes({*truth.classes, *found})
    nothing = Detections((), np.zeros(0), np.zeros((0, 4)))
    everything = {**found, **{name: nothing for name in truth.classes if name not in found}}
    return objects, {name: label(name, d, truth, objects, similar, threshold) for name, d in everything.items()}


def _corners(box: Doubles) -> Corners:
    xmin, ymin, xmax, ymax = box.tolist()
    return xmin, ymin, xmax, ymax


# ---- what is near


def _nearest_object(box: Doubles, image: int, objects: ObjectTable) -> Near | None:
    """Returns the object of any class that a box overlaps most, or the closest one if it meets none."""
    inside = np.arange(objects.begin[image], objects.begin[image + 1])
    if not len(inside):
        return None
    overlaps = overlaps_of_pairs(box, objects.boxes[inside])
    best = int(overlaps.argmax()) if overlaps.max() > 0 else int(_gaps(box, objects.boxes[inside]).argmin())
    number = int(inside[best])
    return Near(
        objects.names[objects.classes[number]],
        _corners(objects.boxes[number]),
        float(overlaps[best]),
        difficult=bool(objects.difficult[number]),
    )


def _gaps(box: Doubles, others: Doubles) -> Doubles:
    """Returns the distance between a box and each of other boxes, [K], in pixels."""
    between = np.maximum(np.maximum(others[:, :2] - box[2:], box[:2] - others[:, 2:]), 0)
    return np.asarray(np.hypot(between[:, 0], between[:, 1]))


def _nearest_detection(
    number: int, image: int, name: str, objects: ObjectTable, labels: Mapping[str, Labeled]
) -> Near | None:
    """Returns the detection that overlaps an object most, among those that find no other object."""
    candidates: list[Near] = []
    for other, labeled in labels.items():
        ranked, finds = labeled.ranked, labeled.matching.found
        rows = np.flatnonzero((ranked.images == image) & ((finds < 0) | (finds == number)))
        overlaps = overlaps_of_pairs(objects.boxes[number], ranked.boxes[rows])
        if len(rows) and overlaps.max() > 0:
            row = rows[overlaps.argmax()]
            candidates.append(
                Near(other, _corners(ranked.boxes[row]), float(overlaps.max()), float(ranked.scores[row]))
            )  # fmt: skip
    return max(candidates, key=lambda near: (near.name == name, near.overlap), default=None)


# ---- how likely it is that an object is found


def _features(objects: ObjectTable) -> Doubles:
    """Returns the characteristics of each object, [N, 6], that its chance to be found is estimated from."""
    size = np.log(np.maximum(areas(objects.boxes), 1))
    aspect = np.log(np.clip(np.nan_to_num(aspect_ratios(objects.boxes), nan=1.0), 1e-3, 1e3))
    crowd, companions = np.zeros(len(size)), np.zeros(len(size))
    for start, stop in zip(objects.begin[:-1].tolist(), objects.begin[1:].tolist(), strict=True):
        boxes = objects.boxes[start:stop]
        companions[start:stop] = math.log(max(stop - start, 1))
        if stop - start > 1:
            for place in range(start, stop):  # by rows: an image may have thousands
                overlaps = overlaps_of_pairs(objects.boxes[place], boxes)
                overlaps[place - start] = 0
                crowd[place] = overlaps.max()
    return np.stack([size, size**2, aspect, aspect**2, crowd, companions], axis=1)


def _chances(features: Doubles, found: NDArray[np.bool_]) -> Doubles:
    """Returns the estimated probability that each of K objects is found, [K], by logistic regression.

    features, [K, F]. found, [K]. The weights have a penalty of half their squares (for standardized features), so that
    few objects give a cautious estimate; Newton's method converges in a few steps.
    """
    if not len(features):
        return np.zeros(0)
    spread = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(spread > 1e-12, spread, 1)
    design = np.concatenate([np.ones((len(scaled), 1)), scaled], axis=1)
    penalty = np.ones(design.shape[1])
    penalty[0] = 1e-2
    weights = np.zeros(design.shape[1])
    for _ in range(50):
        chance = _logistic(design @ weights)
        gradient = design.T @ (found - chance) - penalty * weights
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        weights += step
        if np.abs(step).max() < 1e-8:
            break
    return _logistic(design @ weights)


def _logistic(values: Doubles) -> Doubles:
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))
