"""What the rule needs to know about a data set."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffe.data.formats.splitting import Split
from caffe.default_boxes.net_layout import read_layout
from caffe.default_boxes.objects import Objects
from caffe.default_boxes.reach import THRESHOLD, measure

#: at the input of 300 × 300 to which images are warped, objects with a smaller square root of their area are small
SMALL = 32.0


@dataclass(frozen=True)
class Survey:
    """Counts of a data set's two parts, and how large the training objects are at an input of 300 × 300."""

    train_images: int
    test_images: int
    objects: Counter[str]
    #: share of the training objects that are under SMALL, and under half of it
    small: float
    tiny: float
    #: the class with the largest share of small objects, and this share
    smallest: tuple[str, float]
    #: the class of whose training objects SSD300's released default boxes reach the least, and the share that they
    #: reach (overlap of 0.5)
    least_reached: tuple[str, float]


def survey(parts: Split, ssd300: Path) -> Survey:
    """Measures a divided data set; `ssd300` is the deploy net of the released SSD300."""
    layout = read_layout(ssd300)
    counts = Counter(each.name for image in (*parts.train, *parts.test) for each in image.objects)
    names = sorted(counts)
    rows = [
        (index, names.index(each.name), each.xmin / width, each.ymin / height, each.xmax / width, each.ymax / height)
        for index, image in enumerate(parts.train)
        for height, width in (image.size,)
        for each in image.objects
    ]
    table = np.array(rows, np.float64).reshape(-1, 6)
    corners = np.clip(table[:, 2:], 0, 1) * ([layout.width, layout.height] * 2)
    inside = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    images, labels = table[inside, 0].astype(np.int64), table[inside, 1].astype(np.int64)
    found = Objects(corners[inside], labels, images, dict(enumerate(names)), len(parts.train))
    small, reached = found.size < SMALL, measure(layout, found).best >= THRESHOLD if len(found) else np.ones(0, bool)
    classes = [(name, labels == label) for label, name in enumerate(names) if (labels == label).any()]
    return Survey(
        len(parts.train), len(parts.test), counts, small=_share(small), tiny=_share(found.size < SMALL / 2),
        smallest=max(((name, _share(small[chosen])) for name, chosen in classes), key=_second, default=("", 0.0)),
        least_reached=min(((name, _share(reached[chosen])) for name, chosen in classes), key=_second, default=("", 1.0)),
    )  # fmt: skip


def _second(pair: tuple[str, float]) -> float:
    return pair[1]


def _share(chosen: NDArray[np.bool_]) -> float:
    return float(chosen.mean()) if len(chosen) else 0.0
