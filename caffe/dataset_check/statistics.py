"""The numbers of a data set: objects by class and size, their shapes, and how many there are in an image."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe.dataset_check.findings import TINY, Checked, Findings

#: groups of the number of objects in an image: from, to
PER_IMAGE = ((0, 0), (1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, 50), (51, 10**9))


def per_image_names() -> list[str]:
    """The names of the groups in PER_IMAGE."""
    names = [str(low) if low == high else f"{low} to {high}" for low, high in PER_IMAGE[:-1]]
    return [*names, f"{PER_IMAGE[-1][0]} and over"]


@dataclass(frozen=True)
class _Objects:
    """The n objects of all sets: indices of set, image (over all sets) and class, sides [n, 2] in pixels of the image,
    and size at the net's input (nan without a net, or without area)."""

    sets: NDArray[np.int64]
    images: NDArray[np.int64]
    classes: NDArray[np.int64]
    sides: NDArray[np.float64]
    size: NDArray[np.float64]


def statistics(findings: Findings) -> dict[str, Any]:
    """Returns the numbers as JSON takes them: by set, by class and by number of objects."""
    objects = _objects(findings)
    return {
        "sets": {each.name: _of_set(each) for each in findings.sets},
        "classes": {name: _of_class(index, findings, objects) for index, name in enumerate(findings.class_names)},
    }


def _of_set(each: Checked) -> dict[str, Any]:
    counts = [len(classes) for classes in each.classes]
    sizes = Counter(f"{image.size[1]} x {image.size[0]}" for image in each.images if image.size != (0, 0))
    groups = [sum(low <= count <= high for count in counts) for low, high in PER_IMAGE]
    return {
        "images": len(counts),
        "objects": sum(counts),
        "objects per image": dict(zip(per_image_names(), groups, strict=True)),
        "most common image sizes": dict(sizes.most_common(5)),
    }


def _objects(findings: Findings) -> _Objects:
    numbers = {name: index for index, name in enumerate(findings.class_names)}
    sets, images, classes, sides, sizes = [], [], [], [], []
    count = 0
    for index, each in enumerate(findings.sets):
        for image, names in zip(each.images, each.classes, strict=True):
            height, width = image.size
            sets += [index] * len(names)
            images += [count] * len(names)
            classes += [numbers[name] for name in names]
            sides.append((image.corners[:, 2:] - image.corners[:, :2]) * [width, height])
            sizes.append(_at_input(image.corners, findings))
            count += 1
    return _Objects(
        np.array(sets, np.int64), np.array(images, np.int64), np.array(classes, np.int64),
        np.concatenate([np.empty((0, 2)), *sides]), np.concatenate([np.empty(0), *sizes]),
    )  # fmt: skip


def _at_input(corners: NDArray[np.float32], findings: Findings) -> NDArray[np.float64]:
    """The square root of each object's area inside the image, in pixels of the input."""
    if findings.layout is None:
        return np.full(len(corners), np.nan)
    inside = np.clip(corners, 0, 1).astype(np.float64)
    sides = (inside[:, 2:] - inside[:, :2]) * [findings.layout.width, findings.layout.height]
    return np.where((sides > 0).all(axis=1), np.sqrt(np.maximum(sides, 0).prod(axis=1)), np.nan)


def _of_class(index: int, findings: Findings, objects: _Objects) -> dict[str, Any]:
    own = objects.classes == index
    by_set = {each.name: own & (objects.sets == number) for number, each in enumerate(findings.sets)}
    sides = objects.sides[own]
    sides = sides[(sides > 0).all(axis=1)]
    result: dict[str, Any] = {
        "objects": {name: int(chosen.sum()) for name, chosen in by_set.items()},
        "images": {name: len(np.unique(objects.images[chosen])) for name, chosen in by_set.items()},
        "width": _quartiles(sides[:, 0]),
        "height": _quartiles(sides[:, 1]),
        "aspect ratio": _quartiles(sides[:, 0] / sides[:, 1]),
    }
    if findings.layout is not None:
        size = objects.size[own]
        size = size[np.isfinite(size)]
        result["size at the input"] = _quartiles(size)
        result["under"] = {str(limit): int((size < limit).sum()) for limit in TINY}
    return result


def _quartiles(values: NDArray[np.float64]) -> list[float] | None:
    """Minimum, quartiles and maximum, rounded; None if there are no values."""
    if not len(values):
        return None
    return [round(float(value), 2) for value in np.percentile(values, (0, 25, 50, 75, 100))]
