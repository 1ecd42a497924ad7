"""DetectionEvaluate: which detections are true or false positives; the solver computes average precision from it."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe import log
from caffe.data.name_size import read_name_sizes
from caffe.detection.image_boxes import in_image
from caffe.detection.same_boxes import SameBoxes
from caffe.engine.layer import Layer, Shape, SourceLayer, register
from caffe.engine.layer_types.forks import frcnn_evaluation
from caffe.engine.layer_types.shapes import text

Floats = NDArray[np.float32]


@register
class DetectionEvaluate(Layer):
    """Bottoms: detections 1×1×K×7 (DetectionOutput), ground truth 1×1×M×8 (AnnotatedData).

    Top: 1×1×R×5. First one row per class: −1, label, number of positives, −1, −1. Then one row per detection, by image
    and label: image, label, score, 1 if a true positive, 1 if a false one. A detection whose best overlap is
    with a difficult object is neither, unless those are evaluated.

    With a third bottom the layer is Cascade R-CNN's: see `caffe.engine.layer_types.forks.frcnn_evaluation`.
    """

    type_name = "DetectionEvaluate"
    bottoms = (2, 3)
    dynamic_axes = MappingProxyType({2: "rows"})
    evaluates_detections = True

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.detection_evaluate_param
        if not param.HasField("num_classes") or param.num_classes < 1:
            self.fail("Must provide num_classes (background included)")
        if not param.overlap_threshold > 0:
            self.fail(f"overlap_threshold must be over 0, not {param.overlap_threshold:g}")
        self.threshold = np.float32(param.overlap_threshold)
        self.evaluate_difficult: bool = param.evaluate_difficult_gt
        # unsigned in the message; the highest number means no background at all
        self.background = -1 if param.background_label_id == 2**32 - 1 else int(param.background_label_id)
        self.classes = [c for c in range(param.num_classes) if c != self.background]
        self.resize: Any = param.resize_param if param.HasField("resize_param") else None
        self.sizes: list[tuple[int, int]] = []
        if param.name_size_file:
            with self.named_in_errors():
                self.sizes = [(e.height, e.width) for e in read_name_sizes(param.name_size_file)]
        self.regions = len(bottom) > 2
        self._same = SameBoxes()
        self._first = 0  # of self.sizes: the size of the batch's image 0

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        if self.regions:
            if problem := frcnn_evaluation.shape_problem(self.param.bottom, bottom):
                self.fail(problem)
            return [(1, 1, len(self.classes) + bottom[0][0], 5)]
        for name, shape, width in zip(self.param.bottom, bottom, (7, 8), strict=True):
            if len(shape) != 4 or shape[:2] != (1, 1) or shape[3] != width:
                self.fail(f"'{name}' is {text(shape)}; it must be 1×1×(rows)×{width}")
        return [(1, 1, len(self.classes) + bottom[0][2], 5)]

    def check_data(self, sources: Sequence[SourceLayer]) -> None:
        if self.sizes and len(sources) == 1:
            sources[0].check_sizes(self.param.detection_evaluate_param.name_size_file, self.sizes)

    def takes_gradient(self, index: int) -> bool:
        return False

    def graph_obstacle(self) -> str:
        return "evaluates on the CPU"

    def forward(self, *bottom: Tensor) -> Tensor:
        self.reshape([tuple(b.shape) for b in bottom])
        values = [b.detach().float().cpu().numpy() for b in bottom]
        if self.regions:
            size = self.sizes[self._first] if self.sizes else None
            detections, truth = frcnn_evaluation.as_rows(values[0], values[1], values[2], size)
        else:
            detections, truth = (value[0, 0] for value in values)
        rows = self.evaluate(detections, truth)
        return torch.from_numpy(rows).to(bottom[0].device)[None, None]

    def evaluate(self, detections: Floats, truth: Floats) -> Floats:
        """The rows R×5 for detections K×7 and ground truth M×8."""
        end = np.flatnonzero(truth[:, 0].astype(np.int64) == -1)
        truth = truth[: end[0]] if len(end) else truth
        num_rows = int((detections[:, 1] != -1).sum())
        valid = detections[(detections[:, 0].astype(np.int64) != -1) & (detections[:, 1] != -1)]
        self._reject_background(valid, "detection results")
        self._reject_background(truth, "dataset")

        counted = truth if self.evaluate_difficult else truth[truth[:, 7] == 0]
        result = np.zeros((len(self.classes) + num_rows, 5), np.float32)
        for row, c in zip(result, self.classes, strict=False):
            row[:] = -1, c, (counted[:, 1].astype(np.int64) == c).sum(), -1, -1

        at = len(self.classes)
        for image in np.unique(valid[:, 0].astype(np.int64)):
            of_image = valid[valid[:, 0].astype(np.int64) == image]
            truth_of_image = truth[truth[:, 0].astype(np.int64) == image]
            self._same.see(of_image[of_image[:, 2].argmax(), 3:7], truth_of_image[:, 3:7])
            for label in np.unique(of_image[:, 1].astype(np.int64)):
                group = of_image[of_image[:, 1].astype(np.int64) == label]
                objects = truth_of_image[truth_of_image[:, 1].astype(np.int64) == label]
                if len(objects):
                    group = group[np.argsort(-group[:, 2], kind="stable")]
                block = result[at : at + len(group)]
                block[:, 0], block[:, 1], block[:, 2] = image, label, group[:, 2]
                block[:, 3], block[:, 4] = self._judge(group[:, 3:7], objects, int(image))
                at += len(group)
        self._advance(detections, truth)
        if warning := self._same.warning():
            log.warning(log.here(), warning)
        return result

    def _judge(self, boxes: Floats, objects: Floats, image: int) -> tuple[Any, Any]:
        """True and false positives among boxes K×4, best score first, of one image and class."""
        if not len(objects):
            return 0, 1
        overlaps = self._overlaps(boxes, objects[:, 3:7], image)
        best = overlaps.argmax(axis=1)
        true, false = np.zeros(len(boxes), np.float32), np.zeros(len(boxes), np.float32)
        found: set[int] = set()
        for i, j in enumerate(best.tolist()):
            if not overlaps[i, j] >= self.threshold:
                false[i] = 1
            elif self.evaluate_difficult or objects[j, 7] == 0:
                (false if j in found else true)[i] = 1
                found.add(j)
        return true, false

    def _overlaps(self, boxes: Floats, objects: Floats, image: int) -> Floats:
        """Intersection over union, K×M, in pixels of the image if the sizes are known."""
        if self.regions:
            return frcnn_evaluation.overlaps(boxes, objects)
        if self.sizes:
            height, width = self.sizes[(self._first + image) % len(self.sizes)]
            boxes, areas = in_image(boxes, height, width, self.resize)
            objects, object_areas = in_image(objects, height, width, self.resize)
            border = np.float32(1)
        else:
            areas, object_areas = _areas(boxes), _areas(objects)
            border = np.float32(0)
        low = np.maximum(boxes[:, None, :2], objects[None, :, :2])
        high = np.minimum(boxes[:, None, 2:], objects[None, :, 2:])
        apart = (low > high).any(axis=2)
        sides = high - low
        sides[apart] = 0  # as in Caffe, where the intersection of disjoint boxes is the point 0, 0
        sides += border
        shared = sides[:, :, 0] * sides[:, :, 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = shared / (areas[:, None] + object_areas[None] - shared)
        result: Floats = np.where((sides > 0).all(axis=2), ratio, np.float32(0)).astype(np.float32)
        return np.nan_to_num(result, nan=-1.0, posinf=np.inf, neginf=-np.inf)

    def _advance(self, detections: Floats, truth: Floats) -> None:
        """Advances in the list of sizes by the images of the batch, those of the detections and objects."""
        if self.sizes:
            ids = np.concatenate([detections[:, 0], truth[:, 0]])
            self._first = (self._first + int(ids.max(initial=-1)) + 1) % len(self.sizes)

    def _reject_background(self, rows: Floats, what: str) -> None:
        if (rows[:, 1].astype(np.int64) == self.background).any() and self.background != -1:
            self.fail(f"Found background label {self.background} in the {what}; is background_label_id right?")


def _areas(boxes: Floats) -> Floats:
    sides = boxes[:, 2:] - boxes[:, :2]
    areas: Floats = sides[:, 0] * sides[:, 1]
    areas[(sides < 0).any(axis=1)] = 0
    return areas
