"""Pictures of a data set: some images with their boxes, and the same images as augmentation makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe.data.augment.boxes import Boxes
from caffe.data.augment.jitter import Jitter
from caffe.data.augment.sampler import BatchSampler
from caffe.data.augment.transform import TRAIN, Source, Transformer
from caffe.data.images import Image, decode
from caffe.data.orientation import turned
from caffe.dataset_check.examine import Examined
from caffe.dataset_check.findings import Checked
from caffe.dataset_check.sets import DataSet
from caffe.detection.box_drawing import Box, draw_boxes
from caffe.errors import DataError, NetError
from caffe.proto.text import read_net

COUNT = 16
#: the longer side of a picture, in pixels
_SIDE = 320


def chosen(images: Sequence[Examined], count: int = COUNT) -> list[int]:
    """Returns the numbers of up to `count` images that can be shown: spread evenly, those with objects if there are any."""
    readable = [number for number, each in enumerate(images) if not each.image_fault]
    usable = [number for number in readable if len(images[number].corners)] or readable
    return [usable[place * len(usable) // count] for place in range(count)] if len(usable) > count else usable


def load(data_set: DataSet, checked: Checked, number: int) -> Image:
    """Returns an image as it goes into a record. Raises DataError if it cannot be decoded."""
    found = checked.images[number]
    image = decode(data_set.items[number].image(), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise DataError(f"{found.name}: cannot be decoded")
    return turned(image, found.orientation) if found.size != found.stored else image


def with_boxes(image: Image, corners: NDArray[np.float32], names: Sequence[str], colors: Sequence[int]) -> Image:
    """Returns an image at the size of a picture with its boxes, whose corners [n, 4] are in units of the image."""
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    if scale < 1:
        image = cv2.resize(
            image, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
        )
    sides = np.array([image.shape[1], image.shape[0]] * 2)
    boxes = [
        Box(color, name, *(corner * sides).tolist()) for corner, name, color in zip(corners, names, colors, strict=True)
    ]
    return draw_boxes(image, boxes)


def read_transformer(path: str) -> Transformer | None:
    """Returns the augmentation of a net's AnnotatedData layer in training; None if the prototxt has no such layer."""
    for layer in read_net(path).layer:
        if layer.type == "AnnotatedData" and not any(
            rule.phase != TRAIN for rule in layer.include if rule.HasField("phase")
        ):
            where = f"'{path}', layer '{layer.name}'"
            samplers = [
                BatchSampler.of(each, where)
                for each in layer.annotated_data_param.batch_sampler
                if each.use_original_image
            ]
            return Transformer(
                layer.transform_param, TRAIN, where, samplers, Jitter.of(layer.annotated_data_param, where)
            )
    return None


def augmented(transformer: Transformer, image: Image, boxes: Boxes, number: int, name: str) -> tuple[Image, Boxes]:
    """Returns an image as training sees it, with the mean added again, and the boxes that are left."""
    data, left = transformer(Source(image, name), boxes, np.random.default_rng([0, number]))
    assert left is not None
    pixels = data / np.float32(transformer.param.scale) + np.array(
        transformer.mean.ground(data.shape[0]), np.float32
    ).reshape(-1, 1, 1)
    return np.ascontiguousarray(np.clip(pixels, 0, 255).astype(np.uint8).transpose(1, 2, 0)), left


def pictures(
    data_set: DataSet, checked: Checked, class_names: Sequence[str], transformer: Transformer | None
) -> list[tuple[str, Image, Image | None]]:
    """Returns the name of each chosen image, its picture with boxes, and one as augmentation makes it (None without)."""
    numbers: dict[str, int] = {name: index + 1 for index, name in enumerate(class_names)}
    result: list[tuple[str, Image, Image | None]] = []
    for number in chosen(checked.images):
        found = checked.images[number]
        try:
            image = load(data_set, checked, number)
        except DataError:
            continue  # it was readable a moment ago
        names = checked.classes[number]
        labels = np.array([[numbers[name], index] for index, name in enumerate(names)], np.float32).reshape(-1, 2)
        picture = with_boxes(image, found.corners, names, labels[:, 0].astype(int).tolist())
        after = None
        if transformer is not None:
            boxes = Boxes(found.corners, labels, np.zeros(len(names), bool))
            after = _augmented_picture(transformer, image, boxes, class_names, number, found.name)
        result.append((found.name, picture, after))
    return result


def _augmented_picture(
    transformer: Transformer, image: Image, boxes: Boxes, class_names: Sequence[str], number: int, name: str
) -> Image | None:
    try:
        after, left = augmented(transformer, image, boxes, number, name)
    except (DataError, NetError):
        return None  # the image does not fit the net's settings; training says why
    own: list[Any] = left.labels[:, 0].astype(int).tolist()
    return with_boxes(after, left.corners, [class_names[label - 1] for label in own], own)
