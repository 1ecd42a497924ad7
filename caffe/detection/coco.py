"""COCO's score: a list of detections in JSON against an instances file, by pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caffe.errors import DataError

#: pycocotools' twelve numbers, in its order
MEASURES = (
    "AP", "AP 0.50", "AP 0.75", "AP small", "AP medium", "AP large",
    "AR 1", "AR 10", "AR 100", "AR small", "AR medium", "AR large",
)  # fmt: skip


@dataclass(frozen=True)
class CocoScore:
    """`measures`: the twelve by name, 0 to 1, −1 if there is nothing to find. `classes`: AP and AP 0.50 by name."""

    measures: dict[str, float]
    classes: dict[str, tuple[float, float]]
    images: int
    detections: int


def read_json(path: str | Path, what: str) -> Any:
    """Reads a JSON file; raises DataError if it is not one."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise DataError(f"cannot read {what} '{path}': {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what} '{path}' is not JSON: {error}") from None


def read_results(path: str | Path, dataset: Any) -> list[dict[str, Any]]:
    """The detections that DetectionOutput (or another detector) wrote, with the ids of the data set.

    Images may be named by id or by file name, with or without its extension; classes by id or by name. A DataError
    names what the data set does not have.
    """
    entries = read_json(path, "results file")
    if not isinstance(entries, list):
        raise DataError(f"results file '{path}' is not a list of detections")
    images: dict[Any, int] = {image["id"]: image["id"] for image in dataset["images"]}
    for image in dataset["images"]:
        name = str(image.get("file_name", ""))
        images.setdefault(name, image["id"])
        images.setdefault(Path(name).stem, image["id"])
    categories: dict[Any, int] = {c["id"]: c["id"] for c in dataset["categories"]}
    categories.update({c["name"]: c["id"] for c in dataset["categories"]})
    results = []
    for number, entry in enumerate(entries):
        where = f"results file '{path}', detection {number}"
        if not isinstance(entry, dict):
            raise DataError(f"{where} is not a JSON object")
        image, category = _look_up(images, entry.get("image_id")), _look_up(categories, entry.get("category_id"))
        if image is None:
            raise DataError(
                f"{where}: image_id {entry.get('image_id')!r} is not in the annotations; is it another set?"
            )
        if category is None:
            raise DataError(f"{where}: category_id {entry.get('category_id')!r} is not in the annotations")
        box, score = entry.get("bbox"), entry.get("score")
        if not (isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) for v in box)):
            raise DataError(f"{where}: bbox is not [x, y, width, height]")
        if not isinstance(score, int | float):
            raise DataError(f"{where} has no score")
        results.append({"image_id": image, "category_id": category, "bbox": box, "score": score})
    return results


def _look_up(table: dict[Any, int], key: object) -> int | None:
    if not isinstance(key, int | str):
        return None
    if key in table:
        return table[key]
    text = str(key)
    return table.get(int(text)) if text.isascii() and text.isdigit() else None


def evaluate(results: str | Path, annotations: str | Path, image_ids: Sequence[int] | None = None) -> CocoScore:
    """Scores a results file against an instances file; `image_ids`: on these images alone (None: on all).

    Raises DataError for files that are not COCO's or do not belong together.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    dataset = read_json(annotations, "annotation file")
    missing = [k for k in ("images", "annotations", "categories") if not isinstance(dataset, dict) or k not in dataset]
    if missing:
        raise DataError(f"annotation file '{annotations}' is not a COCO instances file: it has no '{missing[0]}'")
    found = read_results(results, dataset)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        truth = COCO()
        truth.dataset = dataset
        dataset.setdefault("info", {})
        truth.createIndex()
        detections = truth.loadRes(found) if found else _nothing(truth)
        evaluation = COCOeval(truth, detections, "bbox")
        if image_ids is not None:
            evaluation.params.imgIds = list(image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # precision: IoU threshold × recall × class × area × detections per image
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    names = {c["id"]: str(c["name"]) for c in dataset["categories"]}
    classes = {
        names[category]: (_mean(precision[:, :, k]), _mean(precision[0, :, k]))
        for k, category in enumerate(evaluation.params.catIds)
    }
    measures = dict(zip(MEASURES, map(float, evaluation.stats), strict=True))
    return CocoScore(measures, classes, len(evaluation.params.imgIds), len(found))


def _nothing(truth: Any) -> Any:
    from pycocotools.coco import COCO

    result = COCO()
    result.dataset = {**truth.dataset, "annotations": []}
    result.createIndex()
    return result


def _mean(values: Any) -> float:
    known = values[values > -1]
    return float(np.mean(known)) if known.size else -1.0
