"""What the same box in every picture would score: the least that a detector has to beat.

Where every picture shows one large object near its middle, a detector that has learned where objects are, and nothing
of what they look like, gets a high average precision. The number says how high.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from caffe.detection import voc

#: boxes as shares of an image's sides, [n, 4]: xmin, ymin, xmax, ymax
Shares = NDArray[np.float64]
#: more training boxes than this are sampled
_CANDIDATES = 500


def best_box(images: Sequence[Shares], threshold: float = 0.5) -> Shares:
    """The box, [4], that finds an object in most of the training `images`: their mean box, or one of their boxes.

    Raises ValueError if there is no box.
    """
    boxes = np.concatenate([np.empty((0, 4)), *images])
    if not len(boxes):
        raise ValueError("no boxes")
    step = -(-len(boxes) // _CANDIDATES)
    candidates = np.concatenate([boxes.mean(axis=0, keepdims=True), boxes[::step]])
    hits = np.zeros(len(candidates), np.int64)
    for objects in images:
        if len(objects):
            hits += np.stack([_overlaps(box, objects) for box in candidates]).max(axis=1) >= threshold
    best: Shares = candidates[hits.argmax()]
    return best


def constant_box_score(
    train: Mapping[str, Sequence[Shares]],
    truth: voc.GroundTruth,
    sizes: Mapping[str, tuple[int, int]],
    *,
    eleven_points: bool,
) -> dict[str, float]:
    """AP of each class if its best box for the training images is detected once in every test image.

    train: each class's boxes, by image. sizes: (height, width) of the test images. All scores are equal, so detections
    rank in the order of the images. Classes without training boxes have an AP of 0.
    """  # fmt: skip
    scores = {}
    for name, images in train.items():
        if not any(map(len, images)):
            scores[name] = 0.0
            continue
        box = best_box(images)
        sides = np.array(
            [[width, height] * 2 for height, width in (sizes[image] for image in truth.images)], np.float64
        )
        found = voc.Detections(truth.images, np.ones(len(truth.images)), box * sides)
        scores[name] = voc.score_class(name, found, truth, eleven_points=eleven_points).average_precision
    return scores


def _overlaps(box: Shares, objects: Shares) -> NDArray[np.float64]:
    lower, upper = np.maximum(box[:2], objects[:, :2]), np.minimum(box[2:], objects[:, 2:])
    shared = np.clip(upper - lower, 0, None).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (objects[:, 2:] - objects[:, :2]).prod(axis=1) - shared
    return np.asarray(shared / np.maximum(union, 1e-12))
