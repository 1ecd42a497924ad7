"""AnnotatedData with all of SSD's augmentation, 640 × 480 photographs to 300 × 300: images a second per core.

First in this process on one core, with the share of each stage, then with worker processes. The photographs are those
of --photographs (a directory of JPEGs); if it does not exist, smooth noise of the same size.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from google.protobuf import text_format
from report import write_result

import caffe.data.augment.transform as transform
import caffe.data.feed.records as records
from caffe.data.augment.sampler import BatchSamplers
from caffe.data.feed.memory import keep_freed_memory
from caffe.data.lmdb_source import LmdbSource, LmdbWriter
from caffe.engine.layer_types.lmdb_data import AnnotatedData
from caffe.proto import caffe_pb2
from caffe.runtime import runtime

BATCH = 32
PHOTOGRAPHS = Path(__file__).resolve().parents[2] / "shared" / "data" / "bccd" / "BCCD" / "JPEGImages"
LAYER = """
name: "data" type: "AnnotatedData" top: "data" top: "label"
transform_param {{
  mirror: true mean_value: 104 mean_value: 117 mean_value: 123
  resize_param {{ resize_mode: WARP height: 300 width: 300
    interp_mode: LINEAR interp_mode: AREA interp_mode: NEAREST interp_mode: CUBIC interp_mode: LANCZOS4 }}
  emit_constraint {{ emit_type: CENTER }}
  distort_param {{ brightness_prob: 0.5 brightness_delta: 32 contrast_prob: 0.5 contrast_lower: 0.5 contrast_upper: 1.5
    hue_prob: 0.5 hue_delta: 18 saturation_prob: 0.5 saturation_lower: 0.5 saturation_upper: 1.5 }}
  expand_param {{ prob: 0.5 max_expand_ratio: 4 }}
}}
data_param {{ source: "{source}" batch_size: {batch} backend: LMDB }}
annotated_data_param {{ batch_sampler {{ max_sample: 1 max_trials: 1 }} {samplers} }}
"""
LIMITS = [f"min_jaccard_overlap: {value}" for value in (0.1, 0.3, 0.5, 0.7, 0.9)] + ["max_jaccard_overlap: 1"]
SAMPLERS = "".join(
    "batch_sampler { sampler { min_scale: 0.3 max_scale: 1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 } "
    f"sample_constraint {{ {limit} }} max_sample: 1 max_trials: 50 }}"
    for limit in LIMITS
)
#: stage: (where its function is, the function)
STAGES = {
    "read and parse": (LmdbSource, "annotated_datum"),
    "decode": (records, "decode_datum"),
    "distort": (transform, "distort"),
    "choose the crop": (BatchSamplers, "crop"),
    "crop and resize": (transform, "resize"),
    "boxes": (transform, "select"),
    "mirror, mean, planes, last boxes": (transform.Transformer, "_finish"),
}


def write_database(path: Path, folder: Path, count: int) -> str:
    """Makes an LMDB of `count` JPEGs with a dozen boxes each; returns what they are, in words."""
    rng = np.random.default_rng(0)
    files = sorted(folder.glob("*.jpg"))[:count]
    images = [file.read_bytes() for file in files]
    if not images:
        blurred = (cv2.GaussianBlur(rng.integers(0, 256, (480, 640, 3), np.uint8), (0, 0), 2) for _ in range(count))
        images = [cv2.imencode(".jpg", cv2.convertScaleAbs(each, alpha=4, beta=-380))[1].tobytes() for each in blurred]
    with LmdbWriter(path) as writer:
        for number, data in enumerate(images):
            record = caffe_pb2.AnnotatedDatum(type=caffe_pb2.AnnotatedDatum.BBOX)
            record.datum.data, record.datum.encoded, record.datum.channels = data, True, 3
            group = record.annotation_group.add(group_label=1)
            for instance in range(12):
                box = group.annotation.add(instance_id=instance).bbox
                box.xmin, box.ymin = rng.uniform(0, 0.8, 2)
                box.xmax, box.ymax = (low + rng.uniform(0.05, 0.2) for low in (box.xmin, box.ymin))
            writer.put(f"{number:08d}".encode(), record.SerializeToString())
    return f"{len(images)} photographs of {folder.name}" if files else f"{len(images)} images of smooth noise"


def make_layer(source: Path, workers: int) -> Any:
    os.environ["CAFFE_DATA_WORKERS"] = str(workers)
    runtime.seed = 1
    param = caffe_pb2.LayerParameter()
    text_format.Parse(LAYER.format(source=source, batch=BATCH, samplers=SAMPLERS), param)
    layer = AnnotatedData(param, 0)
    layer.setup([])
    return layer


def rates(run: Callable[[], object], clock: Callable[[], float], rounds: int) -> dict[str, float]:
    """Images a second for each round's batch, measured by `clock`: the median and the fastest."""
    found = []
    for _ in range(rounds):
        start = clock()
        run()
        found.append(BATCH / (clock() - start))
    return {"median": round(statistics.median(found), 1), "fastest": round(max(found), 1)}


def throughput(run: Callable[[], object], rounds: int) -> float:
    """Images a second over all rounds. (Single batches mean nothing: workers finish several at about the same time.)"""
    for _ in range(3):  # what was prepared before the clock started
        run()
    start = time.perf_counter()
    for _ in range(rounds):
        run()
    return round(BATCH * rounds / (time.perf_counter() - start), 1)


@contextmanager
def timed(seconds: dict[str, float]) -> Iterator[None]:
    """Adds up the CPU seconds of each stage."""
    originals = {}
    for stage, (owner, name) in STAGES.items():
        originals[stage] = original = getattr(owner, name)

        def wrapper(*args: Any, _original: Any = original, _stage: str = stage, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return _original(*args, **kwargs)
            finally:
                seconds[_stage] += time.process_time() - start

        setattr(owner, name, wrapper)
    yield
    for stage, (owner, name) in STAGES.items():
        setattr(owner, name, originals[stage])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS, help="directory of JPEGs of 640 × 480")
    parser.add_argument("--rounds", type=int, default=20, help=f"batches of {BATCH} to time")
    parser.add_argument(
        "--workers", default="", help="numbers of workers, separated by ',' (default: 1, 2, … the cores)"
    )
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    counts = [int(each) for each in arguments.workers.split(",") if each] or sorted(
        {count for count in (1, 2, 4, 8, 16, cores) if count <= cores}
    )
    cv2.setNumThreads(1)
    keep_freed_memory()  # as workers do
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "db"
        images = write_database(database, arguments.photographs, 200)
        layer = make_layer(database, 0)
        layer()
        by_core = rates(layer, time.process_time, arguments.rounds)
        seconds: defaultdict[str, float] = defaultdict(float)
        start = time.process_time()
        with timed(seconds):
            for _ in range(arguments.rounds):
                layer()
        total = time.process_time() - start
        layer.close()
        by_workers = {}
        for count in counts:
            layer = make_layer(database, count)
            by_workers[str(count)] = throughput(layer, arguments.rounds)
            layer.close()
    write_result(
        "cpu_annotated_data",
        {
            "images": images,
            "images_a_second_for_each_core": by_core,
            "milliseconds_an_image": {
                stage: round(value / arguments.rounds / BATCH * 1e3, 3)
                for stage, value in sorted(seconds.items(), key=lambda item: -item[1])
            }
            | {"all": round(total / arguments.rounds / BATCH * 1e3, 3)},
            "images_a_second_by_workers": by_workers,
        },
    )


if __name__ == "__main__":
    main()
