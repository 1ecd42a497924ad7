"""The annotated objects of a data set at the size of a net's input: resized by WARP, without augmentation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffe.data.augment.boxes import UNIT, Boxes, project
from caffe.data.build.annotations import read_annotations
from caffe.data.image_list import raise_faults, read_pairs
from caffe.data.label_map import LabelMap
from caffe.errors import DataError, counted


@dataclass(frozen=True)
class Objects:
    """The n objects of a data set, in pixels of the input.

    corners: [n, 4], xmin, ymin, xmax, ymax. labels: [n]. images: [n], the index of each object's image, ascending.
    names: the name of each label. num_images: the number of images, including those without an object. without_area:
    the number of boxes that were left out because they have no area inside their image.
    """

    corners: NDArray[np.float64]
    labels: NDArray[np.int64]
    images: NDArray[np.int64]
    names: Mapping[int, str]
    num_images: int
    without_area: int = 0

    def __len__(self) -> int:
        return len(self.corners)

    @property
    def sides(self) -> NDArray[np.float64]:
        """Widths and heights in pixels, [n, 2]."""
        return self.corners[:, 2:] - self.corners[:, :2]

    @property
    def size(self) -> NDArray[np.float64]:
        """The square root of each object's area, in pixels, [n]."""
        return np.asarray(np.sqrt(self.sides.prod(axis=1)))

    def take(self, chosen: NDArray[np.int64]) -> Objects:
        """Returns the objects with the given indices, which must be ascending."""
        return Objects(
            self.corners[chosen], self.labels[chosen], self.images[chosen], self.names, self.num_images,
            self.without_area,
        )  # fmt: skip


def from_lmdb(path: str | Path, height: int, width: int, label_map: LabelMap | None = None) -> Objects:
    """Reads the objects of an LMDB of AnnotatedDatum records.

    Raises DataError if it is not such a database or has no object.
    """
    from tqdm import tqdm

    from caffe.data.lmdb_source import LmdbSource

    source = LmdbSource(path)
    records = (
        Boxes.of(source.annotated_datum(index))
        for index in tqdm(range(len(source)), desc="reading", unit="image", disable=None, leave=False)
    )
    return _collected(records, height, width, label_map, f"database '{path}'")


def from_list(root: str, path: str | Path, label_type: str, label_map: LabelMap, height: int, width: int) -> Objects:
    """Reads the objects of the annotations in a list.

    label_type: xml, json or txt. An image is opened only if its annotation does not give its size. Raises DataError
    with all faults found in the annotations.
    """
    from tqdm import tqdm

    from caffe.data.name_size import measure_image

    found, faults = [], []
    for image, annotation in tqdm(read_pairs(path), desc="reading", unit="image", disable=None, leave=False):
        where = os.path.join(root, annotation)
        try:
            annotations = read_annotations(where, label_type, label_map)
        except DataError as error:
            faults.append(f"{where}: {error}")
            continue
        faults += [f"{where}: {fault}" for fault in annotations.faults]
        size = annotations.size
        if size is None:
            measured = measure_image(os.path.join(root, image), where)
            if isinstance(measured, str):
                faults.append(measured)
                continue
            size = measured.size(turn_undecided=True)
        found.append(Boxes.of(annotations.groups(*size)))
    raise_faults(faults, "annotations")
    return _collected(found, height, width, label_map, f"list '{path}'")


def _collected(records: Iterable[Boxes], height: int, width: int, label_map: LabelMap | None, where: str) -> Objects:
    corners, labels, images = [], [], []
    count = seen = 0
    for count, boxes in enumerate(records, 1):
        projected, kept = project(boxes.corners, UNIT)
        kept &= np.isfinite(boxes.corners).all(axis=1)
        seen += len(boxes)
        corners.append(projected[kept])
        labels.append(boxes.labels[kept, 0].astype(np.int64))
        images.append(np.full(int(kept.sum()), count - 1, np.int64))
    scaled = np.concatenate(corners).astype(np.float64) * [width, height, width, height]
    if not len(scaled):
        what = "no box has an area" if seen else "no image has a box"
        raise DataError(
            f"{where} has no object to fit boxes to: {what} ({counted(count, 'image')}, {counted(seen, 'box', 'boxes')})"
        )
    every_label = np.concatenate(labels)
    return Objects(
        scaled, every_label, np.concatenate(images), _names(np.unique(every_label).tolist(), label_map), count,
        seen - len(scaled),
    )  # fmt: skip


def _names(labels: Sequence[int], label_map: LabelMap | None) -> dict[int, str]:
    if label_map is None:
        return {label: f"class {label}" for label in labels}
    return {label: label_map.display_name_of(label) for label in labels}
