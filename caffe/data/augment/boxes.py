"""Box arithmetic of the data layers, in Caffe's order of float32 operations, on all boxes of an image at once.

Corners are arrays [n, 4] of xmin, ymin, xmax, ymax, float32, normalized by the image's size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe.errors import DataError
from caffe.proto import caffe_pb2

#: [n, 4] float32
Corners = NDArray[Any]
_Resize = caffe_pb2.ResizeParameter
_ORIGIN = np.array([0, 1, 0, 1])
UNIT = np.array([0, 0, 1, 1], np.float32)


@dataclass(frozen=True)
class Boxes:
    """The objects of an image in the order of its annotation groups."""

    corners: Corners
    #: [n, 2] float32: label, instance
    labels: NDArray[Any]
    #: [n] bool
    difficult: NDArray[Any]

    @classmethod
    def of(cls, record: Any) -> Boxes:
        """The boxes of an AnnotatedDatum."""
        rows = [
            (group.group_label, annotation.instance_id, box.xmin, box.ymin, box.xmax, box.ymax, box.difficult)
            for group in record.annotation_group
            for annotation in group.annotation
            for box in (annotation.bbox,)
        ]
        table = np.array(rows, np.float32).reshape(-1, 7)
        return cls(table[:, 2:6], table[:, :2], table[:, 6] > 0)

    def __len__(self) -> int:
        return len(self.corners)

    def keep(self, mask: NDArray[Any], corners: Corners) -> Boxes:
        """Those where `mask`, with new corners."""
        return Boxes(corners[mask], self.labels[mask], self.difficult[mask])

    def rows(self) -> NDArray[Any]:
        """[n, 7]: label, instance, xmin, ymin, xmax, ymax, difficult, as the label top has them after the item."""
        return np.concatenate([self.labels, self.corners, self.difficult[:, None]], axis=1, dtype=np.float32)


def areas(corners: Corners) -> NDArray[Any]:
    """Areas [n]; 0 for an empty box."""
    width, height = corners[..., 2] - corners[..., 0], corners[..., 3] - corners[..., 1]
    return np.asarray(np.where((width < 0) | (height < 0), np.float32(0), width * height))


def intersections(a: Corners, b: Corners) -> NDArray[Any]:
    """Areas of the intersections; `a` and `b` broadcast."""
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    return np.where((width > 0) & (height > 0), width * height, np.float32(0))


def coverage(shared: NDArray[Any], size: NDArray[Any]) -> NDArray[Any]:
    """The share of boxes of area `size` that the intersections cover."""
    return np.asarray(np.divide(shared, size, out=np.zeros_like(shared), where=shared > 0))


def emitted(boxes: Corners, crop: Corners, constraint: Any) -> NDArray[Any]:
    """Which boxes stay in a crop by an EmitConstraint: the center is inside, or enough of the box is covered."""
    if constraint.emit_type == caffe_pb2.EmitConstraint.MIN_OVERLAP:
        kept: NDArray[Any] = coverage(intersections(boxes, crop), areas(boxes)) > np.float32(constraint.emit_overlap)
        return kept
    center = (boxes[:, :2] + boxes[:, 2:]) / np.float32(2)
    return np.asarray(((center >= crop[:2]) & (center <= crop[2:])).all(axis=1))


def project(boxes: Corners, crop: Corners) -> tuple[Corners, NDArray[Any]]:
    """Boxes in coordinates of `crop` (which may reach beyond the image), clipped, and which of them still have area.

    A box that is entirely outside is clipped to an empty one.
    """
    size = crop[2:] - crop[:2]
    projected = (boxes - crop[_ORIGIN]) / size[_ORIGIN]
    projected = np.minimum(np.maximum(projected, np.float32(0)), np.float32(1))
    sides = projected[:, 2:] - projected[:, :2]
    return projected, (sides > 0).all(axis=1) & (sides[:, 0] * sides[:, 1] > 0)


def select(boxes: Boxes, crop: Corners, constraint: Any | None, *, corners: Corners | None = None) -> Boxes:
    """The boxes that stay when `crop` is cut out: by the constraint if there is one, projected and clipped.

    `corners` replaces the boxes' own where the image was resized in between.
    """
    corners = boxes.corners if corners is None else corners
    projected, kept = project(corners, crop)
    if constraint is not None:
        kept &= emitted(corners, crop, constraint)
    return boxes.keep(kept, projected)


def resized(boxes: Corners, height: int, width: int, param: Any) -> Corners:
    """Boxes of an image of `height` × `width` after a ResizeParameter's resizing, normalized by the new size."""
    one = np.float32(1)
    old_width, old_height = one * width, one * height
    new_width, new_height = one * param.width, one * param.height
    aspect, new_aspect = old_width / old_height, new_width / new_height
    x, y = boxes[:, 0::2] * old_width, boxes[:, 1::2] * old_height
    pad_x = pad_y = np.float32(0)
    if param.resize_mode == _Resize.FIT_LARGE_SIZE_AND_PAD:
        if aspect > new_aspect:
            pad_y = (new_height - new_width / aspect) / np.float32(2)
        else:
            pad_x = (new_width - aspect * new_height) / np.float32(2)
    elif param.resize_mode == _Resize.FIT_SMALL_SIZE:
        if aspect < new_aspect:
            new_height = new_width / aspect
        else:
            new_width = aspect * new_height
    x = x * (new_width - 2 * pad_x) / old_width
    y = y * (new_height - 2 * pad_y) / old_height
    moved = np.empty_like(boxes)
    moved[:, 0] = pad_x + np.maximum(np.float32(0), x[:, 0])
    moved[:, 2] = pad_x + np.minimum(new_width, x[:, 1])
    moved[:, 1] = pad_y + np.maximum(np.float32(0), y[:, 0])
    moved[:, 3] = pad_y + np.minimum(new_height, y[:, 1])
    return moved / np.array([new_width, new_height, new_width, new_height], np.float32)


def extrapolated(boxes: Boxes, height: int, width: int, crop: Corners, param: Any) -> Boxes:
    """Boxes in units of `width_scale` × `height_scale` pixels, if FIT_SMALL_SIZE asks for that."""
    if not (param.height_scale and param.width_scale and param.resize_mode == _Resize.FIT_SMALL_SIZE):
        return boxes
    one = np.float32(1)
    aspect = one * width / (one * height)
    new_width, new_height = one * param.width, one * param.height
    if aspect < new_width / new_height:
        new_height = new_width / aspect
    else:
        new_width = new_height * aspect
    crop_width, crop_height = new_width * (crop[2] - crop[0]), new_height * (crop[3] - crop[1])
    if crop_width < param.width_scale or crop_height < param.height_scale:
        raise DataError(
            f"width_scale × height_scale ({param.width_scale} × {param.height_scale}) is larger than the resized "
            f"image ({crop_width:.0f} × {crop_height:.0f})"
        )
    times = np.array([crop_width, crop_height] * 2, np.float32)
    over = np.array([param.width_scale, param.height_scale] * 2, np.float32)
    return Boxes(boxes.corners * times / over, boxes.labels, boxes.difficult)
