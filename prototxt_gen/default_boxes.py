"""The sizes of the default boxes: the object sizes that each prediction layer is for."""

from __future__ import annotations

from itertools import pairwise

#: Percent of the input size, for conv4_3 upward: layer k has boxes from entry k (min_size) to entry k + 1 (max_size).
#: The released SSD models', with which the weights that MDSSD starts from were trained.
RELEASED = {
    ("voc", 300): (10, 20, 37, 54, 71, 88, 105),
    ("voc", 512): (7, 15, 30, 45, 60, 75, 90, 105),
    ("coco", 300): (7, 15, 33, 51, 69, 87, 105),
    ("coco", 512): (4, 10, 26, 42, 58, 74, 90, 106),
    # DSSD's; its authors have none for COCO at 321 and for VOC at 513, which have the other data set's here.
    ("voc", 321): (10, 20, 38, 56, 74, 92, 110),
    ("coco", 321): (10, 20, 38, 56, 74, 92, 110),
    ("voc", 513): (4, 10, 27, 44, 61, 78, 95, 112),
    ("coco", 513): (4, 10, 27, 44, 61, 78, 95, 112),
}


def box_sizes(scales: str, dataset: str, size: int) -> list[tuple[float, float]]:
    """(min_size, max_size) in pixels of the input, for the layers from conv4_3 upward.

    `released`: as in the released models of the data set. `linear`: the paper's "scale 0.2, the highest 0.9", which is
    equation 4 of the SSD paper. PriorBox truncates each size to whole pixels: 35.84 counts as 35.
    """
    percent: tuple[float, ...] = RELEASED[dataset, size]
    if scales == "linear":
        layers = len(percent) - 1
        percent = tuple(20 + 70 * k / (layers - 1) for k in range(layers + 1))
    pixels = [round(size * part / 100, 4) for part in percent]
    return list(pairwise(pixels))
