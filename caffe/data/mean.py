"""The mean that data layers subtract: mean_value, or an image in a binaryproto."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe.errors import DataError, NetError
from caffe.proto import caffe_pb2


def read_mean_file(path: str | Path) -> NDArray[np.float32]:
    """The mean image [C, H, W] of a BlobProto file, as compute_image_mean writes it."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read mean_file '{path}': {error.strerror}. compute_image_mean makes one") from None
    blob = caffe_pb2.BlobProto()
    try:
        blob.ParseFromString(data)
    except Exception as error:  # DecodeError's module depends on protobuf's runtime
        raise DataError(f"mean_file '{path}' is not a BlobProto: {error}") from None
    shape = tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
    values = np.array(blob.data if blob.data else blob.double_data, np.float32)
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 3 or min(shape) < 1 or math.prod(shape) != values.size:
        shown = " × ".join(map(str, shape))
        raise DataError(f"mean_file '{path}' does not hold an image: {values.size:,} values, shape {shown}")
    return values.reshape(shape)


class Mean:
    """What a TransformationParameter subtracts."""

    def __init__(self, param: Any, where: str) -> None:
        """Raises NetError, beginning with `where`, if both a file and values are given."""
        self.values = np.array(param.mean_value, np.float32)
        self.file = param.mean_file if param.HasField("mean_file") else ""
        if self.file and self.values.size:
            raise NetError(f"{where}: transform_param has both mean_file and mean_value; give one")
        try:
            self.image = read_mean_file(self.file) if self.file else None
        except DataError as error:
            raise DataError(f"{where}: {error}") from None

    def check_channels(self, channels: int, where: str) -> None:
        """Raises DataError, beginning with `where`, for images with another number of channels."""
        if self.values.size not in (0, 1, channels):
            raise DataError(
                f"{where}: {self.values.size} mean_value for images of {channels} channels; give 1 or {channels}"
            )
        if self.image is not None and self.image.shape[0] != channels:
            raise DataError(
                f"{where}: mean_file '{self.file}' has {self.image.shape[0]} channels, but the images have {channels}"
            )

    def of_crop(self, size: tuple[int, int], top: int, left: int, crop: tuple[int, int], where: str) -> Any:
        """What to subtract from a crop at (top, left) of an image of `size`: [C, h, w], [C, 1, 1] or a scalar.

        A mean file has the size of the whole image, or of the crop.
        """
        if self.image is None:
            return self.values.reshape(-1, 1, 1) if self.values.size > 1 else self.values.sum()
        if self.image.shape[1:] == size:
            return self.image[:, top : top + crop[0], left : left + crop[1]]
        if self.image.shape[1:] == crop:
            return self.image
        have, want = (f"{width} × {height}" for height, width in (self.image.shape[1:], size))
        raise DataError(f"{where}: mean_file '{self.file}' is {have}, but the image is {want} (width × height)")

    def ground(self, channels: int) -> tuple[int, ...]:
        """The color of the canvas that expansion puts images on."""
        values = self.image.mean(axis=(1, 2)) if self.image is not None else self.values
        if not values.size:
            return (0,) * channels
        rounded = np.clip(np.rint(np.broadcast_to(values, channels)), 0, 255)
        return tuple(int(value) for value in rounded)
