"""The numbers of a report: every score and every analysis of one model's result files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from caffe.detection import cases, coco, coco_voc, confusion, hoiem, tide, voc
from caffe.detection.average_precision import mean
from caffe.report.runs import Run


@dataclass(frozen=True)
class Operating:
    """The score at which a class has its best F1, and what it has there."""

    score: float
    f1: float
    precision: float
    recall: float


@dataclass
class Analysis:
    """One run's results against the ground truth. `eleven_points`: AP as in VOC 2007, else the area."""

    run: Run
    truth: voc.GroundTruth
    found: dict[str, voc.Detections]
    eleven_points: bool
    threshold: float
    similar: hoiem.SimilarClasses | None = None

    @cached_property
    def scores(self) -> dict[str, voc.ClassScore]:
        """The VOC score of each class with results."""
        return {
            name: voc.score_class(
                name, detections, self.truth, eleven_points=self.eleven_points, threshold=self.threshold
            )
            for name, detections in self.found.items()
        }

    @cached_property
    def mean_ap(self) -> float:
        """mAP over the classes with results."""
        return mean([score.average_precision for score in self.scores.values()])

    @cached_property
    def operating(self) -> dict[str, Operating]:
        """The best F1 of each class that has objects and detections."""
        result = {}
        for name, detections in self.found.items():
            objects = self.truth.count(name)
            if not objects or not len(detections.scores):
                continue
            matches = voc.match(detections, self.truth.objects.get(name, {}), self.threshold)
            counted = matches.true_positive | matches.false_positive
            scores = matches.scores[counted]
            precision, recall = voc.curve(matches, objects)
            if not len(scores):
                continue
            # A score is a threshold for all detections that share it: only the last of equal ones counts.
            last = np.append(scores[1:] != scores[:-1], True)
            f1 = np.where(last, 2 * precision * recall / np.maximum(precision + recall, 1e-12), -1)
            at = int(f1.argmax())
            result[name] = Operating(float(scores[at]), float(f1[at]), float(precision[at]), float(recall[at]))
        return result

    @cached_property
    def diagnoses(self) -> dict[str, hoiem.ClassDiagnosis]:
        """Hoiem's analysis, for classes with ten objects or more."""
        return hoiem.diagnose(self.truth, self.found, similar=self.similar, threshold=self.threshold)

    @cached_property
    def tide(self) -> tide.TideResult:
        """TIDE's errors."""
        return tide.tide(self.truth, self.found, threshold=self.threshold)

    @cached_property
    def coco(self) -> Mapping[str, coco.CocoScore]:
        """COCO's measures, in COCO's and in AI-TOD's groups of size."""
        return {
            "COCO": coco_voc.evaluate_voc(self.truth, self.found),
            "AI-TOD": coco_voc.evaluate_voc(
                self.truth, self.found, areas=coco.AITOD_AREAS, max_dets=coco.AITOD_MAX_DETS
            ),
        }

    @cached_property
    def confusion(self) -> confusion.ConfusionMatrix:
        """Which classes are taken for which."""
        return confusion.confusion_matrix(self.truth, self.found)

    @cached_property
    def images(self) -> list[cases.ImageScore]:
        """Each image's own AP."""
        return cases.image_scores(self.truth, self.found)


def analyze(
    run: Run,
    truth: voc.GroundTruth,
    *,
    eleven_points: bool,
    threshold: float,
    similar: hoiem.SimilarClasses | None = None,
) -> Analysis:
    """Reads a run's result files and scores them. Raises DataError for results of another data set."""
    found = {name: voc.read_detections(path) for name, path in run.results.items()}
    analysis = Analysis(run, truth, found, eleven_points, threshold, similar)
    _ = analysis.scores
    return analysis
