"""Whether a list of image sizes (name_size_file) fits the records of a database."""

from __future__ import annotations

from collections.abc import Sequence

from caffe.data.feed.box_checks import sample
from caffe.data.images import decode_size
from caffe.data.lmdb_source import LmdbSource
from caffe.errors import DataError

Size = tuple[int, int]


def contradiction(source: LmdbSource, listed: Sequence[Size]) -> str | None:
    """Returns how the sizes (height, width) in a list contradict the records that are looked at; None if they do not.

    Records may be smaller or larger than listed, because their images may have been resized. So sides are compared in
    proportion, and not at all if every record has the same size (convert_annoset -resize_width).
    """
    indices = sample(min(len(source), len(listed)))
    sizes = [_size(source, index) for index in indices]
    if len(set(sizes)) == 1 and sizes[0] not in {listed[index] for index in indices}:
        return None
    for index, size in zip(indices, sizes, strict=True):
        if size is not None and not _same_shape(size, listed[index]):
            return (
                f"image {index + 1} is {listed[index][1]} × {listed[index][0]} in the list, but record "
                f"'{source.key(index)}' is {size[1]} × {size[0]}"
            )
    return None


def _size(source: LmdbSource, index: int) -> Size | None:
    try:
        datum = source.annotated_datum(index).datum
    except DataError:
        return None  # an error when its turn comes
    if datum.height > 0 and datum.width > 0:
        return int(datum.height), int(datum.width)
    return decode_size(datum.data)  # the original leaves the size of a compressed image out


def _same_shape(size: Size, listed: Size) -> bool:
    """Whether two sizes have the same ratio of sides, up to the rounding of the smaller one to whole pixels."""
    (height, width), (listed_height, listed_width) = sorted((size, listed))
    scale_x, scale_y = listed_width / width, listed_height / height
    return abs(scale_x / scale_y - 1) <= 1.5 / min(height, width) + 1e-9
