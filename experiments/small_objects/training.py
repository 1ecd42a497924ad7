"""Trains one run, resuming from its last snapshot, for as long as there is time, and scores its snapshots."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from caffe.errors import CaffeError
from caffe.files import write_text
from caffe.proto.text import read_solver
from experiments.small_objects.commands import Commands, OutOfTime
from experiments.small_objects.plan import Run
from experiments.small_objects.preparation import Folder, classes_of, complete, generate
from experiments.small_objects.scoring import score

#: a training with less time is not started, because its setup would take most of it
_LEAST_SECONDS = 20


class Training:
    """A run with its files: prototxts, snapshots, state.json (time spent) and score_<iteration>.json."""

    def __init__(self, folder: Folder, run: Run) -> None:
        self.folder, self.run = folder, run
        self.snapshots = run.folder / "snapshots"
        self.state_file = run.folder / "state.json"

    @property
    def name(self) -> str:
        """The arm and the seed."""
        return f"{self.run.arm.name}, seed {self.run.seed}"

    def iterations(self) -> int:
        """Returns the number of iterations to train."""
        return self.folder.iterations(self.run.arm)

    def reached(self) -> int:
        """Returns the iteration of the last snapshot."""
        found = [0]
        for state in self.snapshots.glob("net_iter_*.solverstate"):
            if (match := re.fullmatch(r"net_iter_(\d+)", state.stem)) and state.with_suffix(".caffemodel").exists():
                found.append(int(match[1]))
        return max(found)

    def state(self) -> dict[str, Any]:
        """Returns the `seconds` of training so far and the number of `pieces`, without pieces that were killed."""
        if not self.state_file.exists():
            return {"seconds": 0.0, "pieces": 0}
        return dict(json.loads(self.state_file.read_text(encoding="utf-8")))

    def score_file(self, iteration: int) -> Path:
        """Returns the path of the measures at a checkpoint."""
        return self.run.folder / f"score_{iteration}.json"

    def unscored(self) -> list[int]:
        """Returns the checkpoints that have not been scored."""
        checkpoints = self.folder.plan.checkpoints(self.iterations())
        return [iteration for iteration in checkpoints if not self.score_file(iteration).exists()]

    def done(self) -> bool:
        """Returns whether it has been trained and scored."""
        return not self.unscored()

    def work(self, commands: Commands) -> None:
        """Continues training and scoring. Raises OutOfTime if this has to be continued later."""
        if self.done():
            return
        iterations = self.iterations()
        last_written = "start.caffemodel" if self.run.arm.start == "function" else "solver.prototxt"
        if not (self.run.folder / last_written).exists():
            generate(
                commands, self.folder, self.run.arm, self.run.folder, iterations, self.run.seed,
                start=self.run.arm.start == "function",
            )  # fmt: skip
        complete(self.run.arm, self.run.folder)
        if self.reached() < iterations:
            self._train(commands, iterations)
        for iteration in self.unscored():
            self._score(commands, iteration)

    def _train(self, commands: Commands, iterations: int) -> None:
        commands.need(_LEAST_SECONDS)
        plan = self.folder.plan
        starts: dict[str, list[object]] = {
            "trunk": ["-weights", self.folder.trunk],
            "function": ["-weights", self.run.folder / "start.caffemodel"],
            "scratch": [],
        }
        gpu = [] if plan.gpu == "none" else ["-gpu", plan.gpu, "-graph"]
        self.snapshots.mkdir(parents=True, exist_ok=True)
        seconds = commands.run_until_stopped(
            self.run.folder / "train.log", "-m", "caffe.cli.train", "-solver", self.run.folder / "solver.prototxt",
            "-snapshot", "auto", *starts[self.run.arm.start], "-precision", plan.precision, *gpu,
        )  # fmt: skip
        before = self.state()
        state = {**before, "seconds": before["seconds"] + seconds, "pieces": before["pieces"] + 1}
        write_text(self.state_file, json.dumps(state) + "\n")
        self._remove_old_snapshots()
        if self.reached() < iterations:
            if commands.left > _LEAST_SECONDS:
                raise CaffeError(f"{self.name}: training ended after {self.reached()} of {iterations} iterations")
            raise OutOfTime

    def _remove_old_snapshots(self) -> None:
        """Removes snapshots except the last one and the weights of those that are scored."""
        last = self.reached()
        kept = {last, *self.folder.plan.checkpoints(self.iterations())}
        for path in self.snapshots.glob("net_iter_*.*"):
            iteration = int(path.stem.removeprefix("net_iter_"))
            if iteration not in kept or (path.suffix == ".solverstate" and iteration != last):
                path.unlink()

    def _score(self, commands: Commands, iteration: int) -> None:
        state = self.state()
        commands.need(state.get("scoring_seconds", 0.0) * 1.2)
        solver = read_solver(str(self.run.folder / "solver.prototxt"))
        results, plan = self.run.folder / "results", self.folder.plan
        shutil.rmtree(results, ignore_errors=True)
        gpu = [] if plan.gpu == "none" else ["-gpu", plan.gpu]
        seconds = commands.run(
            self.run.folder / "test.log", "-m", "caffe.cli.test", "-model", self.run.folder / "test.prototxt",
            "-weights", self.snapshots / f"net_iter_{iteration}.caffemodel", "-iterations", solver.test_iter[0],
            "-precision", plan.precision, *gpu,
        )  # fmt: skip
        measured = score(results, self.folder.truth(), self.folder.instances, classes_of(self.folder))
        write_text(self.state_file, json.dumps({**state, "scoring_seconds": seconds}) + "\n")
        write_text(self.score_file(iteration), json.dumps({"iteration": iteration, **measured}, indent=1) + "\n")
        shown = {name: measured["measures"][name] for name in ("XS", "S", "mAP")}
        said = ", ".join(f"{name} {100 * value:.1f}" for name, value in shown.items() if value is not None)
        print(f"  after {iteration} iterations: {said} %", flush=True)
