"""The images of an LMDB as an exported model takes them: resized to its input, less the mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe.data.images import decode_datum
from caffe.data.lmdb_source import LmdbSource
from caffe.errors import DataError


class Record(NamedTuple):
    """An image as 1 × C × H × W float32, the key and size (height, width) that it has, and the AnnotatedDatum or None."""

    data: NDArray[np.float32]
    key: str
    size: tuple[int, int]
    annotated: Any


def records(
    path: str | Path, shape: Sequence[int], mean: Sequence[float], count: int | None = None
) -> Iterator[Record]:
    """The LMDB's records, Datum or AnnotatedDatum; `count`: only so many, evenly spread.

    shape: C, H, W of the input. mean: one value, or one per channel. Raises DataError for a database that is empty or
    whose images have other channels.
    """
    source = LmdbSource(path)
    if not len(source):
        raise DataError(f"database '{path}' has no images")
    channels, height, width = shape
    if channels not in (1, 3):
        raise DataError(f"the net takes {channels} channels; images have 3, or 1")
    number = len(source) if count is None else min(count, len(source))
    for index in np.linspace(0, len(source) - 1, number).round().astype(int).tolist():
        annotated = source.annotated_datum(index) if source.holds_annotations(index) else None
        datum = source.datum(index) if annotated is None else annotated.datum
        image = decode_datum(datum, source.where(index), force_color=channels == 3, force_gray=channels == 1)
        resized = cv2.resize(image, (width, height)).reshape(height, width, -1)
        if resized.shape[2] != channels:
            raise DataError(f"{source.where(index)} has {resized.shape[2]} channels, and the net takes {channels}")
        data = (resized.astype(np.float32) - np.array(mean, np.float32)).transpose(2, 0, 1)
        yield Record(np.ascontiguousarray(data[np.newaxis]), source.key(index), image.shape[:2], annotated)
