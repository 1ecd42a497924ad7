"""A whole run: what is printed, in which order the steps are called, and how it ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from caffe.files import write_text
from caffe.recipe.commands import PICTURES, Place, Step, preparation, results, training
from caffe.recipe.rule import Recipe
from caffe.recipe.steps import Steps, command_line, fingerprint
from caffe.recipe.summary import compared
from caffe.recipe.survey import Survey
from caffe.recipe.training import best_snapshot, keep_apart, newest, run_training


class Run:
    """One run in the directory `out`: its place, its recipe, and the steps that come of them.

    `root` is the checkout, `flags` are those of import_annotations.
    """

    def __init__(
        self, out: Path, root: Path, folder: Path, recipe: Recipe, data: Survey, flags: Sequence[str], seed: int
    ) -> None:
        self.place, self.recipe, self.data, self.folder = Place(out), recipe, data, folder
        self.name = re.sub(r"[^\w-]", "_", folder.name) or "own"
        self.before = preparation(self.place, root, folder, self.name, recipe, data, flags, seed)

    def show(self) -> None:
        """Prints all commands; the snapshot that is tested is not known yet, and the last one stands for it."""
        for step in (*self.before, training(self.place, self.recipe), *self._after(self._last)):
            print("", f"# {step.title}", *map(command_line, step.commands), sep="\n")

    def run(self) -> None:
        """Runs the steps that are not done. Raises KeyboardInterrupt if one of them was stopped."""
        place, recipe = self.place, self.recipe
        place.out.mkdir(parents=True, exist_ok=True)
        total = len(self.before) + 1 + len(self._after(self._last))
        steps = Steps(place.out, total, fingerprint(self.folder, place.out))
        for step in self.before:
            steps(step)
            if step.name == "lmdb":
                databases = steps.state
        keep_apart(place, databases)
        first = self.iteration
        steps(
            training(place, recipe),
            lambda words: _train(words, recipe.max_iter, first),
            finished=lambda: newest(place, recipe)[0] >= recipe.max_iter,
        )
        best, why = best_snapshot(place, recipe)
        print(f"\nThe best snapshot: {why}")
        self._list_pictures()
        for step in self._after(best):
            steps(step)
        print(f"\n{compared(place)}")

    @property
    def iteration(self) -> int:
        """How far training has got."""
        return newest(self.place, self.recipe)[0]

    @property
    def _last(self) -> Path:
        return Path(f"{self.place.prefix(self.recipe)}_iter_{self.recipe.max_iter}.caffemodel")

    def _after(self, best: Path) -> list[Step]:
        return results(self.place, self.name, self.recipe, best, self.data)

    def _list_pictures(self) -> None:
        lines = (self.place.data / "lists/test.txt").read_text(encoding="utf-8").splitlines()[:PICTURES]
        images = [self.place.data / line.split()[0] for line in lines]
        write_text(self.place.out / "pictures.txt", "".join(f"{image}\n" for image in images))


def _train(words: list[str], wanted: int, first: int) -> int:
    if first >= wanted:
        print(f"Nothing to do: there is a snapshot of iteration {first:,}")
        return 0
    return run_training(words, wanted, first)
