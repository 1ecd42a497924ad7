"""What train_own chooses for a data set and a machine."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from caffe.data.formats.dataset import AnnotatedImage, Object
from caffe.data.formats.splitting import Split
from caffe.errors import CaffeError
from caffe.recipe.checkout import checkout
from caffe.recipe.rule import Machine, Weights, Wishes, choose, read_start
from caffe.recipe.survey import Survey, survey
from tests.processes import ROOT

DATA = Survey(160, 40, Counter(cat=200), small=0.0, tiny=0.0, smallest=("cat", 0.0), least_reached=("cat", 1.0))
NARROW = Weights(Path("narrow.caffemodel"), True, Fraction(1, 8), 300)
VGG = Weights(Path("vgg.caffemodel"), False, Fraction(1), None)
CPU, GPU = Machine(2), Machine(16, 0, 80 << 30)


def test_large_objects_on_two_cores() -> None:
    recipe = choose(DATA, CPU, NARROW, Wishes())
    assert (recipe.network, recipe.batch, recipe.max_iter, recipe.design) == ("ssd300", 8, 2400, "")
    assert (recipe.solver_type, recipe.base_lr, recipe.step, recipe.interval) == ("Adam", 0.0005, 1800, 400)
    assert len(recipe.reasons) == 6


@pytest.mark.parametrize(
    ("changes", "machine", "weights", "network", "design"),
    [
        ({"small": 0.1}, CPU, NARROW, "mdssd300", "module1"),
        ({"small": 0.09}, CPU, NARROW, "ssd300", ""),
        ({"small": 0.05, "smallest": ("dog", 0.5)}, CPU, NARROW, "mdssd300", "module1"),
        ({"least_reached": ("dog", 0.9)}, CPU, NARROW, "ssd300", "all"),
        ({"small": 0.5, "tiny": 0.3}, GPU, VGG, "mdssd512", "module1"),
        ({"small": 0.5, "tiny": 0.3}, GPU, NARROW, "mdssd300", "module1"),  # the weights are for 300
        ({"small": 0.5, "tiny": 0.3}, CPU, VGG, "mdssd300", "module1"),
    ],
)
def test_network_and_boxes(
    changes: dict[str, Any], machine: Machine, weights: Weights, network: str, design: str
) -> None:
    recipe = choose(replace(DATA, **changes), machine, weights, Wishes())
    assert (recipe.network, recipe.design) == (network, design)


@pytest.mark.parametrize(
    ("images", "machine", "wanted"),
    [
        (10, CPU, 2400),
        (500, CPU, 6000),
        (100_000, CPU, 12_000),
        (160, GPU, 6000),
        (16_000, GPU, 50_000),
        (1e6, GPU, 120_000),
    ],
)
def test_schedules(images: float, machine: Machine, wanted: int) -> None:
    data = replace(DATA, train_images=int(images))
    recipe = choose(data, machine, VGG, Wishes())
    assert recipe.max_iter == wanted
    assert recipe.max_iter % recipe.interval == 0


def test_a_small_gpu_has_a_part_of_the_batch_at_a_time() -> None:
    assert choose(DATA, GPU, VGG, Wishes()).images_per_gpu is None
    small = choose(DATA, Machine(8, 1, 4 << 30), VGG, Wishes())
    assert small.images_per_gpu is not None
    assert 0 < small.images_per_gpu < small.batch == 32
    assert small.gpu == 1


def test_wishes() -> None:
    recipe = choose(DATA, CPU, NARROW, Wishes("mdssd300", max_iter=7, batch=4))
    assert (recipe.network, recipe.max_iter, recipe.batch, recipe.interval) == ("mdssd300", 7, 4, 1)
    with pytest.raises(CaffeError, match=r"-network ssd512, but 'narrow\.caffemodel' is for an input of 300"):
        choose(DATA, CPU, NARROW, Wishes("ssd512"))


def test_what_weights_are() -> None:
    found = read_start(ROOT / "demo/pretrain/ssd300_narrow.caffemodel")
    assert (found.detector, found.width, found.size) == (True, Fraction(1, 8), 300)


def test_survey() -> None:
    """Sizes are those at an input of 300, whatever the image's."""

    def image(*boxes: tuple[float, float, float, float], name: str = "cat") -> AnnotatedImage:
        return AnnotatedImage(Path("a.jpg"), [Object(name, *box) for box in boxes], (600, 1200))

    # 15, 30, and 200 pixels at the input; one outside the image; a dog as wide as it, and a pixel high
    train = [image((0, 0, 60, 30), (400, 100, 520, 160)), image((0, 0, 800, 400)), image((1300, 0, 1400, 10)),
             image((0, 300, 1200, 302), name="dog")]  # fmt: skip
    found = survey(Split(train, [image((0, 0, 9, 9))], ""), checkout() / "models/SSD300/VOC/deploy.prototxt")
    assert (found.train_images, found.test_images, found.objects) == (4, 1, {"cat": 5, "dog": 1})
    assert [found.small, found.tiny] == pytest.approx([3 / 4, 1 / 4])
    assert found.smallest == ("dog", 1.0)
    assert found.least_reached == ("dog", 0.0)
    empty = survey(Split([image()], [image()], ""), checkout() / "models/SSD300/VOC/deploy.prototxt")
    assert (empty.small, empty.smallest, empty.least_reached) == (0.0, ("", 0.0), ("", 1.0))
