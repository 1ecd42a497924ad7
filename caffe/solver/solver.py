"""The training loop: iterations, tests, snapshots, and their log (caffe/solver.cpp)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from caffe import log
from caffe.engine.net import Net
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from caffe.proto.text import to_text
from caffe.runtime import runtime, set_random_seed
from caffe.solver import snapshots
from caffe.solver.best import BestWeights
from caffe.solver.divergence import LossNotFiniteError
from caffe.solver.exchange import Alone, Exchange
from caffe.solver.gradients import Gradients
from caffe.solver.graphed_step import GraphedStep
from caffe.solver.graphed_step import obstacle as graph_obstacle
from caffe.solver.nets import training_net
from caffe.solver.number_format import ostream_number
from caffe.solver.policies import LearningRatePolicy
from caffe.solver.progress import Progress
from caffe.solver.requests import Action
from caffe.solver.run_snapshots import RunSnapshots
from caffe.solver.smoothing import SmoothedLoss
from caffe.solver.testing import Testing
from caffe.solver.training_log import log_batch, log_outputs, log_pace
from caffe.solver.updates import rule_for
from caffe.solver.watchers import Displayed, Watcher, Watchers


class Solver:
    """Trains the net of a SolverParameter.

    `layerwise` runs the net layer by layer, so that every blob's data and diff can be read afterwards, as pycaffe
    promises; otherwise the graph runs as a whole. `exchange` averages the gradients of several ranks. `requests` is
    asked after each iteration whether to stop or snapshot. `solve` that ends with an error leaves a snapshot of the last
    iteration if its weights are good. A loss that is not finite ends training with a CaffeError
    unless `stop_on_nonfinite` is false. `watchers` are told of displays and tests on rank 0.

    `best` keeps the best weights by the tests' scores. `keep` is the number of snapshots that stay on disk, None for
    all. `overwrite`: those that are there now go as soon as the first of this run is whole. `skip_iterations` moves the
    data on, to other records than an uninterrupted run would read.
    """

    def __init__(
        self,
        param: Any,
        *,
        layerwise: bool = False,
        exchange: Exchange | None = None,
        requests: Callable[[], Action] = lambda: Action.NONE,
        stop_on_nonfinite: bool = True,
        best: BestWeights | None = None,
        keep: int | None = None,
        overwrite: bool = False,
        skip_iterations: int = 0,
        watchers: Iterable[Watcher] = (),
    ) -> None:
        self.param = caffe_pb2.SolverParameter()
        self.param.CopyFrom(param)
        self._info("solver.cpp:63", "Initializing solver from parameters: \n" + to_text(self.param))
        self._check()
        self.layerwise = layerwise
        self._watchers = Watchers(watchers)
        self._testing = Testing(self.param, layerwise=layerwise, watchers=self._watchers)
        self.requests = requests
        self.stop_on_nonfinite = stop_on_nonfinite
        self._best = best
        self._skip_iterations = skip_iterations
        self._exchange = exchange or Alone()
        self._seed()
        self._policy = LearningRatePolicy(self.param)
        choice = training_net(self.param)
        self._info("solver.cpp:96", f"Creating {choice.source}")
        self.net = Net(choice.param)
        if self.is_root:
            self._testing.build()
        net = self.net
        self._rule = rule_for(self.param.type)(self.param, net.learnable_params, net.params_lr, net.params_weight_decay)
        self.iter = 0
        self._smoothed = SmoothedLoss(self.param.average_loss)
        self._stop = Action.NONE
        self._kept = RunSnapshots(
            self.param, net, self._write_snapshot, lambda: self.iter, keep=keep, overwrite=overwrite
        )
        self._gradients = Gradients(net, self._exchange, self._check_loss, layerwise=layerwise)
        self._graphed: GraphedStep | None = None
        self._cannot_graph = False
        self._callbacks: list[tuple[Callable[[], object], Callable[[], object]]] = []
        self._progress = Progress(0, enabled=False)
        self._exchange.watch(net.learnable_params)
        if skip_iterations:
            self._place_data()
        self._info("solver.cpp:75", "Solver scaffolding done.")

    @property
    def type(self) -> str:
        """The name of the update rule: SGD, Adam, …"""
        return str(self.param.type)

    @property
    def is_root(self) -> bool:
        """Whether this rank is the one that tests, snapshots and logs."""
        return runtime.rank == 0

    @property
    def test_nets(self) -> list[Net]:
        """The nets that are tested, on rank 0; on other ranks none."""
        return self._testing.nets

    @property
    def history(self) -> list[Tensor]:
        """The update rule's history, in the order of a solver state."""
        return self._rule.history

    @property
    def terminated(self) -> bool:
        """Whether training stopped early because the system ends the process."""
        return self._stop is Action.TERMINATE

    # ---- training

    def solve(self, resume_file: str | None = None) -> None:
        """Trains from the current iteration (or `resume_file`'s) to max_iter, with a snapshot and a test at the end."""
        self._info("solver.cpp:294", f"Solving {self.net.name}")
        self._info("solver.cpp:295", f"Learning Rate Policy: {self.param.lr_policy}")
        self._policy.check()
        if not self.param.HasField("max_iter"):
            raise CaffeError("solver: max_iter is not given; it is the number of iterations after which training ends")
        if resume_file:
            self._info("solver.cpp:301", f"Restoring previous solver status from {resume_file}")
            self.restore(resume_file)
        if self.is_root:
            snapshots.check_writable(self.param, at_end=True)
        self._exchange.share(self.net.learnable_params)
        images = log_batch(self.net, self.param.iter_size)
        began = time.monotonic()
        first = self.iter
        self._watchers.tell(lambda watcher: watcher.begins(first, images))
        self._testing.resume(self._watchers.earlier_tests())
        self._kept.begin()
        runtime.results_are_secondary = True
        try:
            self._solve(images)
        except LossNotFiniteError as error:
            if self.is_root:
                error.aside = self._kept.set_aside()
            raise
        except Exception as error:
            self._graphed = None  # its memory may be what is missing
            if self.is_root and (elsewhere := self._exchange.divergence()) is not None:
                diverged = self._not_finite(*elsewhere)
                diverged.aside = self._kept.set_aside()
                raise diverged from error
            if self.is_root:
                self._kept.rescue()
            raise
        finally:
            runtime.results_are_secondary = False
            self._watchers.tell(lambda watcher: watcher.ends())
        self._log_summary(first, time.monotonic() - began)

    def _solve(self, images: int) -> None:
        enabled = None if self.is_root else False
        with Progress(self.param.max_iter, self.iter, images=images, enabled=enabled) as self._progress:
            self._progress.note(*self._testing.in_short())
            self.step(self.param.max_iter - self.iter)
            scheduled = self.param.snapshot and self.iter % self.param.snapshot == 0 and not self._kept.error
            due = self._stop.stops or self.param.snapshot_after_train or self._kept.error
            if due and not self._kept.written() and not scheduled:
                self.snapshot()
            if self._stop.stops:
                self._info("solver.cpp:316", "Optimization stopped early.")
                return
            if self.param.display and self.iter % self.param.display == 0:
                self._smoothed.add(self._gradients.loss())  # after the last update, for the log only
                loss = ostream_number(self._smoothed.value)
                self._info("solver.cpp:332", f"Iteration {self.iter}, loss = {loss}")
            if self._testing.is_due(self.iter):
                self.test_all()
        self._info("solver.cpp:337", "Optimization Done.")

    def step(self, iterations: int) -> None:
        """Trains for `iterations` more iterations, with the tests, snapshots and log lines that are due."""
        self._policy.check()
        self._stop = Action.NONE
        self._kept.keep_statistics()
        self._smoothed.clear()
        stop = self.iter + iterations
        while self.iter < stop:
            if self._testing.is_due(self.iter) and (self.iter > 0 or self.param.test_initialization):
                self.test_all()
                if self._stop.stops:
                    break
            with ExitStack() as changing:
                self._one_iteration(changing)
            request = self._exchange.agree(self.requests(), self.iter)
            due = self.param.snapshot and self.iter % self.param.snapshot == 0
            if due or request is Action.SNAPSHOT:
                if self.is_root:
                    self._kept.try_to_write()
                self._exchange.wait_for_root()
            if request.stops:
                self._stop = request
                break

    def _one_iteration(self, changing: ExitStack) -> None:
        """Makes one update; enters `changing` in the given stack while weights and iteration do not agree."""
        self._seed_iteration()
        display = bool(self.param.display) and self.iter % self.param.display == 0
        for on_start, _ in self._callbacks:
            on_start()
        self._exchange.begin(self.iter)
        debug = display and self.param.debug_info
        graphed = None if debug or self._callbacks else self._graphed_step()
        if graphed is not None:
            batches = graphed.next_batches()
            changing.enter_context(self._kept.changing())
            rate = self._policy.rate(self.iter, self._smoothed.value)
            loss, outputs = graphed.run(batches, rate, self.iter)
            self._check_loss(loss, batches=self.param.iter_size, updated=True)
        else:
            loss, outputs = self._gradients.compute(self.param.iter_size, debug=debug)
        loss /= self.param.iter_size
        self._smoothed.add(loss)
        self._exchange.finish()
        if display and self.is_root:
            self._info("solver.cpp:243", f"Iteration {self.iter}, loss = {ostream_number(self._smoothed.value)}")
            single = log_outputs(self.net, outputs)
        for _, on_gradients_ready in self._callbacks:
            on_gradients_ready()
        if graphed is not None:
            self._log_rate(rate)
        else:
            changing.enter_context(self._kept.changing())
            rate = self.apply_update()
        self.iter += 1
        self._progress.advance(loss=self._smoothed.value, lr=rate)
        if display and self.is_root:
            row = Displayed(self.iter - 1, self._smoothed.value, rate, single)
            self._watchers.tell(lambda watcher: watcher.displayed(row))

    def _graphed_step(self) -> GraphedStep | None:
        """Runs an iteration as one CUDA graph; None if that was not asked for or is not possible."""
        if not runtime.graph or self.layerwise or self.net.device.type != "cuda":
            return None
        if self._graphed is None and not self._cannot_graph:
            reason = graph_obstacle(self.param, self.net, runtime.world_size)
            if reason:
                self._cannot_graph = True
                self._info(log.here(), f"CUDA graph: iterations run without one, because {reason}")
            else:
                self._graphed = GraphedStep(
                    self.net, self._rule, self.param.iter_size, keep_updates=self.param.snapshot_diff
                )
        return self._graphed

    def add_callback(self, on_start: Callable[[], object], on_gradients_ready: Callable[[], object]) -> None:
        """Calls the first before each iteration, the second when its gradients are ready, before the update."""
        self._callbacks.append((on_start, on_gradients_ready))

    def apply_update(self) -> float:
        """Updates the weights from the gradients in the net, at this iteration's learning rate; returns it."""
        rate = self._policy.rate(self.iter, self._smoothed.value)
        if self._policy.name == "plateau":  # it follows the loss, which differs between ranks
            rate = float(self._exchange.from_root(f"rate_{self.iter}", repr(rate)))
        self._log_rate(rate)
        self._rule.apply(rate, self.iter, keep_updates=self.layerwise or self.param.snapshot_diff)
        return rate

    def _log_rate(self, rate: float) -> None:
        if self.is_root and self.param.display and self.iter % self.param.display == 0:
            self._info("sgd_solver.cpp:138", f"Iteration {self.iter}, lr = {ostream_number(rate)}")

    def _check_loss(self, loss: float, batches: int = 1, updated: bool = False) -> None:
        """Ends training at a loss, of the last `batches` batches, that is not finite.

        `updated`: the weights have been moved already, a graph's update being part of it.
        """
        if math.isfinite(loss) or not self.stop_on_nonfinite:
            return
        records = [key for layer in self.net.source_layers for key in layer.record_keys(batches)]
        raise self._not_finite(loss, records, batches, updated=updated)

    def _not_finite(
        self, loss: float, records: Sequence[str], batches: int, *, updated: bool = False
    ) -> LossNotFiniteError:
        rate = self._policy.rate(self.iter, self._smoothed.value)
        return LossNotFiniteError(loss, self.iter, rate, records, batches, self._kept.newest, updated=updated)

    # ---- testing

    def test_all(self) -> None:
        """Tests every test net with the current weights, and logs the scores."""
        if self.is_root:
            self._kept.say_how_far_behind()
            for i in range(len(self.test_nets)):
                if not self._stop.stops:
                    self.test(i)
        self._stop = self._exchange.wait_for_root(self._stop)

    def test(self, index: int = 0) -> None:
        """Tests one test net over its test_iter batches, and logs the scores as eval_type asks."""
        scores = self._testing.run(index, self.net, self.iter, self._interrupted, self._exchange.alive)
        self._progress.note(*self._testing.in_short())
        if index == 0 and scores is not None and self._best is not None:
            with self._kept.writing():
                enough = self._best.tested(self.net, self.test_nets[0], scores, self.iter)
            if enough and not self._stop.stops:
                self._stop = Action.STOP

    def _interrupted(self) -> bool:
        while (request := self.requests()) is not Action.NONE:
            if request is Action.SNAPSHOT:
                self._kept.try_to_write()
            else:
                self._stop = request
        return self._stop.stops

    # ---- snapshots

    def snapshot(self) -> None:
        """Writes weights and solver state of the current iteration under snapshot_prefix."""
        if self.is_root:
            self._kept.write()

    def _write_snapshot(self, param: Any) -> str:
        weights, _ = snapshots.save(param, self.net, self.iter, self._policy, self.history)
        return weights

    def last_resort(self) -> None:
        """Writes the last whole iteration from another thread, while this one's is stuck; it must not go on."""
        self._kept.last_resort()

    def restore(self, path: str) -> None:
        """Continues from a solver state: weights, history, iteration, learning rate, position in the data.

        With several ranks, rank 0 reads the file.
        """
        if self.is_root:
            self.iter = snapshots.load(path, self.net, self._policy, self.history, self._rule.histories)
        self._exchange.share([*self.net.learnable_params, *self.history])
        state = json.loads(self._exchange.from_root("restored", json.dumps([self.iter, self._policy.state])))
        self.iter, self._policy.state = state
        self._place_data()
        self._testing.start_at(self.iter)
        if self.is_root:
            self._policy.log_resumed(self.iter)

    def _place_data(self) -> None:
        for layer in self.net.source_layers:
            layer.start_at((self.iter + self._skip_iterations) * self.param.iter_size)

    def _seed_iteration(self) -> None:
        """Seeds dropout's generator from the iteration, so that a run resumed at any of them draws the same numbers."""
        torch.manual_seed(hash((runtime.data_seed(), self.iter, runtime.rank)) & 0x7FFFFFFFFFFFFFFF)

    # ---- log

    def _info(self, where: str, message: str) -> None:
        if self.is_root:
            log.info(where, message)

    def _log_summary(self, first: int, seconds: float) -> None:
        if self.is_root:
            log_pace(self.iter - first, seconds)
            self._testing.log_best()
        if self._kept.newest:
            self._info(log.here(), f"Weights: {self._kept.newest[1]}")

    # ---- checks

    def _seed(self) -> None:
        if self.param.random_seed >= 0:
            set_random_seed(self.param.random_seed)
        elif runtime.seed is None:
            set_random_seed(runtime.data_seed())
            self._info(
                log.here(), f"Random seed {runtime.seed}: put it into the solver as random_seed to repeat this run."
            )

    def _check(self) -> None:
        p = self.param
        if p.average_loss < 1:
            raise CaffeError(f"solver: average_loss is {p.average_loss}; it must be at least 1")
        if p.iter_size < 1:
            raise CaffeError(f"solver: iter_size is {p.iter_size}; it must be at least 1")
        rule_for(p.type)
        if self.is_root:
            snapshots.check_writable(p)
