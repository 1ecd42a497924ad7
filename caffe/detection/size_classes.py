"""Average precision by object size within each class, as Hoiem et al. 2012 analyze detectors (MDSSD, Table IV and Fig.
6).

Each object counts as extra-small, small, medium, large or extra-large by the percentile of its area among the objects
of its class: the lowest 10 %, the next 20, 40, 20 and 10. For each of the five, AP is computed with only those objects
to be found; detections of the class's other objects are left out. Because the five groups have different numbers of
objects, precision is normalized: it is computed as if all groups had the same number of objects.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from caffe.detection.average_precision import max_integral
from caffe.detection.voc import Detections, GroundTruth, Matches, match

SIZES = ("XS", "S", "M", "L", "XL")
#: the upper end of each size, as a share of the objects of a class ordered by area
_ENDS = (0.1, 0.3, 0.7, 0.9, 1.0)
#: the number of objects that a group counts as having, per image of the set (Hoiem et al.: about the mean of a VOC
#: class)
OBJECTS_PER_IMAGE = 0.15


def size_of_objects(truth: GroundTruth, name: str) -> dict[tuple[str, int], str]:
    """The size of each object of a class that has to be found, by image and index in the image."""
    keys, areas = [], []
    for image in truth.images:
        objects = truth.objects.get(name, {}).get(image)
        if objects is None:
            continue
        sides = objects.boxes[:, 2:] - objects.boxes[:, :2] + 1
        for index in np.flatnonzero(~objects.difficult).tolist():
            keys.append((image, index))
            areas.append(float(sides[index, 0] * sides[index, 1]))
    order = np.argsort(np.array(areas), kind="stable")
    result = {}
    for rank, i in enumerate(order.tolist()):
        share = (rank + 1) / len(order)
        result[keys[i]] = next(size for size, end in zip(SIZES, _ENDS, strict=True) if share <= end + 1e-9)
    return result


def normalized_average_precision(
    matches: Matches, chosen: NDArray[np.bool_], objects: int, normalize_to: float
) -> float:
    """AP_N of some objects. `chosen`, K: true positives that found one of them; `objects`: their number."""
    if not objects:
        return float("nan")
    counts = matches.false_positive | chosen
    true, false = np.cumsum(chosen[counts]), np.cumsum(matches.false_positive[counts])
    if not len(true):
        return 0.0
    recall = true / objects
    weighted = recall * normalize_to
    precision = np.divide(weighted, weighted + false, out=np.zeros_like(weighted), where=weighted + false > 0)
    return max_integral(precision, recall)


def by_size(
    truth: GroundTruth, detections: Mapping[str, Detections], objects_per_image: float = OBJECTS_PER_IMAGE,
    threshold: float = 0.5,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """AP_N by class, then by size; NaN if a class has no object of a size."""
    normalize_to = objects_per_image * len(truth.images)
    result: dict[str, dict[str, float]] = {}
    for name, found in detections.items():
        matches = match(found, truth.objects.get(name, {}), threshold)
        sizes = size_of_objects(truth, name)
        result[name] = {}
        for size in SIZES:
            chosen = np.array([key is not None and sizes[key] == size for key in matches.found], bool)
            objects = sum(s == size for s in sizes.values())
            result[name][size] = normalized_average_precision(matches, chosen, objects, normalize_to)
    return result
