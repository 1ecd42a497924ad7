"""The arms of the comparison, and the settings that they share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from caffe.errors import CaffeError
from caffe.files import write_text

NETWORKS = ("ssd300", "mdssd300")
#: the ending of a network's name without the deep sides of its modules
SHALLOW = "-shallow"
_SNAPSHOTS_PER_POINT = 2


@dataclass(frozen=True)
class Arm:
    """One side of the comparison.

    network: `ssd300`, `mdssd300`, or `mdssd300-shallow`, MDSSD without the deep sides of its modules. boxes: those of
    the released SSD, or those that design_boxes proposes. start: `trunk`, everything except the prediction heads from a
    trained SSD, as in the paper; or `function`, weights that initially compute what that SSD computes, where new heads
    consider the background likely (the generators' --start_from). longer: trained for the same time as MDSSD, instead
    of the same number of iterations.
    """

    network: str
    boxes: str
    start: str = "trunk"
    longer: bool = False

    @property
    def generator(self) -> str:
        """The name of the network's program in prototxt_gen/, which is also that of the network that has its sources."""
        return self.network.removesuffix(SHALLOW)

    @property
    def flags(self) -> list[str]:
        """The flags of that program that select the network."""
        return ["--without_deep_side"] if self.network.endswith(SHALLOW) else []

    @property
    def name(self) -> str:
        """The name in directories, tables and --arms."""
        return "-".join(
            [self.network, self.boxes, *(["function"] if self.start == "function" else []), *["longer"] * self.longer]
        )


#: all arms by name, in the order of training
ARMS = {
    arm.name: arm
    for arm in (
        Arm("ssd300", "released"),
        Arm("mdssd300", "released"),
        Arm("ssd300", "designed"),
        Arm("mdssd300", "designed"),
        Arm("ssd300", "released", longer=True),
        Arm("ssd300", "designed", longer=True),
        Arm("ssd300", "released", start="function"),
        Arm("mdssd300", "released", start="function"),
        Arm("ssd300", "designed", start="function"),
        Arm("mdssd300", "designed", start="function"),
        Arm("mdssd300-shallow", "designed"),
        Arm("mdssd300-shallow", "designed", start="function"),
        Arm("ssd300", "designed", start="function", longer=True),
    )
}
#: the arms that the comparison needs; the others are selected by name
DEFAULT_ARMS = tuple(name for name, arm in ARMS.items() if arm.start == "trunk" and arm.network in NETWORKS)


@dataclass(frozen=True)
class Plan:
    """The settings that affect the results. They are fixed once an experiment has started.

    folder: the data set in VOC's layout. weights: the trained SSD300. points: how often a training is scored, at even
    intervals and at its end. gpu: a device number, or `none`. annoset: additional flags of convert_annoset for the
    training images.
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
        """Writes the plan, or raises CaffeError if there is a different one at `path`."""
        if not path.exists():
            write_text(path, json.dumps(asdict(self), indent=1) + "\n")
            return
        begun = Plan.read(path)
        changed = [f.name for f in fields(self) if getattr(self, f.name) != getattr(begun, f.name)]
        if changed:
            what = ", ".join(f"{n} {getattr(begun, n)!r}, not {getattr(self, n)!r}" for n in changed)
            raise CaffeError(
                f"{path.parent}: this experiment was started with {what}. Choose another directory with --out"
            )

    @staticmethod
    def read(path: Path) -> Plan:
        """Reads the plan at `path`. Raises CaffeError if it is not valid."""
        try:
            return Plan(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CaffeError(f"{path} is not a plan of this program: {error}") from None

    def snapshot_interval(self, iterations: int) -> int:
        """Returns the iterations between snapshots, the most that a killed training of this length loses."""
        return max(1, iterations // (_SNAPSHOTS_PER_POINT * self.points))

    def checkpoints(self, iterations: int) -> list[int]:
        """Returns the iterations whose snapshots are scored. The last one is the end."""
        between = self.snapshot_interval(iterations) * _SNAPSHOTS_PER_POINT
        return sorted({*(min(between * i, iterations) for i in range(1, self.points)), iterations})


@dataclass(frozen=True)
class Run:
    """The training of an arm with a seed, and the directory of its files."""

    arm: Arm
    seed: int
    folder: Path


def runs(out: Path, arms: list[Arm], seeds: list[int]) -> Iterator[Run]:
    """Yields all trainings, one seed after another, so that the first ones already form a comparison."""
    for seed in seeds:
        for arm in arms:
            yield Run(arm, seed, out / "runs" / arm.name / f"seed{seed}")
