"""The score and the speed of exported detectors in ONNX Runtime, on the images of an LMDB."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caffe.data.augment.boxes import Boxes
from caffe.data.label_map import LabelMap
from caffe.detection import hoiem, voc
from caffe.detection.average_precision import mean
from caffe.errors import CaffeError, DataError
from caffe.export.lmdb_images import Record, records

#: images before the clock counts
_WARM_UP = 3


@dataclass(frozen=True)
class OnnxScore:
    """`average_precision`: mAP, 11 points. `small`: AP_N of extra-small and of small objects, means over the classes (NaN
    without classes that have enough objects). `milliseconds`: of processor time, median over the images."""

    average_precision: float
    small: tuple[float, float]
    milliseconds: float
    images: int


def score_detectors(
    paths: Sequence[str], lmdb: str | Path, mean_value: Sequence[float], label_map: str | Path, threads: int = 1
) -> list[OnnxScore]:
    """Runs every model on every image, in turns so that all see the same machine. Raises CaffeError for other models,
    and for a label map that is not the database's."""
    labels = LabelMap.read(label_map)
    names = {item.label: item.name for item in labels.items if item.label != 0}
    sessions = [_session(path, threads) for path in paths]
    shapes = {tuple(session.get_inputs()[0].shape[1:]) for session in sessions}
    if len(shapes) != 1:
        raise CaffeError(f"the models take images of different sizes: {' and '.join(map(str, sorted(shapes)))}")
    found: list[dict[str, list[tuple[str, float, list[float]]]]] = [
        {name: [] for name in names.values()} for _ in sessions
    ]
    times: list[list[float]] = [[] for _ in sessions]
    objects: dict[str, dict[str, voc.Objects]] = {}
    images = []
    for record in records(lmdb, shapes.pop(), mean_value):
        images.append(record.key)
        _add_objects(objects, record, labels)
        for session, rows, seconds in zip(sessions, found, times, strict=True):
            start = time.process_time()
            (table,) = session.run(None, {session.get_inputs()[0].name: record.data})
            seconds.append(time.process_time() - start)
            _add_rows(rows, table, record, names)
    if not objects:
        raise DataError(f"database '{lmdb}' has no annotated objects; give the LMDB of a detector's test images")
    truth = voc.GroundTruth(tuple(images), objects)
    return [_scored(truth, rows, seconds) for rows, seconds in zip(found, times, strict=True)]


def _session(path: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise CaffeError(f"{path}: ONNX Runtime cannot load it: {str(error).splitlines()[0]}") from None
    outputs = session.get_outputs()
    if len(session.get_inputs()) != 1 or len(outputs) != 1 or len(outputs[0].shape) != 4 or outputs[0].shape[3] != 7:
        raise CaffeError(
            f"{path}: not a detector exported here: it needs one input, and one output of rows of 7 values"
        )
    return session


def _add_objects(objects: dict[str, dict[str, voc.Objects]], record: Record, labels: LabelMap) -> None:
    if record.annotated is None:
        return
    boxes = Boxes.of(record.annotated)
    height, width = record.size
    for label in np.unique(boxes.labels[:, 0]).astype(int).tolist():
        chosen = boxes.labels[:, 0] == label
        if label:
            corners = boxes.corners[chosen].astype(np.float64) * [width, height, width, height]
            objects.setdefault(labels.name_of(label), {})[record.key] = voc.Objects(corners, boxes.difficult[chosen])


def _add_rows(
    rows: dict[str, list[tuple[str, float, list[float]]]], table: Any, record: Record, names: Mapping[int, str]
) -> None:
    height, width = record.size
    for _, label, score, *corners in table.reshape(-1, 7).astype(np.float64).tolist():
        if int(label) in names:
            scaled = [c * s for c, s in zip(corners, (width, height, width, height), strict=True)]
            rows[names[int(label)]].append((record.key, score, scaled))


def _scored(
    truth: voc.GroundTruth, rows: Mapping[str, list[tuple[str, float, list[float]]]], seconds: Sequence[float]
) -> OnnxScore:
    detections = {
        name: voc.Detections(
            tuple(image for image, _, _ in each),
            np.array([score for _, score, _ in each]),
            np.array([corners for _, _, corners in each]).reshape(-1, 4),
        )
        for name, each in rows.items()
        if truth.count(name)
    }
    scores = [voc.score_class(name, each, truth, eleven_points=True) for name, each in detections.items()]
    sizes = hoiem.diagnose(truth, detections).values()
    small = [[diagnosis.size[i].average_precision for diagnosis in sizes] for i in (0, 1)]
    known = [[value for value in values if not math.isnan(value)] for values in small]
    milliseconds = 1e3 * float(np.median(seconds[_WARM_UP:] or seconds))
    return OnnxScore(
        mean([score.average_precision for score in scores]),
        (mean(known[0]) if known[0] else math.nan, mean(known[1]) if known[1] else math.nan),
        milliseconds, len(truth.images),
    )  # fmt: skip
