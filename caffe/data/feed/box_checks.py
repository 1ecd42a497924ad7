"""Early and late signs that a data set has no boxes to learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from caffe import log
from caffe.data.augment.boxes import Boxes
from caffe.data.lmdb_source import LmdbSource
from caffe.errors import DataError, counted

#: how many records are looked at before training
SAMPLE = 64
#: after how many images without a box, in training, there is a warning
PATIENCE = 1000


def sample(count: int) -> list[int]:
    """Returns the numbers of up to SAMPLE of `count` records, spread evenly."""
    return sorted({number * count // SAMPLE for number in range(SAMPLE)} if count > SAMPLE else range(count))


def warn_of_labels(source: LmdbSource, where: str) -> None:
    """Warns if the records that are looked at have no box, or have boxes with label 0."""
    chosen = sample(len(source))
    boxes = background = 0
    for index in chosen:
        try:
            found = Boxes.of(source.annotated_datum(index))
        except DataError:
            return  # a record that cannot be read is an error when its turn comes
        boxes += int(_with_area(found.corners).sum())
        background += int((found.labels[:, 0] == 0).sum())
    which = f"{len(chosen):,} of its {len(source):,} records" if len(chosen) < len(source) else "its records"
    if not boxes:
        log.warning(
            log.here(),
            f"{where}: there is no box with an area in {which} ('{source.path}'), so the loss will be 0 and nothing is "
            "learned. check_dataset says which annotations are empty; convert_annoset prints the boxes of each class",
        )
    if background:
        log.warning(
            log.here(),
            f"{where}: {counted(background, 'box', 'boxes')} with label 0 in {which}; that is the background unless "
            "background_label_id says otherwise. Number the classes from 1 in the label map (create_label_map "
            "-include_background), and build the database again",
        )


class BoxWatch:
    """Warns once if augmentation leaves no box in PATIENCE images in a row."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._without = 0

    def see(self, rows: Sequence[NDArray[np.float32]]) -> None:
        """Takes the label rows of a batch's images, [n, 7] each: label, instance, corners, difficult."""
        if self._without < 0:
            return
        for each in rows:
            self._without = 0 if _with_area(each[:, 2:6]).any() else self._without + 1
        if self._without >= PATIENCE:
            log.warning(
                log.here(),
                f"{self._where}: no box was left in the last {self._without:,} images, so the loss is 0. Either their "
                "annotations are empty, or emit_constraint and batch_sampler remove every box: look at check_dataset's "
                "augmented images",
            )
            self._without = -1


def _with_area(corners: NDArray[np.float32]) -> NDArray[np.bool_]:
    return (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
