"""COCO's score: a list of detections in JSON against an instances file, by pycocotools."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caffe.detection.coco_files import FoundInCoco, is_finite, read_json, read_results
from caffe.errors import CaffeError, DataError

#: a side in pixels that no object reaches; pycocotools' own
NO_LIMIT = 1e5
#: number of detections per image at which COCO measures AR; the last one is the limit for everything else
MAX_DETS = (1, 10, 100)
#: pycocotools keeps all detections as Python objects, about 700 bytes each
_MOST_DETECTIONS = 5_000_000
#: ids are kept as 64-bit integers
_LARGEST_ID = (1 << 63) - 1


@dataclass(frozen=True)
class Area:
    """A range of object sizes: the square root of the area, from `low` to `high` pixels."""

    name: str
    low: float
    high: float


COCO_AREAS = (Area("small", 0, 32), Area("medium", 32, 96), Area("large", 96, NO_LIMIT))
#: AI-TOD's sizes (Wang et al., "Tiny Object Detection in Aerial Images", ICPR 2020)
AITOD_AREAS = (Area("very tiny", 2, 8), Area("tiny", 8, 16), Area("small", 16, 32), Area("medium", 32, 64))
#: AI-TOD's images have many objects
AITOD_MAX_DETS = (1, 100, 1500)
PRESETS = {"coco": (COCO_AREAS, MAX_DETS), "aitod": (AITOD_AREAS, AITOD_MAX_DETS)}


@dataclass(frozen=True)
class CocoScore:
    """The score of one model.

    `measures`: values by name, 0 to 1, −1 if there is nothing to find: AP, AP 0.50, AP 0.75, AP of each size, AR at
    each number of detections per image, AR of each size. `classes`: AP and AP 0.50 of each class. `class_measures`: all
    measures of each class.
    """

    measures: dict[str, float]
    classes: dict[str, tuple[float, float]]
    images: int
    detections: int
    class_measures: dict[str, dict[str, float]]


def measure_names(areas: Sequence[Area], max_dets: Sequence[int]) -> tuple[str, ...]:
    """Returns the names of the measures in order. For COCO's sizes these are pycocotools' twelve."""
    sizes = [area.name for area in areas]
    return (
        "AP", "AP 0.50", "AP 0.75", *(f"AP {size}" for size in sizes), *(f"AR {count}" for count in max_dets),
        *(f"AR {size}" for size in sizes),
    )  # fmt: skip


def parse_areas(text: str) -> tuple[Area, ...]:
    """Reads size ranges: `coco`, `aitod`, or own ones such as `tiny:0-16,small:16-32,rest:32-`, in pixels.

    Raises CaffeError for anything else.
    """
    if text in PRESETS:
        return PRESETS[text][0]
    areas = []
    for part in text.split(","):
        name, colon, limits = part.strip().rpartition(":")
        low, dash, high = limits.partition("-")
        try:
            area = Area(name.strip(), float(low), float(high) if high.strip() else NO_LIMIT)
        except ValueError:
            area = Area("", 0, 0)
        if not (area.name and colon and dash and 0 <= area.low < area.high <= NO_LIMIT):
            raise CaffeError(
                f"areas: '{part.strip()}' is not NAME:FROM-TO with a size in pixels, such as tiny:8-16 or large:96-; "
                f"presets: {', '.join(PRESETS)}"
            )
        areas.append(area)
    taken = [area.name for area in areas]
    if len(set(taken)) < len(taken):
        raise CaffeError(f"areas: a name is used twice in '{text}'")
    return tuple(areas)


def parse_max_dets(text: str) -> tuple[int, ...]:
    """Reads numbers of detections per image, such as `1,10,100`: whole, at least 1, increasing. Raises CaffeError."""
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or counts[0] < 1 or any(b <= a for a, b in itertools.pairwise(counts)):
        raise CaffeError(f"max_dets: '{text}' is not an increasing list of numbers from 1, such as 1,10,100")
    return tuple(counts)


def evaluate(
    results: str | Path, annotations: str | Path, image_ids: Sequence[int] | None = None, *,
    areas: Sequence[Area] = COCO_AREAS, max_dets: Sequence[int] = MAX_DETS,
) -> CocoScore:  # fmt: skip
    """Scores a results file against an instances file; `image_ids`: on these images alone (None: on all).

    Raises DataError for files that are not COCO's or do not belong together.
    """
    dataset = read_instances(annotations)
    return score(dataset, read_results(results, dataset), image_ids, areas=areas, max_dets=max_dets)


def read_instances(path: str | Path) -> dict[str, Any]:
    """Reads an instances file. Raises DataError if it is not one."""
    dataset = read_json(path, "annotation file")
    missing = [k for k in ("images", "annotations", "categories") if not isinstance(dataset, dict) or k not in dataset]
    if missing:
        raise DataError(f"annotation file '{path}' is not a COCO instances file: it has no '{missing[0]}'")
    images = _ids(dataset["images"], "images", path)
    categories = _ids(dataset["categories"], "categories", path)
    if not all(isinstance(category.get("name"), str) for category in dataset["categories"]):
        raise DataError(f"annotation file '{path}': a category has no name")
    if not isinstance(dataset["annotations"], list):
        raise DataError(f"annotation file '{path}': 'annotations' is not a list")
    annotations = []
    for number, entry in enumerate(dataset["annotations"], 1):
        where = f"annotation file '{path}', annotation {number - 1}"
        if not isinstance(entry, dict) or not _is_one_of(images, entry.get("image_id")):
            raise DataError(f"{where} has no image_id of one of its images")
        if not _is_one_of(categories, entry.get("category_id")):
            raise DataError(f"{where} has no category_id of one of its categories")
        box = entry.get("bbox")
        if not (isinstance(box, list) and len(box) == 4 and all(map(is_finite, box))):
            raise DataError(f"{where} has no bbox of four finite numbers")
        # what some tools leave out; pycocotools takes 0 for the id of no object
        entry = {"area": box[2] * box[3], "iscrowd": 0, **entry, "id": number}
        if not is_finite(entry["area"]):
            raise DataError(f"{where} has an area that is not a finite number")
        if entry["iscrowd"] not in (0, 1):
            raise DataError(f"{where} has an iscrowd that is not 0 or 1")
        annotations.append(entry)
    return {**dataset, "annotations": annotations}


def _ids(values: Any, what: str, path: str | Path) -> set[int]:
    """Returns the ids of images or categories."""
    found = [v.get("id") for v in values if isinstance(v, dict)] if isinstance(values, list) else []
    if not found or len(found) < len(values) or not all(isinstance(v, int) and abs(v) <= _LARGEST_ID for v in found):
        raise DataError(
            f"annotation file '{path}': '{what}' is not a list of entries that each have a whole number as id"
        )
    return {v for v in found if v is not None}


def _is_one_of(ids: set[int], value: object) -> bool:
    """Whether a JSON value, which may be a list, is one of some ids."""
    return isinstance(value, int) and value in ids


def score(
    dataset: dict[str, Any], found: FoundInCoco, image_ids: Sequence[int] | None = None, *,
    areas: Sequence[Area] = COCO_AREAS, max_dets: Sequence[int] = MAX_DETS,
) -> CocoScore:  # fmt: skip
    """Scores detections against a data set in the form of an instances file.

    Raises DataError for image_ids that the data set does not have, and for more detections than pycocotools can hold.
    """
    if image_ids is not None:
        strangers = set(image_ids) - {image["id"] for image in dataset["images"]}
        if strangers:
            raise DataError(f"{len(strangers)} image ids of the list are not in the annotations, e.g. {min(strangers)}")
    evaluation = _evaluate(dataset, found.best(max_dets[-1]), image_ids, areas, max_dets)
    # precision: IoU threshold × recall × class × area × detections per image; recall without the second
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    names = {c["id"]: str(c["name"]) for c in dataset["categories"]}
    everything = slice(None)
    class_measures = {
        names[category]: _measures(precision, recall, slice(k, k + 1), areas, max_dets)
        for k, category in enumerate(evaluation.params.catIds)
    }
    return CocoScore(
        _measures(precision, recall, everything, areas, max_dets),
        {name: (values["AP"], values["AP 0.50"]) for name, values in class_measures.items()},
        len(evaluation.params.imgIds),
        len(found.scores),
        class_measures,
    )


def _evaluate(
    dataset: dict[str, Any], found: FoundInCoco, image_ids: Sequence[int] | None, areas: Sequence[Area],
    max_dets: Sequence[int],
) -> Any:  # fmt: skip
    """Runs pycocotools' evaluation."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if len(found.scores) > _MOST_DETECTIONS:
        raise DataError(
            f"{len(found.scores):,} detections are too many to score, even with {max_dets[-1]} of a class in an image; the "
            f"limit is {_MOST_DETECTIONS:,}. A higher confidence_threshold or a lower keep_top_k in DetectionOutput gives fewer"
        )
    columns = (found.images, found.categories, found.boxes, found.scores)
    entries = [
        {
            "id": number, "image_id": image, "category_id": category, "bbox": box, "score": value,
            "area": box[2] * box[3], "iscrowd": 0,
        }
        for number, (image, category, box, value) in enumerate(zip(*(c.tolist() for c in columns), strict=True), 1)
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        truth, detections = COCO(), COCO()
        truth.dataset, detections.dataset = dataset, {**dataset, "annotations": entries}
        truth.createIndex()
        detections.createIndex()
        evaluation = COCOeval(truth, detections, "bbox")
        if image_ids is not None:
            evaluation.params.imgIds = list(image_ids)
        evaluation.params.maxDets = list(max_dets)
        evaluation.params.areaRng = [[0, NO_LIMIT**2], *([a.low**2, a.high**2] for a in areas)]
        evaluation.params.areaRngLbl = ["all", *(a.name for a in areas)]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _measures(
    precision: Any, recall: Any, classes: slice, areas: Sequence[Area], max_dets: Sequence[int]
) -> dict[str, float]:
    """Returns the measures of some classes from pycocotools' arrays; its `summarize` knows only COCO's sizes."""
    sizes = range(1, len(areas) + 1)
    values = [
        _mean(precision[:, :, classes, 0, -1]),
        _mean(precision[0, :, classes, 0, -1]),
        _mean(precision[5, :, classes, 0, -1]),
        *(_mean(precision[:, :, classes, size, -1]) for size in sizes),
        *(_mean(recall[:, classes, 0, place]) for place in range(len(max_dets))),
        *(_mean(recall[:, classes, size, -1]) for size in sizes),
    ]
    return dict(zip(measure_names(areas, max_dets), values, strict=True))


def _mean(values: Any) -> float:
    known = values[values > -1]
    return float(np.mean(known)) if known.size else -1.0
