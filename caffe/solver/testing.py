"""The tests that are due while training: each test net with the current weights, over its batches (Solver::TestAll)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from caffe import log
from caffe.engine.net import Net
from caffe.engine.weights import share_trained_layers_with
from caffe.errors import CaffeError, shown
from caffe.solver.label_names import LabelNames
from caffe.solver.nets import test_nets
from caffe.solver.number_format import ostream_number
from caffe.solver.scores import ClassificationScores, DetectionScores, check_ap_version, check_detection_output
from caffe.solver.watchers import Tested, Watchers

_EVAL_TYPES = ("classification", "detection")


class Testing:
    """The test nets of a SolverParameter, and their best scores so far.

    `layerwise` as in Solver; `watchers` are told of each test. Raises CaffeError for an unknown eval_type or ap_version, a
    net that cannot be built, or (eval_type "detection") one whose outputs are not those of DetectionEvaluate.
    """

    def __init__(self, param: Any, *, layerwise: bool, watchers: Watchers | None = None) -> None:
        if param.eval_type not in _EVAL_TYPES:
            raise CaffeError(f"solver: unknown eval_type '{param.eval_type}'; known: {', '.join(_EVAL_TYPES)}")
        if param.eval_type == "detection" and param.test_iter:
            check_ap_version(param.ap_version)
        self._param = param
        self._layerwise = layerwise
        self._watchers = watchers or Watchers()
        self._last: dict[str, float] = {}
        self.nets: list[Net] = []
        self._best: dict[str, tuple[float, int]] = {}

    def build(self) -> None:
        """Makes the nets."""
        for i, choice in enumerate(test_nets(self._param)):
            log.info("solver.cpp:196", f"Creating test net (#{i}) specified by {choice.source}")
            net = Net(choice.param)
            self.nets.append(net)
            if self._param.eval_type == "detection":
                for name in net.outputs:
                    check_detection_output(name, net.blobs[name].shape)

    def is_due(self, iteration: int) -> bool:
        """Whether test_interval asks for a test before this iteration (regardless of test_initialization)."""
        return bool(self._param.test_interval) and iteration % self._param.test_interval == 0

    def start_at(self, iteration: int) -> None:
        """Moves the test data to where an uninterrupted run has it at `iteration`."""
        done = 0
        if self._param.test_interval and iteration:
            done = -(-iteration // self._param.test_interval) - (not self._param.test_initialization)
        for net, batches in zip(self.nets, self._param.test_iter, strict=False):
            for layer in net.source_layers:
                layer.start_at(done * batches)

    def run(
        self, index: int, trained: Net, iteration: int, stop: Callable[[], bool], alive: Callable[[], None]
    ) -> dict[str, float] | None:
        """Tests net `index` with the weights of `trained`, and logs the scores as eval_type asks.

        Before each batch `stop` is asked whether to end the test; after each, `alive` is called. Returns the scores of
        one element by output, None for a test that was ended.
        """
        log.info("solver.cpp:433", f"Iteration {iteration}, Testing net (#{index})")
        net, began = self.nets[index], time.monotonic()
        share_trained_layers_with(net, trained)
        scores: ClassificationScores | DetectionScores
        if self._param.eval_type == "detection":
            scores = DetectionScores(net.outputs, self._param.ap_version, self._param.show_per_class_result)
        else:
            scores = ClassificationScores(net.outputs, net.blob_loss_weights)
        batches = self._param.test_iter[index]
        loss = 0.0
        for _ in range(batches):
            if stop():
                log.info("solver.cpp:494", "Test interrupted.")
                return None
            batch_loss, outputs = self._forward(net, self._watchers.wanted_blobs(net, index))
            loss += batch_loss
            scores.add(outputs)
            self._watchers.test_batch(net, index, outputs)
            alive()
        if self._param.test_compute_loss:
            log.info("solver.cpp:499", f"Test loss: {ostream_number(loss / batches)}")
        self._last = scores.report()
        classes = _by_name(scores, net) if isinstance(scores, DetectionScores) else {}
        result = Tested(iteration, index, self._last, classes, time.monotonic() - began)
        self._watchers.tell(lambda watcher: watcher.tested(result))
        self._compare(result)
        return self._last

    def resume(self, tests: Iterable[Tested]) -> None:
        """Takes the scores of a run's tests before it was resumed into account, so that its best ones stay known."""
        for result in tests:
            self._last = dict(result.scores)
            self._compare(result)

    def _compare(self, result: Tested) -> None:
        for name, value in result.scores.items():
            if name not in self._best or value > self._best[name][0]:
                self._best[name] = (value, result.iteration)

    def log_best(self) -> None:
        """Logs the highest of each score so far."""
        for name, (value, iteration) in self._best.items():
            log.info(log.here(), f"Highest {name} in testing: {ostream_number(value)}, after {iteration} iterations.")

    def in_short(self) -> tuple[str, str]:
        """The first score of the last test and its best so far, and a shorter form; both empty before the first test."""
        for name, value in self._last.items():
            best, iteration = self._best[name]
            what = "mAP" if self._param.eval_type == "detection" else name
            if max(abs(value), abs(best)) > 1:
                return (f"{what} {ostream_number(value)}",) * 2
            return f"{what} {value:.4f} (best {best:.4f} at {iteration})", f"{what} {value:.3f} (best {best:.3f})"
        return "", ""

    def _forward(self, net: Net, keep: Sequence[str]) -> tuple[float, dict[str, Tensor]]:
        with torch.no_grad():
            if self._layerwise:
                loss = net.forward_layers()
                return loss, {name: net.blobs[name].data_tensor() for name in (*net.outputs, *keep)}
            loss_tensor, outputs = net(keep=keep)
        return (float(loss_tensor) if self._param.test_compute_loss else 0.0), outputs


def _by_name(scores: DetectionScores, net: Net) -> dict[str, float]:
    """AP by the class's name in the first output, logged in one line where a label map has the names."""
    names = LabelNames(net)
    found = {names.of(label): value for label, value in scores.last.items()}
    if names.known and found:
        each = ", ".join(f"{shown(name)} {value:.4f}" for name, value in found.items())
        log.info(log.here(), f"AP by class: {each}")
    return found
