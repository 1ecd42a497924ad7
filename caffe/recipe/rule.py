"""Which network, width, batch and schedule fit a data set and a machine. Every choice comes with its reason.

- **Network.** MDSSD if a tenth of the training objects, or half of those of one class, are small (under 32 pixels at an
  input of 300 × 300), else SSD, which takes half the time. An input of 512 if a quarter are under 16 pixels and there is
  a GPU.
- **Default boxes.** The released ones if they reach 95 % of the training objects of every class, else ones that
  design_boxes proposes. MDSSD's first module always gets proposed ones.
- **Weights.** A narrow SSD300, an eighth of the channels, that comes with the project and has learned from drawn
  scenes. Other weights, such as VGG's, are given by the user; the width is theirs.
- **Batch.** 8 on the CPU, 32 on a GPU (16 for an input of 512), as many at a time as its memory holds.
- **Schedule.** Twelve iterations per training image, and at least 2,400 and at most 12,000, on the CPU; on a GPU 100
  passes over the training images, and 6,000 to 120,000 iterations. The rate falls to a tenth after three quarters.
- **Update rule.** Adam with a rate of 0.0005 for narrow nets, SGD with 0.001 for the full width, as in the papers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from caffe.errors import CaffeError, counted, shown
from caffe.proto.weights import read_weights
from caffe.recipe.survey import SMALL, Survey

NETWORKS = ("ssd300", "ssd512", "mdssd300", "mdssd512")
_MANY_SMALL, _MANY_SMALL_OF_A_CLASS, _MANY_TINY, _ENOUGH_REACHED = 0.1, 0.5, 0.25, 0.95
#: seconds of one core for a training iteration with an eighth of the channels and batch 8, data included
_CORE_SECONDS = {"ssd300": 0.3, "mdssd300": 0.55, "ssd512": 0.9, "mdssd512": 1.7}
#: the channels of VGG's conv5_3
_FULL = 512
_TESTS = 6


@dataclass(frozen=True)
class Machine:
    """What trains: a GPU's number and its memory in bytes, or the cores of the CPU."""

    cores: int
    gpu: int | None = None
    memory: int = 0


@dataclass(frozen=True)
class Weights:
    """A file to start from: whether it is a detector's or a classifier's, its share of VGG's channels, its input."""

    path: Path
    detector: bool
    width: Fraction
    size: int | None


@dataclass(frozen=True)
class Wishes:
    """What the user decides instead of the rule."""

    network: str = ""
    max_iter: int = 0
    batch: int = 0
    width: Fraction | None = None


@dataclass
class Recipe:
    """The choices, and the reason for each."""

    network: str
    weights: Weights
    width: Fraction
    batch: int
    images_per_gpu: int | None
    max_iter: int
    solver_type: str
    base_lr: float
    #: "" for the released default boxes, else the sources to propose boxes for ("all" for all)
    design: str
    #: iterations between tests; each has a snapshot
    interval: int
    gpu: int | None
    reasons: list[str] = field(default_factory=list)

    @property
    def step(self) -> int:
        """The iteration at which the learning rate falls."""
        return max(1, self.max_iter * 3 // 4)


def choose(data: Survey, machine: Machine, weights: Weights, wishes: Wishes) -> Recipe:
    """The recipe for a data set on a machine. Raises CaffeError for wishes that exclude each other."""
    on_gpu = machine.gpu is not None
    network, why_network = _network(data, on_gpu, weights, wishes)
    width = wishes.width or weights.width
    if width != weights.width:
        raise CaffeError(f"-width {float(width):g}, but '{weights.path}' has {float(weights.width):g} of the channels")
    mdssd, large = network.startswith("mdssd"), network.endswith("512")
    batch = wishes.batch or ((16 if large else 32) if on_gpu else 8)
    fits = None
    if on_gpu:
        # an image takes about 0.25 GB in training at 300 × 300 and full width, and as much more as it is larger
        each = 0.25e9 * (3 if large else 1) * (1.5 if mdssd else 1) * float(width)
        fits = max(1, int(0.8 * machine.memory / each))
    if wishes.max_iter:
        max_iter, why_length = wishes.max_iter, "as asked"
    elif on_gpu:
        max_iter = min(max(100 * data.train_images // batch, 6_000), 120_000)
        why_length = f"{max_iter * batch / data.train_images:,.0f} passes over {counted(data.train_images, 'image')}"
    else:
        max_iter = min(max(12 * data.train_images, 2_400), 12_000)
        core_seconds = max_iter * _CORE_SECONDS[network] * (batch / 8) * float(width * 8)
        minutes = core_seconds / min(machine.cores, 4) / 60
        why_length = (
            f"{max_iter * batch / data.train_images:,.0f} passes over "
            f"{counted(data.train_images, 'image')}; about {max(1, round(minutes)):,} to {max(2, round(1.6 * minutes)):,} "
            f"minutes on {counted(machine.cores, 'core')}"
        )
    narrow = width < Fraction(1, 2)
    design, why_boxes = _boxes(data, mdssd)
    return Recipe(
        network, weights, width, batch, fits if fits is not None and fits < batch else None, max_iter,
        "Adam" if narrow else "SGD", 0.0005 if narrow else 0.001, design, _interval(max_iter), machine.gpu,
        reasons=[
            f"network {network}: {why_network}",
            f"default boxes: {why_boxes}",
            f"{float(width):g} of the channels: those of {weights.path.name}"
            + ("" if weights.detector else ", a classifier"),
            f"batch {batch}, on {f'GPU {machine.gpu}' if on_gpu else 'the CPU'}",
            f"{max_iter:,} iterations: {why_length}",
            f"{'Adam' if narrow else 'SGD'} with a rate of {0.0005 if narrow else 0.001:g}, a tenth of it from "
            f"iteration {max(1, max_iter * 3 // 4):,}",
        ],
    )  # fmt: skip


def _interval(max_iter: int) -> int:
    """Iterations between tests, of which there are about _TESTS; the last one is at the end."""
    near = sorted(range(2, 2 * _TESTS), key=lambda tests: abs(tests - _TESTS))
    return next((max_iter // tests for tests in near if max_iter % tests == 0), max_iter)


def _network(data: Survey, on_gpu: bool, weights: Weights, wishes: Wishes) -> tuple[str, str]:
    size = 512 if on_gpu and data.tiny >= _MANY_TINY else 300
    if weights.size is not None:
        size = weights.size
    if wishes.network:
        if weights.size is not None and not wishes.network.endswith(str(weights.size)):
            raise CaffeError(f"-network {wishes.network}, but '{weights.path}' is for an input of {weights.size}")
        return wishes.network, "as asked"
    name, share = data.smallest
    small = f"small (under {SMALL:g} pixels at an input of 300)"
    why = f"{data.small:.0%} of the training objects are {small}"
    if data.small >= _MANY_SMALL:
        return f"mdssd{size}", why
    if share >= _MANY_SMALL_OF_A_CLASS:
        return (
            f"mdssd{size}",
            f"{share:.0%} of the training objects of {name} are {small}",
        )
    return f"ssd{size}", f"{why}; MDSSD is for {_MANY_SMALL:.0%} or more, or half of the objects of a class"


def _boxes(data: Survey, mdssd: bool) -> tuple[str, str]:
    name, share = data.least_reached
    least = "" if len(data.objects) == 1 else ", the least of all classes"
    reach = f"SSD300's released boxes reach {share:.0%} of the training objects of {name}{least}"
    if mdssd:
        return "module1", f"proposed for Module 1; {reach}"
    if share < _ENOUGH_REACHED:
        return "all", f"proposed; {reach}"
    return "", f"the released ones; {reach}"


def read_start(path: Path) -> Weights:
    """What a caffemodel is. Raises CaffeError if it is neither VGG's, nor an SSD's on it."""
    layers = {layer.name: layer for layer in read_weights(path)}
    if any(name.startswith("module") for name in layers):
        raise CaffeError(
            f"'{path}' has an MDSSD's weights; train_own starts from an SSD or a classifier. 'caffe train -weights' goes on "
            "with an MDSSD"
        )
    if "conv5_3" not in layers or not layers["conv5_3"].blobs:
        some = ", ".join(f"'{shown(name)}'" for name in [*layers][:3])
        raise CaffeError(f"'{path}' has no layer 'conv5_3', so it is not VGG or an SSD on it; its first layers: {some}")
    channels = layers["conv5_3"].blobs[0].shape[0]
    detector = any(name.endswith("_mbox_loc") for name in layers)
    return Weights(
        path, detector, Fraction(int(channels), _FULL), (512 if "conv10_2" in layers else 300) if detector else None
    )
