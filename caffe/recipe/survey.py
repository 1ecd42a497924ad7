"""What the rule needs to know about a data set."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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
    #: share of the training objects that SSD300's released default boxes reach (overlap of 0.5)
    reached: float


def survey(parts: Split, ssd300: Path) -> Survey:
    """Measures a divided data set; `ssd300` is the deploy net of the released SSD300."""
    layout = read_layout(ssd300)
    corners, images = [], []
    for index, image in enumerate(parts.train):
        height, width = image.size
        for each in image.objects:
            corners.append((each.xmin / width, each.ymin / height, each.xmax / width, each.ymax / height))
            images.append(index)
    shares = np.clip(np.array(corners, np.float64).reshape(-1, 4), 0, 1)
    inside = (shares[:, 2:] > shares[:, :2]).all(axis=1)
    sides = [layout.width, layout.height] * 2
    found = Objects(
        shares[inside] * sides, np.ones(int(inside.sum()), np.int64), np.array(images, np.int64)[inside],
        {1: "object"}, len(parts.train),
    )  # fmt: skip
    counts = Counter(each.name for image in (*parts.train, *parts.test) for each in image.objects)
    if not len(found):
        return Survey(len(parts.train), len(parts.test), counts, 0.0, 0.0, 1.0)
    return Survey(
        len(parts.train), len(parts.test), counts,
        small=float((found.size < SMALL).mean()), tiny=float((found.size < SMALL / 2).mean()),
        reached=float((measure(layout, found).best >= THRESHOLD).mean()),
    )  # fmt: skip
