"""What scoring costs: AP, Hoiem's analysis, TIDE, the confusion matrix, plots, cases to look at, and COCO's measures.

Made results of VOC2007's size: 38,746 detections in 4,952 images, 20 classes. Processor time and memory are those of a
new process that reads the files, as `score_voc --diagnose --out` does. Goal: under 20 s and 500 MB. With --lines, one
result file of that many lines is read and scored too.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

IMAGES, DETECTIONS = 4952, 38_746
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def make(folder: Path) -> None:
    """Writes ground truth of about 3 objects per image, and detections: near objects, of wrong classes, elsewhere."""
    rng = np.random.default_rng(0)
    for sub in ("Annotations", "ImageSets/Main", "results"):
        (folder / sub).mkdir(parents=True)
    objects: list[tuple[int, int, np.ndarray[Any, Any]]] = []
    for image in range(IMAGES):
        things = []
        for _ in range(1 + rng.poisson(2)):
            label = int(min(rng.geometric(0.12) - 1, 19))
            corner = rng.integers(1, 300, 2)
            box = np.concatenate([corner, np.minimum(corner + rng.geometric(0.012, 2) + 5, 500)])
            objects.append((image, label, box))
            xmin, ymin, xmax, ymax = box.tolist()
            things.append(
                f"<object><name>{CLASSES[label]}</name><difficult>{int(rng.random() < 0.15)}</difficult><bndbox><xmin>{xmin}"
                f"</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
            )
        (folder / "Annotations" / f"{image:06}.xml").write_text(f"<annotation>{''.join(things)}</annotation>")
    (folder / "ImageSets/Main/test.txt").write_text("".join(f"{image:06}\n" for image in range(IMAGES)))
    lines: list[list[str]] = [[] for _ in CLASSES]
    for _ in range(DETECTIONS):
        image, label, box = objects[rng.integers(len(objects))]
        found = box + rng.normal(0, 8, 4)
        if rng.random() < 0.1:
            label = int(rng.integers(20))
        elif rng.random() < 0.3:
            found = found + rng.integers(-150, 150)
        xmin, ymin, xmax, ymax = np.clip(found, 1, 500).astype(int).tolist()
        lines[label].append(f"{image:06} {rng.random():.6f} {xmin} {ymin} {max(xmax, xmin)} {max(ymax, ymin)}\n")
    for name, of_class in zip(CLASSES, lines, strict=True):
        (folder / "results" / f"comp4_det_test_{name}.txt").write_text("".join(of_class))


def measure(folder: Path, out: Path) -> dict[str, Any]:
    """Runs everything in this process. Returns processor seconds of each part, and the peak of memory in MB."""
    from caffe.detection import cases, coco, confusion, hoiem, tide, voc
    from caffe.detection.coco_voc import evaluate_voc

    seconds: dict[str, float] = {}
    memory: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        seconds[name] = round(time.process_time() - start, 2)
        memory[name] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)

    with timed("reading"):
        truth = voc.read_ground_truth(folder / "Annotations", folder / "ImageSets/Main/test.txt")
        found = {name: voc.read_detections(p) for name, p in voc.find_result_files(folder / "results").items()}
    with timed("AP of VOC, 11-point and area"):
        for points in (True, False):
            scores = [voc.score_class(name, d, truth, eleven_points=points) for name, d in found.items()]
    with timed("Hoiem's analysis"):
        diagnoses = list(hoiem.diagnose(truth, found).values())
    with timed("TIDE"):
        errors = tide.tide(truth, found)
    with timed("confusion matrix"):
        matrix = confusion.confusion_matrix(truth, found)
    with timed("false, missed, best and worst"):
        cases.false_detections(truth, found, limit=12)
        cases.missed_objects(truth, found, limit=12)
        cases.best_and_worst(cases.image_scores(truth, found), 12)
    with timed("plots, SVG and PNG"):
        from caffe.detection import figures

        models = {"made": diagnoses}
        for stem, figure in {
            "sizes": figures.size_figure(models),
            "aspects": figures.aspect_figure(models),
            "kinds": figures.kinds_figure(models),
            "kinds_by_class": figures.class_kinds_figure(diagnoses),
            "sensitivity": figures.sensitivity_figure(models),
            "tide": figures.tide_figure({"made": errors}),
            "confusion": figures.confusion_figure(matrix),
            "curves": figures.curve_figure(scores),
        }.items():
            figures.save(figure, out, stem)
    total = round(sum(seconds.values()), 2)
    with timed("COCO's measures by pycocotools"):
        evaluate_voc(truth, found)
    with timed("AI-TOD's measures by pycocotools"):
        evaluate_voc(truth, found, areas=coco.AITOD_AREAS, max_dets=coco.AITOD_MAX_DETS)
    return {"processor seconds": seconds, "without pycocotools": total, "peak memory so far, MB": memory}


def measure_lines(lines: int, folder: Path) -> dict[str, Any]:
    """Reads and scores one result file of many lines."""
    from caffe.detection import voc

    path = folder / "comp4_det_test_cat.txt"
    block = 100_000
    rows = "".join(
        f"{i % IMAGES:06} 0.{i:05} {i % 300 + 1} {i % 200 + 1} {i % 300 + 60} {i % 200 + 50}\n" for i in range(block)
    )  # fmt: skip
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(-(-lines // block)):
            file.write(rows)
    truth = voc.read_ground_truth(folder / "Annotations", folder / "ImageSets/Main/test.txt")
    start = time.process_time()
    score = voc.score_class("cat", voc.read_detections(path), truth, eleven_points=True)
    seconds = round(time.process_time() - start, 1)
    memory = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return {"lines": score.detections, "processor seconds": seconds, "peak memory, MB": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=0, help="also score one result file of this many lines")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:  # the new process
        folder = Path(args.inside)
        print(json.dumps(measure_lines(args.lines, folder) if args.lines else measure(folder, folder)))
        return
    from report import write_result

    with tempfile.TemporaryDirectory() as name:
        make(Path(name))
        again = [sys.executable, __file__, "--inside", name]
        figures = {
            "detections": DETECTIONS,
            "images": IMAGES,
            "classes": len(CLASSES),
            **json.loads(subprocess.run(again, check=True, capture_output=True, text=True).stdout),
        }
        if args.lines:
            run = subprocess.run([*again, "--lines", str(args.lines)], check=True, capture_output=True, text=True)
            figures["long file"] = json.loads(run.stdout)
    write_result("cpu_scoring", figures)


if __name__ == "__main__":
    main()
