"""DetectionEvaluate of Cascade R-CNN (Cai and Vasconcelos 2018): rows in pixels of the net's input, and its size.

Bottoms: detections R × 7 (image, x1, y1, x2, y2, class, score) as of FrcnnOutput, objects M × 8 as of EvalData, and the
image's height and width in the net, 1 × 2. Boxes are compared in pixels of the original image, whose size the
name_size_file lists, and both border pixels belong to them. Ignored objects count, as in the fork.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from caffe.engine.layer import Shape
from caffe.engine.layer_types.shapes import count, text

Floats = NDArray[np.float32]


def shape_problem(names: Sequence[str], bottom: Sequence[Shape]) -> str | None:
    """What is wrong with the layer's three bottoms; None if nothing is."""
    for name, shape, width in zip(names, bottom, (7, 8, 2), strict=True):
        if not shape or count(shape, 1) != width:
            return f"'{name}' is {text(shape)}; with three bottoms it must be (rows)×{width}"
    return None if bottom[2][0] == 1 else f"'{names[2]}' is {text(bottom[2])}; it must be 1×2, of a batch of one image"


def as_rows(
    detections: Floats, objects: Floats, input_size: Floats, size: tuple[int, int] | None
) -> tuple[Floats, Floats]:
    """Detections K × 7 and objects M × 8 in the order of the SSD branch's rows, with corners in pixels.

    `size`: height and width of the original image; None: corners stay in pixels of the net's input.
    """
    high, wide = input_size.reshape(2)
    down, across = (1.0, 1.0) if size is None else (size[0] / high, size[1] / wide)
    scale = np.array([across, down, across, down], np.float32)
    found, given = detections.reshape(-1, 7), objects.reshape(-1, 8)
    given = given[given[:, 0] != -1]
    none = np.zeros((len(given), 1), np.float32)
    return (
        np.concatenate([found[:, :1], found[:, 5:], found[:, 1:5] * scale], axis=1),
        np.concatenate([given[:, :1], given[:, 5:6], none, given[:, 1:5] * scale, given[:, 7:]], axis=1),
    )


def overlaps(boxes: Floats, objects: Floats) -> Floats:
    """Intersection over union, K × M, of boxes in pixels; one that ends before it begins overlaps nothing.

    As in the fork, boxes that share one column of pixels overlap, those that share one row do not.
    """
    across, down = (
        np.minimum(boxes[:, None, axis + 2], objects[None, :, axis + 2])
        - np.maximum(boxes[:, None, axis], objects[None, :, axis])
        for axis in (0, 1)
    )
    sides = [rows[:, 2:] - rows[:, :2] for rows in (boxes, objects)]
    whole = [np.all(side >= 0, axis=1) for side in sides]
    meet = whole[0][:, None] & whole[1][None] & (across >= 0) & (down > 0)
    shared = np.where(meet, (across + 1) * (down + 1), 0)
    areas = [np.where(valid, (side + 1).prod(axis=1), 0) for valid, side in zip(whole, sides, strict=True)]
    both = areas[0][:, None] + areas[1][None] - shared
    ratios: Floats = np.divide(shared, both, out=np.zeros_like(shared), where=both > 0).astype(np.float32)
    return ratios
