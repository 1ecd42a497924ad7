"""The best weights so far by the score of the first test net, kept in `<prefix>_best.caffemodel`.

Beside them `<prefix>_best.json` says after how many iterations they were tested and with which score, so that a resumed
run goes on from there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from caffe import log
from caffe.engine.net import Net
from caffe.engine.weights import save as save_weights
from caffe.errors import CaffeError, WriteError
from caffe.files import write_text
from caffe.proto import caffe_pb2
from caffe.solver.number_format import ostream_number
from caffe.solver.snapshot_files import best_name
from caffe.solver.snapshots import check_finite


@dataclass
class Best:
    """A test's score: of which output, after how many iterations."""

    iteration: int
    output: str
    score: float


def score_of(test_net: Net, scores: Mapping[str, float], detection: bool) -> tuple[str, float, bool] | None:
    """The score that decides: its name, its value, and whether higher is better. None if a test has none.

    Detection: the mean of all outputs' mAP. Otherwise the first output of an Accuracy layer, or the first loss.
    """
    if detection:
        return (", ".join(scores), sum(scores.values()) / len(scores), True) if scores else None
    accuracies = {step.layer.param.top[0] for step in test_net.steps if step.layer.type_name == "Accuracy"}
    for name, value in scores.items():
        if name in accuracies:
            return name, value, True
    for name, value in scores.items():
        if test_net.blob_loss_weights.get(name):
            return name, value, False
    return None


class BestWeights:
    """Keeps the best weights, and tells when `patience` tests in a row had no better score (None: never)."""

    def __init__(self, param: Any, patience: int | None = None) -> None:
        self._param, self._patience = param, patience
        self.best: Best | None = None
        hdf5 = ".h5" if param.snapshot_format == caffe_pb2.SolverParameter.HDF5 else ""
        self.weights, self._note = best_name(param, f".caffemodel{hdf5}"), best_name(param, ".json")

    def resume(self) -> None:
        """Takes up the best of the run that is resumed. A file that cannot be read is left out, with a warning."""
        if not Path(self._note).exists() or not Path(self.weights).exists():
            return
        try:
            found = json.loads(Path(self._note).read_bytes())
            self.best = Best(int(found["iteration"]), str(found["output"]), float(found["score"]))
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            log.warning(
                log.here(), f"{self._note}: not readable, so the search for the best score starts again: {error}"
            )

    def forget(self) -> None:
        """Lets the scores start anew, also for later resumes; the weights stay until there are others."""
        with suppress(OSError):
            Path(self._note).unlink(missing_ok=True)

    def tested(self, net: Net, test_net: Net, scores: Mapping[str, float], iteration: int) -> bool:
        """Takes a test's scores after `iteration` iterations; keeps the weights if they are better.

        Returns whether to stop: the last `patience` tests were not better.
        """
        found = score_of(test_net, scores, self._param.eval_type == "detection")
        if found is None:
            return False
        name, score, higher = found
        before = self.best if self.best and self.best.output == name else None
        if math.isfinite(score) and (before is None or ((score > before.score) == higher and score != before.score)):
            self._keep(net, Best(iteration, name, score))
            return False
        if before is None or self._patience is None:
            return False
        tests = (iteration - before.iteration) // self._param.test_interval
        if tests < self._patience:
            return False
        log.info(
            log.here(),
            f"Stopping: {tests} tests in a row had no better score than {name} = {ostream_number(before.score)} after "
            f"{before.iteration} iterations (-patience {self._patience})",
        )
        return True

    def _keep(self, net: Net, best: Best) -> None:
        self.best = best
        if not self._param.snapshot and not self._param.snapshot_after_train:
            return  # the solver asks for no files
        try:
            check_finite(net)
            save_weights(net, self.weights)
            write_text(self._note, json.dumps(asdict(best)) + "\n")
        except WriteError as error:
            log.warning(log.here(), f"The best weights so far are not kept: {error}")
        except CaffeError as error:  # weights that are not finite, with -ignore_nonfinite
            log.warning(log.here(), f"Not kept as the best weights: {error}")
        else:
            log.info(log.here(), f"Best so far: {best.output} = {ostream_number(best.score)}; weights: {self.weights}")
