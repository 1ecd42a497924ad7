"""What a score can hide: boxes that do not depend on the image, classes never found, test images seen in training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags
from PIL import Image as PillowImage

from caffe.data.image_list import read_lines
from caffe.data.name_size import read_name_sizes
from caffe.data.orientation import UPRIGHT, swaps_sides
from caffe.detection import voc
from caffe.detection.image_folder import Images
from caffe.detection.pairs import overlaps_of_pairs
from caffe.errors import CaffeError, DataError

#: boxes with this overlap are counted as the same; a class whose best boxes are the same in so many images is named
SAME_OVERLAP, SAME_SHARE = 0.8, 0.9
#: with fewer images nothing can be said
LEAST_IMAGES = 8
#: a score that a class never reaches is named
LOW_SCORE = 0.5
#: share of detections with their center outside the image from which on it is named; a net has a few of low scores
OUTSIDE_SHARE = 0.02
#: about so many images are compared with others
_COMPARED = 1000

Sizes = Mapping[str, tuple[int, int]]


def image_sizes(images: Images, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Width and height of each image that can be found and read.

    Those that are stored turned are left out: annotations may count their sides in either way.
    """
    sizes = {}
    for name in names:
        try:
            with PillowImage.open(images.find(name)) as image:
                if not swaps_sides(image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)):
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
                f"show, but only {100 * objects_same:.0f} % of the objects are as alike. Its AP shows where objects usually are, "
                "not that they were found."
            )
    return warnings


def _best(detections: voc.Detections) -> dict[str, int]:
    """The number of the detection with the highest score in each image; the first of equal ones."""
    index: dict[str, int] = {}
    images = np.fromiter((index.setdefault(image, len(index)) for image in detections.images), np.int64)
    order = np.lexsort((-detections.scores, images))  # stable
    first = order[np.unique(images[order], return_index=True)[1]]
    return dict(zip(index, first.tolist(), strict=True))


def _best_boxes(detections: voc.Detections) -> dict[str, NDArray[np.float64]]:
    return {image: detections.boxes[number] for image, number in _best(detections).items()}


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


def other_images(truth: voc.GroundTruth, found: Mapping[str, voc.Detections]) -> list[str]:
    """A warning if detections do not fit the objects of their own image better than those of other images.

    This is so for results of another data set whose images have the same names. The overlap of each image's best
    detection with the object nearest to it is compared with the mean overlap that it has in some other images.
    """
    best: dict[str, tuple[float, NDArray[np.float64]]] = {}
    for detections in found.values():
        for image, number in _best(detections).items():
            score = float(detections.scores[number])
            if image not in best or score > best[image][0]:
                best[image] = score, detections.boxes[number]
    by_image: dict[str, list[NDArray[np.float64]]] = {}
    for of_class in truth.objects.values():
        for image, objects in of_class.items():
            by_image.setdefault(image, []).append(objects.boxes)
    names = [image for image in truth.images if image in best and image in by_image]
    names = names[:: max(1, len(names) // _COMPARED)]
    if len(names) < LEAST_IMAGES:
        return []
    boxes = [np.concatenate(by_image[image]) for image in names]

    def overlap(detection: int, image: int) -> float:
        return float(overlaps_of_pairs(best[names[detection]][1], boxes[image % len(names)]).max())

    count = range(len(names))
    own = np.array([overlap(i, i) for i in count])
    # Sequences of similar images are neighbors in a list, so the others are far away in it.
    others = np.array([[overlap(i, i + len(names) * part // 5) for part in (1, 2, 3, 4)] for i in count]).mean(axis=1)
    gain = own - others
    if gain.mean() > 2 * gain.std() / len(gain) ** 0.5:
        return []
    return [
        "The detections do not fit the objects of their own image better than those of other images (mean overlap "
        f"{own.mean():.2f} and {others.mean():.2f}). Are they of another data set with the same image names, or of a "
        "net that has not learned yet?"
    ]


def outside(found: Mapping[str, voc.Detections], sizes: Sizes) -> list[str]:
    """A warning if detections lie outside their images, as those of images of another size do."""
    away, known, example = 0, 0, ""
    for detections in found.values():
        size = np.array([sizes.get(image, (0, 0)) for image in detections.images], np.float64).reshape(-1, 2)
        center = (detections.boxes[:, :2] + detections.boxes[:, 2:]) / 2
        out = (size[:, 0] > 0) & ((center < 0) | (center > size + 1)).any(axis=1)
        away, known = away + int(out.sum()), known + int((size[:, 0] > 0).sum())
        if out.any() and not example:
            example = detections.images[int(out.argmax())]
    if away <= OUTSIDE_SHARE * known:
        return []
    return [
        f"{away:,} of {known:,} detections have their center outside the image, such as in “{example}”. Are they of other "
        "images, or were the sizes of the images listed in another order?"
    ]


def listed_sizes(path: str | Path, sizes: Sizes) -> list[str]:
    """A warning if the list by which a net scaled its boxes (image, height, width) gives other sizes than the images.

    A list that is gone or cannot be read gives no warning.
    """
    try:
        listed = {entry.name: (entry.width, entry.height) for entry in read_name_sizes(path)}
    except CaffeError:
        return []
    wrong = [name for name in sizes if name in listed and listed[name] != sizes[name]]
    if not wrong:
        return []
    (width, height), (listed_width, listed_height) = sizes[wrong[0]], listed[wrong[0]]
    return [
        f"The list of image sizes that scaled the boxes, {path}, is wrong for {len(wrong):,} of {len(sizes):,} images: "
        f"“{wrong[0]}” has {width} × {height} pixels, not {listed_width} × {listed_height}. Write it again with get_image_size."
    ]


def unended_files(paths: Iterable[Path]) -> list[str]:
    """A warning about result files whose last line does not end, as in one that was not written or copied completely."""
    cut = [path.name for path in paths if not voc.ends_with_a_line(path)]
    if not cut:
        return []
    return [f"The last line of {_names(cut)} does not end. Was the file written or copied completely?"]


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
        f"Training and test share images: {' and '.join(parts)}. The score is then partly one on training images."
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
