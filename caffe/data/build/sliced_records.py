"""Cuts large photographs into overlapping slices when a database is built, so that training sees what detection will.

An object that a slice cuts stays with its visible part if enough of it is visible; otherwise the slice does not have
it. Slices overlap, so an object smaller than the overlap is whole in at least one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffe.data.augment.boxes import Boxes, areas, coverage, intersections, project
from caffe.data.images import Image
from caffe.data.slices import Slices, Window
from caffe.proto import caffe_pb2


@dataclass(frozen=True)
class Slicing:
    """How photographs are cut, and what becomes of their objects."""

    slices: Slices
    #: an object is kept in a slice that shows at least this share of its area
    visible: float = 0.5
    #: whether slices without an object are kept too
    empty: bool = False


def pieces(image: Image, record: Any, slicing: Slicing) -> Iterator[tuple[Window, Image, Any]]:
    """The slices of an image (H×W×C): place, pixels, and an AnnotatedDatum of its objects, in the slice's coordinates.

    An image that fits into one slice comes as it is. The whole image, if it is a piece too, is always kept, so no image
    is lost for having no objects.
    """
    height, width = image.shape[:2]
    for window in slicing.slices.windows(height, width):
        left, top, right, bottom = window
        if window == (0, 0, width, height):
            yield window, image, record
            continue
        crop = np.array([left / width, top / height, right / width, bottom / height], np.float32)
        part = cut(record, crop, slicing.visible)
        if slicing.empty or part.annotation_group:
            yield window, image[top:bottom, left:right], part


def cut(record: Any, crop: Any, visible: float) -> Any:
    """The objects of an AnnotatedDatum of which `crop` (normalized corners) shows at least the share `visible`."""
    boxes = Boxes.of(record)
    corners, inside = project(boxes.corners, crop)
    shown = coverage(intersections(boxes.corners, crop), areas(boxes.corners))
    # one part in ten thousand for rounding: an object that is all inside has a share of 1
    kept = iter(zip(corners.tolist(), (inside & (shown >= visible - 1e-4)).tolist(), strict=True))
    result = caffe_pb2.AnnotatedDatum(type=record.type)
    for group in record.annotation_group:
        annotations = []
        for annotation in group.annotation:
            (xmin, ymin, xmax, ymax), keep = next(kept)
            if keep:
                copy = caffe_pb2.Annotation()
                copy.CopyFrom(annotation)
                copy.bbox.xmin, copy.bbox.ymin, copy.bbox.xmax, copy.bbox.ymax = xmin, ymin, xmax, ymax
                annotations.append(copy)
        if annotations:
            result.annotation_group.add(group_label=group.group_label).annotation.extend(annotations)
    return result
