"""What testing accumulates over its batches, and how it is logged (Solver::TestClassification, TestDetection)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from caffe import log
from caffe.detection.average_precision import AP_VERSIONS, average_precision
from caffe.errors import CaffeError
from caffe.solver.number_format import loss_suffix, ostream_number

Array = npt.NDArray[np.float32]


class ClassificationScores:
    """Every element of every output, averaged over the batches."""

    def __init__(self, outputs: Sequence[str], loss_weights: Mapping[str, float]) -> None:
        self.outputs = list(outputs)
        self._weights = loss_weights
        self._sums: dict[str, Array] = {}
        self._batches = 0

    def add(self, blobs: Mapping[str, Tensor]) -> None:
        """Takes one batch's output blobs, by name. Raises CaffeError if a blob's size has changed since the first."""
        for name in self.outputs:
            values = blobs[name].detach().float().cpu().numpy().reshape(-1)
            if name not in self._sums:
                self._sums[name] = values.copy()
            elif self._sums[name].size != values.size:
                raise CaffeError(
                    f"testing: output '{name}' had {self._sums[name].size} values in the first batch and {values.size} in "
                    f"batch {self._batches}, so they cannot be averaged. For a net that ends in DetectionEvaluate set "
                    'eval_type: "detection" in the solver; otherwise consume the blob with a Silence layer'
                )
            else:
                self._sums[name] += values
        self._batches += 1

    def means(self) -> dict[str, Array]:
        """The average of each output's elements, flat."""
        return {name: total / np.float32(self._batches) for name, total in self._sums.items()}

    def report(self) -> dict[str, float]:
        """Logs the averages; returns those of one element, by name."""
        single, index = {}, 0
        for name, mean in self.means().items():
            for value in mean:
                log.info(
                    "solver.cpp:425",
                    f"    Test net output #{index}: {name} = {ostream_number(value)}"
                    f"{loss_suffix(self._weights.get(name, 0.0), value)}",
                )
                index += 1
            if mean.size == 1:
                single[name] = float(mean[0])
        return single


def check_ap_version(ap_version: str) -> None:
    """Raises CaffeError for a version of average precision that does not exist."""
    if ap_version not in AP_VERSIONS:
        raise CaffeError(f"solver: unknown ap_version '{ap_version}'; known: {', '.join(AP_VERSIONS)}")


def check_detection_output(name: str, shape: Sequence[int]) -> None:
    """Raises CaffeError if a test net's output cannot be scored with eval_type "detection"."""
    if not shape or shape[-1] != 5:
        raise CaffeError(
            f"testing with eval_type: \"detection\": output '{name}' has shape {tuple(shape)}, but every "
            "output must come from a DetectionEvaluate layer (rows of 5); consume others with a Silence layer"
        )


class DetectionScores:
    """DetectionEvaluate's rows, collected over the batches and turned into average precision per class.

    A row is image, label, score, true positive, false positive; in rows of image -1, a label's number of
    objects is in the place of the score. A detection that is neither positive matched a difficult object and is not
    counted.
    """

    def __init__(self, outputs: Sequence[str], ap_version: str, per_class: bool) -> None:
        check_ap_version(ap_version)
        self.outputs = list(outputs)
        self._version = ap_version
        self._per_class = per_class
        self._objects: dict[str, dict[int, int]] = {name: defaultdict(int) for name in outputs}
        self._found: dict[str, list[Array]] = {name: [] for name in outputs}
        #: AP by label in the first output, after `report`
        self.last: dict[int, float] = {}

    def add(self, blobs: Mapping[str, Tensor]) -> None:
        """Takes one batch's output blobs, each 1 x 1 x rows x 5."""
        for name in self.outputs:
            blob = blobs[name]
            check_detection_output(name, tuple(blob.shape))
            rows = blob.detach().float().cpu().numpy().reshape(-1, 5)
            counts = rows[:, 0] == -1
            for label, objects in rows[counts][:, 1:3]:
                self._objects[name][int(label)] += int(objects)
            found = rows[~counts]
            self._found[name].append(found[(found[:, 3] != 0) | (found[:, 4] != 0)])

    def average_precisions(self, name: str) -> dict[int, float]:
        """AP by label, for the labels with objects in output `name`; 0 if nothing was found."""
        found = np.concatenate(self._found[name]) if self._found[name] else np.empty((0, 5), np.float32)
        result = {}
        for label, objects in sorted(self._objects[name].items()):
            rows = found[found[:, 1] == label]
            if not len(rows):
                log.warning("solver.cpp:524", f"Missing true_pos for label: {label}")
                result[label] = 0.0
                continue
            result[label] = average_precision(rows[:, 2], rows[:, 3] != 0, objects, self._version)
        return result

    def mean(self, name: str) -> float:
        """The mean over the labels; 0 if there are none."""
        return _mean(self.average_precisions(name).values())

    def report(self) -> dict[str, float]:
        """Logs AP per class if asked for, and the mean; returns the means by output."""
        means = {}
        for index, name in enumerate(self.outputs):
            precisions = self.average_precisions(name)
            if not index:
                self.last = precisions
            if self._per_class:
                for label, value in precisions.items():
                    log.info("solver.cpp:540", f"class{label}: {ostream_number(value)}")
            means[name] = _mean(precisions.values())
            log.info("solver.cpp:546", f"    Test net output #{index}: {name} = {ostream_number(means[name])}")
        return means


def _mean(values: Collection[float]) -> float:
    return sum(values) / len(values) if values else 0.0
