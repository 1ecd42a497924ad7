"""What a score can hide: boxes that do not depend on the image, classes never found, test images seen in training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from caffe.data.image_list import read_lines
from caffe.detection import voc
from caffe.detection.image_folder import Images
from caffe.detection.pairs import overlaps_of_pairs
from caffe.errors import DataError

#: boxes with this overlap are counted as the same; a class whose best boxes are the same in so many images is named
SAME_OVERLAP, SAME_SHARE = 0.8, 0.9
#: with fewer images nothing can be said
LEAST_IMAGES = 8
#: a score that a class never reaches is named
LOW_SCORE = 0.5

Sizes = Mapping[str, tuple[int, int]]


def image_sizes(images: Images, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Width and height of each image that can be found and read."""
    sizes = {}
    for name in names:
        try:
            with PillowImage.open(images.find(name)) as image:
                sizes[name] = image.size
        except (DataError, OSError, PillowImage.DecompressionBombError):
            continue
    return sizes


def constant_boxes(truth: voc.GroundTruth, found: Mapping[str, voc.Detections], sizes: Sizes) -> list[str]:
    """Warnings about classes whose best box is the same in nearly every image, although the objects differ.

    Boxes are compared relative to the image where its size is known, for a net's boxes are relative to its input.
    """
    warnings = []
    for name, detections in found.items():
        best = _best_boxes(detections)
        objects = truth.objects.get(name, {})
        first = {image: each.boxes[0] for image, each in objects.items() if len(each.boxes)}
        with_objects = [image for image in best if image in first]
        if len(with_objects) < LEAST_IMAGES:
            continue
        same = _same_share(_relative(best, list(best), sizes))
        objects_same = _same_share(_relative(first, list(first), sizes))
        if same >= SAME_SHARE and objects_same < same - 0.1:
            warnings.append(
                f"“{name}”: the best box is nearly the same in {100 * same:.0f} % of {len(best)} images, whatever they "
                f"show; of the objects only {100 * objects_same:.0f} % are in that way alike. Its AP says where objects "
                "usually are, not that they were found."
            )
    return warnings


def _best_boxes(detections: voc.Detections) -> dict[str, NDArray[np.float64]]:
    best: dict[str, NDArray[np.float64]] = {}
    for i in np.argsort(-detections.scores, kind="stable").tolist():
        best.setdefault(detections.images[i], detections.boxes[i])
    return best


def _relative(boxes: Mapping[str, NDArray[np.float64]], images: Sequence[str], sizes: Sizes) -> NDArray[np.float64]:
    """The boxes of images, K×4, in units of 1000 of each image's sides."""
    rows = []
    for image in images:
        width, height = sizes.get(image, (1000, 1000))
        rows.append(boxes[image] * (1000 / np.array([width, height, width, height], np.float64)))
    return np.array(rows, np.float64).reshape(-1, 4)


def _same_share(boxes: NDArray[np.float64]) -> float:
    if not len(boxes):
        return 0.0
    return float((overlaps_of_pairs(np.median(boxes, axis=0), boxes) >= SAME_OVERLAP).mean())


def silent_classes(truth: voc.GroundTruth, found: Mapping[str, voc.Detections]) -> list[str]:
    """Warnings about classes that have objects but no detection, or never a score of 0.5."""
    none = [name for name in truth.classes if truth.count(name) and not len(_scores(found, name))]
    low = [name for name in truth.classes if 0 < _highest(found, name) < LOW_SCORE]
    warnings = []
    if none:
        warnings.append(f"No detection at all of {_names(none)}, although the test images have such objects.")
    if low and len(low) == len([name for name in found if len(_scores(found, name))]):
        highest = max(_highest(found, name) for name in low)
        warnings.append(
            f"No score is over {LOW_SCORE} (the highest is {highest:.2f}): AP only ranks, so it can look good, but "
            "a program with the usual threshold would see nothing."
        )
    elif low:
        warnings.append(f"No score over {LOW_SCORE} for {_names(low)}.")
    return warnings


def _scores(found: Mapping[str, voc.Detections], name: str) -> NDArray[np.float64]:
    return found[name].scores if name in found else np.empty(0)


def _highest(found: Mapping[str, voc.Detections], name: str) -> float:
    scores = _scores(found, name)
    return float(scores.max()) if len(scores) else 0.0


def _names(names: Sequence[str], limit: int = 8) -> str:
    shown = ", ".join(f"“{name}”" for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def shared_images(images: Images, test: Sequence[str], train_list: str | Path) -> list[str]:
    """A warning if training images are test images too: by name, or by the bytes of the file."""
    train = [line.split()[0] for _, line in read_lines(train_list)]
    by_name = sorted(set(train) & set(test))
    hashes = _hashes_of_equal_sizes(images, train, test)
    tested = {digest: name for name, digest in hashes.items() if name in set(test)}
    copies = sorted(
        name for name in set(train) - set(by_name) if name in hashes and tested.get(hashes[name], name) != name
    )
    if not by_name and not copies:
        return []
    parts = []
    if by_name:
        parts.append(f"{len(by_name)} with the same name, such as “{by_name[0]}”")
    if copies:
        parts.append(f"{len(copies)} with the same content, such as “{copies[0]}” and “{tested[hashes[copies[0]]]}”")
    return [
        f"Training and test share images: {' and '.join(parts)}. The score counts what was learned by heart."
    ]  # fmt: skip


def _hashes_of_equal_sizes(images: Images, train: Sequence[str], test: Sequence[str]) -> dict[str, str]:
    """Digests of those files whose size occurs on both sides, by image name."""
    sides: list[dict[int, list[str]]] = [{}, {}]
    paths: dict[str, Path] = {}
    for side, names in zip(sides, (train, test), strict=True):
        for name in dict.fromkeys(names):
            try:
                paths[name] = images.find(name)
                side.setdefault(paths[name].stat().st_size, []).append(name)
            except (DataError, OSError):
                continue
    digests = {}
    for size in sides[0].keys() & sides[1].keys():
        for name in {*sides[0][size], *sides[1][size]}:
            digests[name] = hashlib.sha256(paths[name].read_bytes()).hexdigest()
    return digests
