"""The PASCAL VOC development kit's detection score: result files against annotations.

Boxes are in whole pixels, counted from 1, and include both border pixels. A detection is correct if it overlaps an
object of its class by 0.5 or more and no better detection has found that object. Detections of difficult objects are
not counted, and difficult objects need not be found.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffe.data.build.annotations import read_annotations
from caffe.data.image_list import read_lines
from caffe.data.label_map import AnyName
from caffe.detection.average_precision import eleven_point, max_integral
from caffe.detection.pairs import Doubles, overlapping
from caffe.errors import DataError, counted, shown


@dataclass(frozen=True)
class Objects:
    """The objects of one class in one image: boxes K×4 (corners, pixels) and which are difficult, K."""

    boxes: Doubles
    difficult: NDArray[np.bool_]


@dataclass(frozen=True)
class GroundTruth:
    """What there is to find: `images` in the order of the list, `objects[class][image]`."""

    images: tuple[str, ...]
    objects: Mapping[str, Mapping[str, Objects]]

    @cached_property
    def classes(self) -> list[str]:
        return sorted(self.objects)

    def count(self, name: str) -> int:
        """Objects of a class that have to be found."""
        return sum(int((~o.difficult).sum()) for o in self.objects.get(name, {}).values())


@dataclass(frozen=True)
class Detections:
    """Detections of one class: image of each, score K, boxes K×4 (corners, pixels)."""

    images: tuple[str, ...]
    scores: Doubles
    boxes: Doubles


@dataclass(frozen=True)
class Matches:
    """Detections of a class, best score first: which are correct.

    `true_positive` and `false_positive`, K: both false if a difficult object was found.
    """

    scores: Doubles
    true_positive: NDArray[np.bool_]
    false_positive: NDArray[np.bool_]


@dataclass(frozen=True)
class ClassScore:
    """The score of one class: its curve, best detection first, and the area under it."""

    name: str
    average_precision: float
    precision: Doubles
    recall: Doubles
    objects: int
    detections: int


# ---- reading


def in_layout(folder: str | Path, name: str) -> tuple[Path, Path]:
    """Returns the directory of annotations and the list `name` (test, say) of a data set in VOC's layout.

    Raises DataError, with the lists that there are, if there is no such list.
    """
    lists = Path(folder, "ImageSets", "Main")
    if not (lists / f"{name}.txt").is_file():
        there = ", ".join(sorted(path.stem for path in lists.glob("*.txt"))[:10])
        found = f"its lists: {there}" if there else "it should have JPEGImages, Annotations and ImageSets/Main"
        raise DataError(f"'{folder}' has no list '{name}' (ImageSets/Main/{name}.txt); {found}")
    return Path(folder, "Annotations"), lists / f"{name}.txt"


def read_ground_truth(annotations: str | Path, image_list: str | Path) -> GroundTruth:
    """Reads the XML annotation of every image of an ImageSets list (one name per line; a second column such as ±1 is
    ignored).

    Raises DataError for a list or annotations that are missing or broken; all broken ones are listed.
    """
    folder = Path(annotations)
    images = tuple(line.split()[0] for _, line in read_lines(image_list))
    names = AnyName()
    objects: dict[str, dict[str, Objects]] = {}
    faults: list[str] = []
    for image in images:
        path = folder / f"{image}.xml"
        try:
            annotation = read_annotations(path, "xml", names)
        except DataError as error:
            faults.append(f"{path}: {error}")
            continue
        faults += [f"{path}: {fault}" for fault in annotation.faults]
        for label in {box.label for box in annotation.boxes}:
            of_class = [box for box in annotation.boxes if box.label == label]
            objects.setdefault(names.seen[label], {})[image] = Objects(
                np.array([[b.xmin, b.ymin, b.xmax, b.ymax] for b in of_class], np.float64),
                np.array([b.difficult for b in of_class], bool),
            )
    if faults:
        shown = "\n  ".join(faults[:20]) + (f"\n  and {len(faults) - 20} more" if len(faults) > 20 else "")
        raise DataError(f"cannot score against the annotations in {folder}:\n  {shown}")
    return GroundTruth(images, objects)


def read_detections(path: str | Path) -> Detections:
    """Reads a result file of one class: lines `image score xmin ymin xmax ymax`. A DataError names a bad line.

    Memory: 48 bytes per line, so that files of millions of lines can be read.
    """
    names: dict[str, str] = {}  # each image's name is kept once
    images: list[str] = []
    values = array("d")
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                fields = line.split()
                if not fields:
                    continue
                try:
                    if len(fields) != 6:
                        raise ValueError
                    row = [float(v) for v in fields[1:]]
                except ValueError:
                    raise DataError(
                        f"result file '{path}', line {number}: '{shown(line.strip(), 80)}' is not `image score xmin ymin "
                        "xmax ymax`"
                    ) from None
                if not all(map(isfinite, row)):
                    raise DataError(
                        f"result file '{path}', line {number}: '{shown(line.strip(), 80)}' has a number that is not "
                        "finite. Did the training diverge?"
                    )
                values.extend(row)
                images.append(names.setdefault(fields[0], fields[0]))
    except OSError as error:
        raise DataError(f"cannot read result file '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"result file '{path}' is not a text file") from None
    table = np.frombuffer(values, np.float64).reshape(-1, 5) if values else np.zeros((0, 5))
    return Detections(tuple(images), table[:, 0], table[:, 1:])


def ends_with_a_line(path: str | Path) -> bool:
    """Whether a result file's last line ends, or it has none. Otherwise it may have been cut within a number."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        return file.read() in (b"", b"\n", b"\r")


def find_result_files(folder: str | Path, prefix: str = "comp4_det_test_") -> dict[str, Path]:
    """The result files of a folder by class; raises DataError if there are none."""
    found = {p.stem[len(prefix) :]: p for p in sorted(Path(folder).glob(f"{prefix}*.txt"))}
    if not found:
        if not Path(folder).is_dir():
            raise DataError(f"'{folder}' is not a directory; result files {prefix}<class>.txt should be in it")
        deeper = next(Path(folder).glob(f"*/{prefix}*.txt"), None)
        if deeper is not None:
            raise DataError(
                f"no result files {prefix}<class>.txt in '{folder}'; give '{deeper.parent}', which has some"
            )
        raise DataError(
            f"no result files {prefix}<class>.txt in '{folder}'. DetectionOutput writes them after all images of the "
            "test set: is num_test_image right, and test_iter times batch_size large enough?"
        )
    return found


# ---- scoring


def check_detections(name: str, detections: Detections, truth: GroundTruth) -> None:
    """Raises DataError for detections in images that the ground truth does not have, and for numbers that are not finite."""
    unknown = set(detections.images).difference(truth.images)
    if unknown:
        raise DataError(
            f"class '{name}': {counted(len(unknown), 'image')} with detections but not in the image list, e.g. '{min(unknown)}'. "
            "Are the results from another data set, or were names and sizes listed in another order?"
        )
    if not (np.isfinite(detections.scores).all() and np.isfinite(detections.boxes).all()):
        raise DataError(f"class '{name}': a detection has a score or a corner that is not finite")


def match(detections: Detections, objects: Mapping[str, Objects], threshold: float = 0.5) -> Matches:
    """Assigns the detections of a class, best score first, to its objects (by image).

    A detection belongs to the object that it overlaps most, even if a better detection has already found that object.
    """
    order = np.argsort(-detections.scores, kind="stable")
    index = {image: i for i, image in enumerate(objects)}
    nowhere = len(index)  # the images without an object of the class
    images = np.fromiter((index.get(image, nowhere) for image in detections.images), np.int64, len(order))
    counts = [len(found.boxes) for found in objects.values()]
    pairs = overlapping(
        images[order],
        detections.boxes[order],
        np.cumsum([0, *counts, 0], dtype=np.int64),
        np.concatenate([found.boxes for found in objects.values()] or [np.zeros((0, 4))]),
        threshold,
    )
    # of each detection's pairs, the largest overlap; of equal ones, the first object
    best = np.lexsort((pairs.objects, -pairs.overlaps, pairs.detections))
    ranks, first = np.unique(pairs.detections[best], return_index=True)
    found = pairs.objects[best][first]
    difficult = np.concatenate([o.difficult for o in objects.values()] or [np.zeros(0, bool)])[found]
    true, false = np.zeros(len(order), bool), np.ones(len(order), bool)
    false[ranks[difficult]] = False
    wanted = ranks[~difficult]
    earliest = np.unique(found[~difficult], return_index=True)[1]
    true[wanted[earliest]] = True
    return Matches(detections.scores[order], true, false & ~true)


def curve(matches: Matches, objects: int) -> tuple[Doubles, Doubles]:
    """Precision and recall after each detection that counts, best first."""
    counts = matches.true_positive | matches.false_positive
    true = np.cumsum(matches.true_positive[counts])
    return true / np.arange(1, len(true) + 1), true / max(objects, 1)


def score_class(
    name: str, detections: Detections, truth: GroundTruth, *, eleven_points: bool, threshold: float = 0.5
) -> ClassScore:
    """Scores one class; `eleven_points`: AP as in VOC 2007, else the area under the curve, as from 2010 on.

    Raises DataError for detections in images that are not in the list.
    """
    check_detections(name, detections, truth)
    objects = truth.count(name)
    precision, recall = curve(match(detections, truth.objects.get(name, {}), threshold), objects)
    area = 0.0
    if objects and len(precision):
        area = (eleven_point if eleven_points else max_integral)(precision, recall)
    return ClassScore(name, area, precision, recall, objects, len(detections.scores))
