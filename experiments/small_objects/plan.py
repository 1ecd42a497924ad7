"""The arms of the comparison, and the settings that they share."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from caffe.errors import CaffeError, shown
from caffe.files import write_text
from experiments.small_objects.decoder_control import CONTROLS, MDSSD_CONTROLS

NETWORKS = ("ssd300", "mdssd300")
#: the networks by the approximate size of their input
FAMILIES = {
    "300": ("ssd300", "mdssd300", "ssd321", "dssd321", "dsod300"),
    "512": ("ssd512", "mdssd512", "ssd513", "dssd513"),
}
BOXES = ("released", "designed")
#: the ending of a network's name without the deep sides of its modules
SHALLOW = "-shallow"
_SNAPSHOTS_PER_POINT = 2


@dataclass(frozen=True)
class Arm:
    """One side of the comparison.

    network: the name of a generator, or of a control: `mdssd300-shallow`, MDSSD without the deep sides of its modules,
    or a DSSD or MDSSD with the ending of a control of its modules (decoder_control.py). boxes: those of the released models, or
    those that design_boxes proposes. start: `trunk`, everything except the prediction heads from a trained SSD, as in
    the paper; `function`, weights that initially compute what that SSD computes, where new heads consider the background
    likely (the generators' --start_from); or `scratch`, random numbers from the fillers of the prototxt, with batch
    normalization in all networks (normalization.py). longer: trained for the same time as MDSSD, instead of the same
    number of iterations.
    """

    network: str
    boxes: str
    start: str = "trunk"
    longer: bool = False

    @property
    def generator(self) -> str:
        """The name of the network's program in prototxt_gen/, which is also that of the network that has its sources."""
        return self.network.partition("-")[0]

    @property
    def control(self) -> str | None:
        """The control of DSSD's or MDSSD's modules, if it is one."""
        ending = self.network.partition("-")[2]
        return ending if ending in CONTROLS | MDSSD_CONTROLS else None

    @property
    def flags(self) -> list[str]:
        """The flags of that program that select the network.

        The networks on ResNet-101 get default boxes that are centered on their cells, like those of the others, and
        DSSD a single training of all its layers.
        """
        flags = ["--without_deep_side"] if self.network.endswith(SHALLOW) else []
        if self.network.startswith(("ssd321", "ssd513", "dssd")):
            flags += ["--offset", "centered"]
        if self.network.startswith("dssd"):
            flags.append("--from_scratch")
        return flags

    @property
    def model(self) -> str:
        """The name of what is trained, which the costs depend on: without the start, except from random numbers."""
        return "-".join([self.network, self.boxes, *["scratch"] * (self.start == "scratch")])

    @property
    def mdssd(self) -> Arm:
        """MDSSD300 with the same boxes and start, whose time the `longer` arms get."""
        return replace(self, network="mdssd300", longer=False)

    @property
    def name(self) -> str:
        """The name in directories, tables and --arms."""
        start = [] if self.start == "trunk" else [self.start]
        return "-".join([self.network, self.boxes, *start, *["longer"] * self.longer])


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
        Arm("mdssd300-shallow", "designed", start="scratch"),
        Arm("ssd300", "designed", start="scratch", longer=True),
        *(Arm(f"dssd321-{control}", "designed", start="scratch") for control in CONTROLS),
        *(Arm(f"mdssd300-{control}", "designed", start="scratch") for control in MDSSD_CONTROLS),
        *(
            Arm(network, boxes, start="scratch")
            for boxes in BOXES
            for networks in FAMILIES.values()
            for network in networks
        ),
    )
}
#: names for several arms of one kind of boxes
GROUPS = {
    **{f"families-{size}": networks for size, networks in FAMILIES.items()},
    "families": tuple(network for networks in FAMILIES.values() for network in networks),
}
#: the arms that the comparison of SSD and MDSSD needs; the others are selected by name
DEFAULT_ARMS = tuple(name for name, arm in ARMS.items() if arm.start == "trunk" and arm.network in NETWORKS)


def select(names: Iterable[str], boxes: Iterable[str]) -> list[Arm]:
    """Returns the arms with these names, in order and once each. A group stands for its networks with these `boxes`.

    Raises CaffeError for an unknown name.
    """
    kinds = tuple(boxes)
    chosen: dict[str, Arm] = {}
    for name in names:
        if name in GROUPS:
            found = [Arm(network, kind, start="scratch") for kind in kinds for network in GROUPS[name]]
        elif name in ARMS:
            found = [ARMS[name]]
        else:
            close = difflib.get_close_matches(name, [*GROUPS, *ARMS], n=3, cutoff=0.4)
            raise CaffeError(
                f"--arms {shown(name)}: there is no such arm" + (f"; similar ones: {', '.join(close)}" if close else "")
                + ". --help lists them all"
            )  # fmt: skip
        chosen.update((arm.name, arm) for arm in found)
    return list(chosen.values())


@dataclass(frozen=True)
class Plan:
    """The settings that affect the results. They are fixed once an experiment has started.

    folder: the data set in VOC's layout. weights: the trained SSD300. points: how often a training is scored, at even
    intervals and at its end. gpu: a device number, or `none`. annoset: additional flags of convert_annoset for the
    training images. max_boxes: the most default boxes of a network with designed ones, or 0 for as many as it has.
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
    max_boxes: int = 0

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
