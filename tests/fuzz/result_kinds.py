"""What trainings and detectors leave behind: detections, logs, boxes files, checksums, and the lists for scoring."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from caffe.data.feed.object_file import read_objects
from caffe.data.feed.window_file import read_windows
from caffe.data.name_size import read_name_sizes
from caffe.default_boxes import reach
from caffe.default_boxes.boxes_file import layout_with, read_boxes, write_boxes
from caffe.default_boxes.layout import Layout, Shapes, Source
from caffe.default_boxes.objects import Objects
from caffe.detection import coco, tide, voc
from caffe.detection.coco_files import read_results
from caffe.detection.hoiem.similar_classes import SimilarClasses
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from caffe.proto.solver_state import SolverState, write_solver_state
from caffe.proto.weights import write_weights
from caffe.report import speed_file
from caffe.report.charts import reach_figure, training_figure
from caffe.report.runs import find_run
from caffe.solver import checksums, snapshot_files
from caffe.solver.best import BestWeights

# ---- detections and what they are scored against

VOC_RESULTS = b"a 0.9 10 10 50 50\na 0.5 12 8.5 50 61\r\nb 1e-2 -3 0 30 4e1\nb 0.01 1 1 2 2\n"
COCO_RESULTS = b"""[{"image_id": 1, "category_id": 17, "bbox": [1.5, 2, 30, 40.25], "score": 0.98},
{"image_id": "b", "category_id": "cat", "bbox": [0, 0, 6, 5], "score": 0.5},
{"image_id": "c/b.jpg", "category_id": 1, "bbox": [0, 0, 6, 5], "score": 1, "segmentation": [[1, 2, 3, 4]]}]
"""
COCO_INSTANCES = b"""{"images": [{"id": 1, "file_name": "a.jpg", "height": 480, "width": 640},
{"id": 2, "file_name": "c/b.jpg", "height": 5, "width": 6}],
"categories": [{"id": 1, "name": "dog"}, {"id": 17, "name": "cat", "supercategory": "animal"}],
"annotations": [{"image_id": 1, "category_id": 17, "bbox": [1.5, 2, 30, 40.25], "iscrowd": 0, "area": 1200, "id": 5},
{"image_id": 2, "category_id": 1, "bbox": [0, 0, 6, 5], "segmentation": [[1, 2, 3, 4]]}]}
"""
NAME_SIZES = b"a 480 640\nb 5 6\r\n"
WINDOWS = b"# 0\na.jpg\n3\n480\n640\n2\n1 0.7 10 20 60 80\n0 0.1 0 0 9 9\n# 1\nb.jpg\n3\n50\n60\n0\n"
OBJECTS = b"# 0\na.jpg\n3\n480 640\n2\n1 0 0 10 20 60 80\n2 1 1 0 0 9 9\n1\n5 5 90 90\n# 1 b.jpg 3 50 60 0 0\n"
SIMILAR = b"# confused\ncat, dog, horse\ncow,horse # both\n"


def _truth() -> voc.GroundTruth:
    objects = {"a": voc.Objects(np.array([[10.0, 10, 50, 50]]), np.array([False])),
               "b": voc.Objects(np.array([[0.0, 0, 30, 40], [1, 1, 9, 9]]), np.array([False, True]))}  # fmt: skip
    return voc.GroundTruth(("a", "b"), {"cat": objects})


def score_voc(path: Path) -> float:
    found = {"cat": voc.read_detections(path)}
    score = voc.score_class("cat", found["cat"], _truth(), eleven_points=False)
    return score.average_precision + tide.tide(_truth(), found).average_precision


def _score_coco(instances: Path, results: Path) -> float:
    dataset = coco.read_instances(instances)
    return sum(coco.score(dataset, read_results(results, dataset)).measures.values())


def _beside(path: Path, content: bytes) -> Path:
    other = path.with_name("other.json")
    other.write_bytes(content)
    return other


def score_coco(path: Path) -> float:
    return _score_coco(_beside(path, COCO_INSTANCES), path)


def score_against_coco(path: Path) -> float:
    return _score_coco(path, _beside(path, COCO_RESULTS))


def read_name_size(path: Path) -> int:
    return sum(entry.height * entry.width for entry in read_name_sizes(path))


def read_window_file(path: Path) -> int:
    found = read_windows(str(path), 0.5, 0.5)
    return len(found.foreground) + len(found.background)


def read_object_file(path: Path) -> float:
    return sum(float(image.boxes.sum()) + int(image.label.sum()) for image in read_objects(str(path), difficult=True))


def read_similar(path: Path) -> int:
    return len(SimilarClasses.read(path, ("cat", "dog", "horse", "cow")).to("horse"))


# ---- default boxes


def _layout() -> Layout:
    sources = (
        Source("fine", 8, 12, 8.0, 8.0, Shapes((5.0, 8.0))),
        Source("coarse", 2, 3, 32.0, 32.0, Shapes((20.0,), (33.0,), (2.0,))),
    )
    return Layout("net", 64, 96, sources)


@cache
def boxes_files() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        write_boxes(Path(folder) / "boxes.json", _layout())
        return [(Path(folder) / "boxes.json").read_bytes()]


def measure_boxes(path: Path) -> float:
    objects = Objects(np.array([[9.0, 6, 28, 25], [48, 32, 86, 40]]), np.array([1, 1]), np.array([0, 0]), {1: "cat"}, 1)
    return float(reach.measure(layout_with(_layout(), read_boxes(path)), objects).best.sum())


# ---- runs, as the report reads them

METRICS = b"""iteration,seconds,phase,loss,learning_rate,images_per_second,detection_eval,AP cat
0,0.5,train,17.25,0.001,12.5,,
10,1.5,test,,,,0.25,0.25
10,2.5,train,7.25,0.001,12.5,,
"""
LOG = b"""I1126 03:41:05.123456  4711 solver.cpp:266] Solving net
I1126 03:41:05.123456  4711 solver.cpp:218] Iteration 0 (0 iter/s, 0s/10 iters), loss = 17.25
I1126 03:41:05.200000  4711 solver.cpp:237]     Train net output #0: mbox_loss = 17.25 (* 1 = 17.25 loss)
I1126 03:41:05.223456  4711 sgd_solver.cpp:105] Iteration 0, lr = 0.001
I1126 03:41:09.123456  4711 solver.cpp:330] Iteration 10, Testing net (#0)
I1126 03:41:10.123456  4711 solver.cpp:397]     Test net output #0: detection_eval = 0.25
"""
REACH = b"""{"net": {"by size": {"0-8": {"reached": 0.25, "objects": 12}, "8-16": {"reached": 1.0, "objects": 3}}},
"proposed": {"by size": {"0-8": {"reached": 0.75, "objects": 12}, "8-16": {"reached": null, "objects": 0}}}}
"""
SPEED = b"""{"machine": "a CPU", "precision": "fp32", "models": [{"name": "SSD300", "input": "300 x 300", "net": 12.5,
"nms": 0.5, "decoding_nms": 1, "parameters": 26285486, "operations": 31400000000}]}
"""


def read_run(place: str) -> Callable[[Path], int]:
    """The curves of a run's directory, drawn; the file under test is `place` in it."""

    def read(path: Path) -> int:
        root = path.parent / "run"
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / "results").mkdir(exist_ok=True)
        (root / "results" / "comp4_det_test_cat.txt").write_bytes(VOC_RESULTS)
        (root / place).write_bytes(path.read_bytes())
        run = find_run("run", root)
        figures = training_figure({"run": [run.curves]} if run.curves else {}), reach_figure({"run": run.boxes or {}})
        # not as SVG, which takes nearly all of the time
        return sum(len(axes.lines) for figure in figures if figure is not None for axes in figure.axes)

    return read


def read_speed(path: Path) -> float:
    rows = speed_file.read(path)["models"]
    return math.fsum(row["net"] for row in rows)


# ---- snapshots


@cache
def _snapshot() -> Mapping[str, bytes]:
    net = caffe_pb2.NetParameter(name="net")
    net.layer.add(name="ip", type="InnerProduct")
    with tempfile.TemporaryDirectory() as folder:
        stem = Path(folder) / "net_iter_10"
        weights, state = stem.with_suffix(".caffemodel"), stem.with_suffix(".solverstate")
        write_weights(weights, net, [[np.ones((2, 3), "f4")]])
        write_solver_state(state, SolverState(10, weights.name, [np.ones((2, 3), "f4")], 0))
        checksums.write(stem.with_suffix(".sha256"), [weights, state])
        return {path.name: path.read_bytes() for path in (weights, state, stem.with_suffix(".sha256"))}


def checksum_files() -> Sequence[bytes]:
    return [_snapshot()["net_iter_10.sha256"]]


def resume(path: Path) -> int:
    """Resumes from a whole snapshot beside which the file under test has its checksums."""
    for name, data in _snapshot().items():
        path.with_name(name).write_bytes(data)
    path.with_name("net_iter_10.sha256").write_bytes(path.read_bytes())
    state, _ = snapshot_files.read_whole(str(path.with_name("net_iter_10.solverstate")))
    return state.iter


BEST = b'{"iteration": 120, "output": "detection_eval", "score": 0.71}'


def read_best(path: Path) -> float:
    prefix = path.with_name("net")
    path.with_name("net_best.json").write_bytes(path.read_bytes())
    path.with_name("net_best.caffemodel").write_bytes(b"")
    best = BestWeights(caffe_pb2.SolverParameter(snapshot_prefix=str(prefix)))
    best.resume()
    if best.best is None:
        raise CaffeError(f"{path}: refused with a warning")
    return best.best.score
