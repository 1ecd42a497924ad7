"""Conversions between arrays and protobuf messages, images, and the preprocessing of inputs (pycaffe's `caffe.io`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe.data.images import decode
from caffe.errors import CaffeError, DataError
from caffe.proto import caffe_pb2

Array = NDArray[Any]
FloatArray = NDArray[np.float32]

# ---- messages


def blobproto_to_array(blob: Any, return_diff: bool = False) -> Array:
    """The data of a BlobProto, or its diff, in its shape: `shape`, or num × channels × height × width in old files."""
    name = "diff" if return_diff else "data"
    values = np.array(getattr(blob, name) or getattr(blob, f"double_{name}"), dtype=np.float64)
    if any(blob.HasField(field) for field in ("num", "channels", "height", "width")):
        return values.reshape(blob.num, blob.channels, blob.height, blob.width)
    return values.reshape(tuple(blob.shape.dim))


def array_to_blobproto(arr: Array, diff: Array | None = None) -> Any:
    """A BlobProto with an array's shape and values; `diff`, of the same shape, goes into its diff."""
    if diff is not None and diff.shape != arr.shape:
        raise CaffeError(f"the diff's shape {diff.shape} differs from the data's {arr.shape}")
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(arr.astype(float).ravel().tolist())
    if diff is not None:
        blob.diff.extend(diff.astype(float).ravel().tolist())
    return blob


def arraylist_to_blobprotovector_str(arraylist: Iterable[Array]) -> bytes:
    """Arrays as a serialized BlobProtoVector."""
    return caffe_pb2.BlobProtoVector(blobs=[array_to_blobproto(arr) for arr in arraylist]).SerializeToString()


def blobprotovector_str_to_arraylist(text: bytes) -> list[Array]:
    """The arrays in a serialized BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in caffe_pb2.BlobProtoVector.FromString(text).blobs]


def array_to_datum(arr: Array, label: int | None = None) -> Any:
    """A Datum from a channels × height × width array: uint8 as bytes, anything else as floats."""
    if arr.ndim != 3:
        raise CaffeError(f"a Datum holds channels x height x width; this array has {arr.ndim} dimensions")
    datum = caffe_pb2.Datum()
    datum.channels, datum.height, datum.width = arr.shape
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).ravel().tolist())
    if label is not None:
        datum.label = label
    return datum


def datum_to_array(datum: Any) -> Array:
    """The channels × height × width array in a Datum. Its label is `datum.label`."""
    if datum.encoded:
        raise DataError(
            "this Datum holds an encoded image (such as a JPEG file's bytes), not an array; "
            "cv2.imdecode(np.frombuffer(datum.data, np.uint8), cv2.IMREAD_COLOR) gives its pixels"
        )
    shape = (datum.channels, datum.height, datum.width)
    if datum.data:
        return np.frombuffer(datum.data, dtype=np.uint8).reshape(shape).copy()
    return np.array(datum.float_data, dtype=float).reshape(shape)


# ---- preprocessing


class Transformer:
    """Turns images into the inputs of a net.

    `inputs` maps each input blob's name to its shape, e.g. `{"data": net.blobs["data"].data.shape}`.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = dict(inputs)
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, Array] = {}
        self.input_scale: dict[str, float] = {}

    def __check_input(self, in_: str) -> None:
        if in_ not in self.inputs:
            raise CaffeError(f"'{in_}' is not an input of the net; its inputs are {', '.join(self.inputs)}")

    def preprocess(self, in_: str, data: Array) -> FloatArray:
        """An image (height × width × channels) in the form of input `in_` (channels × height × width).

        In this order, each step if it was set: to single precision, resized to the input's size, transposed, channels
        reordered, times raw_scale, minus the mean, times input_scale. `data` is not changed.
        """
        self.__check_input(in_)
        out = data.astype(np.float32)
        size = tuple(self.inputs[in_][2:])
        if out.shape[:2] != size:
            out = resize_image(out, size)
        if in_ in self.transpose:
            out = out.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            out = out[list(self.channel_swap[in_])]
        if in_ in self.raw_scale:
            out *= self.raw_scale[in_]
        if in_ in self.mean:
            out -= self.mean[in_]
        if in_ in self.input_scale:
            out *= self.input_scale[in_]
        return out

    def deprocess(self, in_: str, data: Array) -> Array:
        """The inverse of `preprocess`, except for the resizing; axes of length 1 are dropped first."""
        self.__check_input(in_)
        out = data.copy().squeeze()
        if in_ in self.input_scale:
            out /= self.input_scale[in_]
        if in_ in self.mean:
            out += self.mean[in_]
        if in_ in self.raw_scale:
            out /= self.raw_scale[in_]
        if in_ in self.channel_swap:
            out = out[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            out = out.transpose([int(axis) for axis in np.argsort(self.transpose[in_])])
        return out

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """The order of the image's axes in the input: (2, 0, 1) puts channels first."""
        self.__check_input(in_)
        if len(order) != len(self.inputs[in_]) - 1:
            raise CaffeError(f"transpose order {tuple(order)} must have {len(self.inputs[in_]) - 1} axes for '{in_}'")
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """The order of the channels after transposing: (2, 1, 0) makes RGB into BGR."""
        self.__check_input(in_)
        if len(order) != self.inputs[in_][1]:
            raise CaffeError(f"channel order {tuple(order)} must have {self.inputs[in_][1]} channels for '{in_}'")
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """A factor before the mean: 255 for nets trained on bytes, as images here are in [0, 1]."""
        self.__check_input(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: Array) -> None:
        """The mean to subtract: one value per channel, or an array of the input's shape (2-D: for all channels)."""
        self.__check_input(in_)
        expected = tuple(self.inputs[in_][1:])
        if mean.ndim == 1:
            if mean.shape[0] != expected[0]:
                raise CaffeError(f"a mean with {mean.shape[0]} channels for input '{in_}' with {expected[0]}")
            mean = mean[:, np.newaxis, np.newaxis]
        elif (mean.shape if mean.ndim == 3 else (1, *mean.shape)) != expected:
            raise CaffeError(f"a mean of shape {mean.shape} for input '{in_}' of shape {expected}")
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """A factor after the mean."""
        self.__check_input(in_)
        self.input_scale[in_] = scale


# ---- images

#: orders of interpolation, numbered as in scikit-image
_INTERPOLATION = {0: cv2.INTER_NEAREST_EXACT, 1: cv2.INTER_LINEAR, 3: cv2.INTER_CUBIC}
#: red, green, blue
_LUMINANCE = np.array([0.2125, 0.7154, 0.0721], dtype=np.float32)


def load_image(filename: str | os.PathLike[str], color: bool = True) -> FloatArray:
    """An image file as floats in [0, 1]: height × width × 3, RGB, or × 1 of luminance with `color` false.

    Gray images are repeated for three channels, alpha is dropped. Raises DataError for a file that is not an image.
    """
    try:
        pixels = decode(Path(filename).read_bytes(), cv2.IMREAD_UNCHANGED)
    except DataError as error:
        raise DataError(f"{filename}: {error}") from None
    if pixels is None:
        raise DataError(f"{filename}: not an image that can be read, or damaged")
    largest = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(pixels.dtype, 1)  # else floats already
    image: FloatArray = pixels.astype(np.float32) / np.float32(largest)
    if image.shape[2] == 1:
        return np.tile(image, (1, 1, 3)) if color else image
    image = np.ascontiguousarray(image[:, :, 2::-1])
    return image if color else (image @ _LUMINANCE)[:, :, np.newaxis]


def resize_image(im: Array, new_dims: Sequence[int] | Array, interp_order: int = 1) -> FloatArray:
    """An image of height × width × channels (any number) at a new (height, width).

    `interp_order`: 0 nearest, 1 linear, 3 cubic. Pixels are squares around their centers, and nothing is
    smoothed before shrinking, as in the scikit-image that pycaffe uses.
    """
    if interp_order not in _INTERPOLATION:
        raise CaffeError(f"interpolation order {interp_order}; choose one of {sorted(_INTERPOLATION)}")
    height, width = (int(size) for size in new_dims[:2])
    source = np.ascontiguousarray(im, dtype=np.float32)
    # cv2 drops a last axis of length 1.
    out = cv2.resize(source, (width, height), interpolation=_INTERPOLATION[interp_order])
    return np.asarray(out, dtype=np.float32).reshape(height, width, im.shape[2])


def oversample(images: Sequence[Array] | Array, crop_dims: Sequence[int] | Array) -> FloatArray:
    """Ten crops of each image (height × width × channels): four corners, the center, and their mirror images.

    Returns (10·N) × crop height × crop width × channels, each image's ten together.
    """
    height, width, channels = images[0].shape
    h, w = (int(size) for size in crop_dims)
    if h > height or w > width:
        raise CaffeError(
            f"crops of {h} x {w} do not fit into images of {height} x {width}; resize these to more (classify -images_dim)"
        )
    corners = [(y, x) for y in (0, height - h) for x in (0, width - w)]
    origins = [*corners, (int(height / 2 - h / 2), int(width / 2 - w / 2))]
    crops = np.empty((len(images), 10, h, w, channels), dtype=np.float32)
    for image, out in zip(images, crops, strict=True):
        for index, (y, x) in enumerate(origins):
            out[index] = image[y : y + h, x : x + w]
        out[5:] = out[:5, :, ::-1]
    return crops.reshape(-1, h, w, channels)
