"""What is trained: the arms of the comparison, and the settings that all of them share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from caffe.errors import CaffeError
from caffe.files import write_text

NETWORKS = ("ssd300", "mdssd300")
_SNAPSHOTS_PER_POINT = 2


@dataclass(frozen=True)
class Arm:
    """One side of the comparison.

    boxes: the released SSD's, or those that design_boxes finds. start: `trunk`, all but the prediction heads from a
    trained SSD, as in the paper; or `function` (MDSSD alone), weights that compute at first what that SSD computes.
    longer: trained for as much time as MDSSD takes, in place of as many iterations.
    """

    network: str
    boxes: str
    start: str = "trunk"
    longer: bool = False

    @property
    def name(self) -> str:
        """Its name in folders, tables and --arms."""
        return "-".join(
            [self.network, self.boxes, *(["function"] if self.start == "function" else []), *["longer"] * self.longer]
        )


#: all arms by name, in the order in which they are trained
ARMS = {
    arm.name: arm
    for arm in (
        Arm("ssd300", "released"),
        Arm("mdssd300", "released"),
        Arm("ssd300", "designed"),
        Arm("mdssd300", "designed"),
        Arm("ssd300", "released", longer=True),
        Arm("ssd300", "designed", longer=True),
        Arm("mdssd300", "released", start="function"),
        Arm("mdssd300", "designed", start="function"),
    )
}
#: the arms that the question needs; the others are asked for by name
DEFAULT_ARMS = tuple(name for name, arm in ARMS.items() if arm.start == "trunk")


@dataclass(frozen=True)
class Plan:
    """The settings that decide the numbers; those of an experiment that has begun stay as they are.

    folder: the data set in VOC's layout; weights: the trained SSD300; points: how often a training is scored, at even
    distances and at its end; gpu: a device number, or `none`; annoset: more flags of convert_annoset for the training
    images.
    """

    data: str
    folder: str
    width: str
    weights: str
    iterations: int
    points: int
    batch: int
    base_lr: float
    augmentation: str
    gpu: str
    precision: str
    annoset: str = ""

    def save(self, path: Path) -> None:
        """Writes the plan, or checks that it is the one at `path`. Raises CaffeError if it is not."""
        if not path.exists():
            write_text(path, json.dumps(asdict(self), indent=1) + "\n")
            return
        begun = Plan.read(path)
        changed = [f.name for f in fields(self) if getattr(self, f.name) != getattr(begun, f.name)]
        if changed:
            what = ", ".join(f"{n} {getattr(begun, n)!r}, not {getattr(self, n)!r}" for n in changed)
            raise CaffeError(f"{path.parent}: this experiment has begun with {what}. Name another folder with --out")

    @staticmethod
    def read(path: Path) -> Plan:
        """The plan at `path`. Raises CaffeError if it is none."""
        try:
            return Plan(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CaffeError(f"{path} is not a plan of this program: {error}") from None

    def snapshot_interval(self, iterations: int) -> int:
        """Iterations between snapshots in a training of that length: what a killed one loses at most."""
        return max(1, iterations // (_SNAPSHOTS_PER_POINT * self.points))

    def checkpoints(self, iterations: int) -> list[int]:
        """The snapshots that are scored; the last is that of the end."""
        between = self.snapshot_interval(iterations) * _SNAPSHOTS_PER_POINT
        return sorted({*(min(between * i, iterations) for i in range(1, self.points)), iterations})


@dataclass(frozen=True)
class Run:
    """The training of an arm with a seed, and the folder of its files."""

    arm: Arm
    seed: int
    folder: Path


def runs(out: Path, arms: list[Arm], seeds: list[int]) -> Iterator[Run]:
    """All trainings, a seed at a time, so that a part of them is a comparison already."""
    for seed in seeds:
        for arm in arms:
            yield Run(arm, seed, out / "runs" / arm.name / f"seed{seed}")
