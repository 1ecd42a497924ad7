"""SSD300 and SSD512 as torchvision, ssd.pytorch and MMDetection keep them: names, images, classes and default boxes.

Sources: torchvision/models/detection/ssd.py; ssd.pytorch's ssd.py, data/config.py and layers/functions/prior_box.py;
MMDetection's ssd_vgg.py, ssd_neck.py, ssd_head.py, anchor_generator.py and configs/ssd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from caffe.interop.layout import Layout, pairs
from caffe.interop.preprocessing import Preprocessing

Boxes = NDArray[np.float64]

#: SSD300's and SSD512's sizes in pixels for VOC and COCO: each map's min_size, and the next one's as its max_size
SCALES = {
    (300, "voc"): (30, 60, 111, 162, 213, 264, 315),
    (300, "coco"): (21, 45, 99, 153, 207, 261, 315),
    (512, "voc"): (35, 76, 153, 230, 307, 384, 460, 537),
    (512, "coco"): (20, 51, 133, 215, 296, 378, 460, 542),
}
STEPS = {300: (8, 16, 32, 64, 100, 300), 512: (8, 16, 32, 64, 128, 256, 512)}
RATIOS = {
    300: ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    512: ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
}
#: category ids of COCO that no object has; torchvision's models have scores for them all the same
COCO_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)

#: conv1_1 to conv5_3, as in a sequence of convolutions, ReLUs and poolings
VGG_PLACES = {
    "conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7, "conv3_1": 10, "conv3_2": 12, "conv3_3": 14,
    "conv4_1": 17, "conv4_2": 19, "conv4_3": 21, "conv5_1": 24, "conv5_2": 26, "conv5_3": 28,
}  # fmt: skip


@dataclass(frozen=True)
class DetectorLayout:
    """How a framework keeps an SSD of one size.

    `layout.layers`: the backbone's by Caffe's names, then loc0, conf0, loc1, … per prediction map. `clip` changes
    default boxes (center x, center y, width, height in pixels, in place) for an image of a size. `scores(classes)`:
    which of the file's scores belongs to each class of Caffe's, or None if the file's number of classes is another.
    """

    layout: Layout
    size: int
    clip: Callable[[Boxes, int], None]
    background_last: bool = False

    @property
    def maps(self) -> int:
        return len(STEPS[self.size])

    def boxes(self, index: int, rows: int, columns: int, scales: str) -> Boxes:
        """The default boxes of one map, rows × columns × boxes × 4, as center x, center y, width, height in pixels."""
        sizes = SCALES[self.size, scales]
        smallest, between = sizes[index], sqrt(sizes[index] * sizes[index + 1])
        shapes = [(smallest, smallest), (between, between)]
        for ratio in RATIOS[self.size][index]:
            wide = (smallest * sqrt(ratio), smallest / sqrt(ratio))
            shapes += [wide, wide[::-1]]
        made = np.empty((rows, columns, len(shapes), 4))
        step = STEPS[self.size][index]
        made[..., 0] = ((np.arange(columns) + 0.5) * step)[np.newaxis, :, np.newaxis]
        made[..., 1] = ((np.arange(rows) + 0.5) * step)[:, np.newaxis, np.newaxis]
        made[..., 2:] = shapes
        self.clip(made, self.size)
        return made

    def scores(self, in_file: int, in_net: int) -> list[int] | None:
        """For each class of the net (background first), its class in the file; None if they do not correspond."""
        if in_file == in_net:
            return [in_file - 1, *range(in_file - 1)] if self.background_last else list(range(in_file))
        if in_file == 91 and in_net == 81 and not self.background_last:
            return [label for label in range(91) if label not in COCO_GAPS]
        return None


def _no_clip(boxes: Boxes, size: int) -> None:
    """MMDetection's default boxes may reach over the image, as Caffe's do."""


def _clip_sizes(boxes: Boxes, size: int) -> None:
    """torchvision: no box is wider or higher than the image."""
    np.clip(boxes[..., 2:], 0, size, out=boxes[..., 2:])


def _clip_all(boxes: Boxes, size: int) -> None:
    """ssd.pytorch: that, and no center is outside the image."""
    np.clip(boxes, 0, size, out=boxes)


def _extra(count: int) -> list[str]:
    return [f"conv{block}_{part}" for block in range(6, 6 + count) for part in (1, 2)]


def _heads(maps: int, loc: str, conf: str) -> dict[str, str]:
    return {f"{kind}{i}": name.format(i) for i in range(maps) for kind, name in (("loc", loc), ("conf", conf))}


def _torchvision() -> DetectorLayout:
    layers = {name: f"backbone.features.{place}" for name, place in VGG_PLACES.items() if place < 22}
    layers |= {f"conv5_{i}": f"backbone.extra.0.{2 * i - 1}" for i in (1, 2, 3)}
    layers |= {"fc6": "backbone.extra.0.7.1", "fc7": "backbone.extra.0.7.3"}
    layers |= {name: f"backbone.extra.{1 + i // 2}.{2 * (i % 2)}" for i, name in enumerate(_extra(4))}
    layers |= _heads(6, "head.regression_head.module_list.{}", "head.classification_head.module_list.{}")
    return DetectorLayout(
        Layout(
            "torchvision's ssd300_vgg16",
            {**pairs(layers), "conv4_3_norm": ("backbone.scale_weight",)},
            Preprocessing.of_unit_range("RGB", (0.48235, 0.45882, 0.40784), (1 / 255,) * 3),
        ),
        300,
        _clip_sizes,
    )


def _ssd_pytorch() -> DetectorLayout:
    layers = {name: f"vgg.{place}" for name, place in VGG_PLACES.items()} | {"fc6": "vgg.31", "fc7": "vgg.33"}
    layers |= {name: f"extras.{i}" for i, name in enumerate(_extra(4))}
    layers |= _heads(6, "loc.{}", "conf.{}")
    return DetectorLayout(
        Layout(
            "ssd.pytorch's SSD300",
            {**pairs(layers), "conv4_3_norm": ("L2Norm.weight",)},
            Preprocessing("RGB", (123, 117, 104)),
        ),
        300,
        _clip_all,
    )


def _mmdetection(size: int) -> DetectorLayout:
    maps = len(STEPS[size])
    layers = {name: f"backbone.features.{place}" for name, place in VGG_PLACES.items()}
    layers |= {"fc6": "backbone.features.31", "fc7": "backbone.features.33"}
    layers |= {name: f"neck.extra_layers.{i // 2}.{i % 2}.conv" for i, name in enumerate(_extra(maps - 2))}
    layers |= _heads(maps, "bbox_head.reg_convs.{}.0", "bbox_head.cls_convs.{}.0")
    return DetectorLayout(
        Layout(
            f"MMDetection's SSD{size}",
            {**pairs(layers), "conv4_3_norm": ("neck.l2_norm.weight",)},
            Preprocessing("RGB", (123.675, 116.28, 103.53)),
        ),
        size,
        _no_clip,
        background_last=True,
    )


#: by the name that a user gives, and by the size of the image
DETECTORS: dict[str, dict[int, DetectorLayout]] = {
    "torchvision_ssd300": {300: _torchvision()},
    "ssd_pytorch": {300: _ssd_pytorch()},
    "mmdetection_ssd": {300: _mmdetection(300), 512: _mmdetection(512)},
}
#: the variances of all three, as Caffe's models have them
VARIANCES = (0.1, 0.1, 0.2, 0.2)
