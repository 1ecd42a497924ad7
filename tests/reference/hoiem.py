"""Hoiem, Chodpathumwan and Dai's analysis in plain loops over lists, with the keys of diagnosis.json."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Box = tuple[float, float, float, float]


class Object(NamedTuple):
    image: str
    name: str
    box: Box
    difficult: bool


class Detection(NamedTuple):
    image: str
    score: float
    box: Box


def overlap(a: Box, b: Box) -> float:
    """Intersection over union; both border pixels belong to a box."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1) - shared)


def match(ranked: Sequence[Detection], objects: Sequence[Object], least: float) -> list[tuple[Object | None, float]]:
    """For each detection, the object that it takes and their overlap; without one, its overlap with a taken object.

    A detection takes the object of its image with the largest overlap of those that are not taken yet.
    """
    taken: list[int] = []
    result: list[tuple[Object | None, float]] = []
    for detection in ranked:
        best, best_overlap, duplicate = -1, 0.0, 0.0
        for number, each in enumerate(objects):
            value = overlap(detection.box, each.box) if each.image == detection.image else 0.0
            if value < least:
                continue
            if number in taken:
                duplicate = max(duplicate, value)
            elif value > best_overlap:
                best, best_overlap = number, value
        if best >= 0:
            taken.append(best)
            result.append((objects[best], best_overlap))
        else:
            result.append((None, duplicate))
    return result


def precisions(true: Sequence[bool], false: Sequence[bool], objects: int, normalize_to: float | None) -> list[float]:
    """At each detection, the greatest precision there and later."""
    hits = misses = 0
    result = []
    for right, wrong in zip(true, false, strict=True):
        hits, misses = hits + right, misses + wrong
        weighted = hits if normalize_to is None else hits * normalize_to / objects
        result.append(weighted / (weighted + misses) if weighted + misses else 0.0)
    return [max(result[place:]) for place in range(len(result))]


def score(
    true: Sequence[bool], false: Sequence[bool], objects: int, normalize_to: float | None
) -> tuple[float | None, float | None]:
    """Average precision and its standard error; None without objects."""
    if not objects:
        return None, None
    values = [p for p, right in zip(precisions(true, false, objects, normalize_to), true, strict=True) if right]
    if not values:
        return 0.0, 0.0
    everything = values + [0.0] * (objects - len(values))
    error = statistics.stdev(everything) / math.sqrt(objects) if objects > 1 else 0.0
    return statistics.mean(values) * len(values) / objects, error


def groups(values: Sequence[float]) -> list[int]:
    """The number of borders strictly below each value: 1 to 5, or 0 for a value that is not over 0."""
    ordered = sorted(values)
    borders = [0.0] + [ordered[math.floor(len(values) * share + 0.5) - 1] for share in (0.1, 0.3, 0.7, 0.9)]
    return [sum(border < value for border in borders) for value in values]


def analyze(
    images: int, objects: Sequence[Object], found: Mapping[str, Sequence[Detection]],
    sets: Sequence[Sequence[str]] = (),
) -> dict[str, Any]:  # fmt: skip
    """The analysis of each class with ten objects or more. sets: of similar classes."""
    result = {}
    for name, detections in found.items():
        if sum(each.name == name and not each.difficult for each in objects) >= 10:
            similar = {other for names in sets if name in names for other in names} - {name}
            result[name] = _class(0.15 * images, name, objects, detections, similar)
    return result


def _class(
    normalize_to: float, name: str, objects: Sequence[Object], detections: Sequence[Detection], similar: set[str]
) -> dict[str, Any]:
    ranked = sorted(detections, key=lambda detection: -detection.score)
    own = [each for each in objects if each.name == name]
    wanted = [each for each in own if not each.difficult]
    strong = [taken for taken, _ in match(ranked, own, 0.5)]
    true = [taken is not None and not taken.difficult for taken in strong]
    false = [taken is None for taken in strong]
    near_own = [value > 0 for _, value in match(ranked, own, 0.1)]
    weak = {
        other: [value for _, value in match(ranked, [each for each in objects if each.name == other], 0.1)]
        for other in sorted({each.name for each in objects} - {name})
    }
    kinds, near_similar = [], []
    for place in range(len(ranked)):
        near = {other: values[place] for other, values in weak.items() if values[place]}
        best = max(near, key=near.__getitem__, default=None)
        kind = "loc" if near_own[place] else "bg" if best is None else "sim" if best in similar else "oth"
        kinds.append(kind if false[place] else None)
        near_similar.append(bool(false[place] and kind != "loc" and similar & near.keys()))

    def counts(upto: int) -> dict[str, int]:
        return {kind: kinds[:upto].count(kind) for kind in ("loc", "sim", "oth", "bg")}

    def without(out: Sequence[bool]) -> float | None:
        return score(true, [wrong and not gone for wrong, gone in zip(false, out, strict=True)], total, normalize_to)[0]

    total = len(wanted)
    sizes = groups([(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for _, _, b, _ in wanted])
    aspects = groups(
        [(b[2] - b[0] + 1) / (b[3] - b[1] + 1) if b[3] - b[1] != -1 else math.inf for _, _, b, _ in wanted]
    )

    def by_group(of: Sequence[int]) -> list[dict[str, Any]]:
        rows = []
        for group in range(1, 6):
            inside = [each for each, number in zip(wanted, of, strict=True) if number == group]
            right = [any(taken is each for each in inside) for taken in strong]
            value, error = score(right, false, len(inside), normalize_to)
            rows.append({"objects": len(inside), "AP_N": value, "error": error})
        return rows

    in_time = [
        taken
        for taken, right, value in zip(strong, true, precisions(true, false, total, normalize_to), strict=True)
        if right and value >= 0.05
    ]
    missed = [number for each, number in zip(wanted, sizes, strict=True) if not any(each is taken for taken in in_time)]
    wrong = [place for place, each in enumerate(false) if each]
    first_100 = {"first_100": counts(wrong[99] + 1)} if len(wrong) >= 100 else {}
    normalized, error = score(true, false, total, normalize_to)
    return {
        "objects": total,
        "AP": score(true, false, total, None)[0],
        "AP_N": normalized,
        "AP_N_error": error,
        "size": by_group(sizes),
        "aspect": by_group(aspects),
        "missed": len(missed),
        "missed_by_size": [missed.count(group) for group in range(1, 6)],
        "false_positives": {
            **first_100,
            "first_objects": {"correct": sum(not each for each in false[:total]), **counts(total)},
        },
        "AP_N_without": {
            "loc": without([kind == "loc" for kind in kinds]),
            "bg": without([
                kind in ("bg", "oth", "sim") and not near for kind, near in zip(kinds, near_similar, strict=True)
            ]),
            **({"sim": without(near_similar)} if similar else {}),
        },
    }  # fmt: skip
