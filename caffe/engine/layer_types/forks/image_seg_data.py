"""ImageSegData of DeepLab (Chen et al. 2015) as PSPNet (Zhao et al. 2017) has it: images with labels of their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe import log
from caffe.data.augment.transform import TRAIN, Source
from caffe.data.feed.prefetch import Array
from caffe.data.feed.stream import record_rng
from caffe.data.image_list import read_labels, read_lines, read_pairs
from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.forks.label_images import LabelImageLayer, LabelImages
from caffe.proto import caffe_pb2

_Type = caffe_pb2.ImageDataParameter.LabelType
_NONE, _IMAGE, _PIXEL = _Type.Value("NONE"), _Type.Value("IMAGE"), _Type.Value("PIXEL")


def _read_images(path: str) -> list[tuple[str, str]]:
    """The first word of each line."""
    return [(line.split()[0], "") for _, line in read_lines(path)]


class _Segmentations(LabelImages):
    """Images and labels of their pixels, scaled, padded, cut and turned over alike."""

    def __init__(self, layer_param: Any, phase: int, *args: Any) -> None:
        super().__init__(*args)
        transform, param = layer_param.transform_param, layer_param.image_data_param
        self.size = (param.new_width, param.new_height)
        self.crop, self.mirror, self.random = transform.crop_size, transform.mirror, phase == TRAIN
        self.factors = np.array(transform.scale_factors, np.float32)
        self.label_type, self.ignore_label = param.label_type, param.ignore_label

    def load(self, place: int, room: Array) -> tuple[Array, Array]:
        """Data [C, H, W]; and the labels, H · W values, followed by the image's height and width."""
        epoch, index, (_, label) = self.line(place)
        source = self.read(place)
        labels = self._labels_of(source, label)
        rng = record_rng(self.seed, epoch, index)
        # height and width as the fork gives them: before the scaling, at most the top's
        dim = [min(self.crop, side) if self.crop else side for side in labels.shape]
        image, labels = self._scaled(source.image, labels, rng)
        if self.crop:
            tall, wide = (max(self.crop, side) for side in labels.shape)
            top, left = (tall - self.crop) // 2, (wide - self.crop) // 2
            if self.random:
                top, left = (int(rng.integers(side - self.crop + 1)) for side in (tall, wide))
            image, labels = (part[top : top + self.crop, left : left + self.crop] for part in (image, labels))
        fits = not self.crop or labels.shape == (self.crop, self.crop)
        data, _ = self.transformer(Source(np.ascontiguousarray(image), source.where), None, rng, room if fits else None)
        if not fits:
            data, labels = self._padded(data, labels, room)
        if self.mirror and rng.integers(2):
            data[:], labels = data[:, :, ::-1].copy(), labels[:, ::-1]
        return data, np.append(labels.ravel(), dim).astype(np.float32)

    def _labels_of(self, source: Source, label: str | int) -> NDArray[np.uint8]:
        if self.label_type == _PIXEL:
            return self.labels(str(label), source, self.size, cv2.INTER_LINEAR)
        value = label if self.label_type == _IMAGE else self.ignore_label
        return np.full(source.image.shape[:2], value, np.uint8)

    def _scaled(
        self, image: NDArray[Any], labels: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Both resized by one of the factors."""
        factor = self.factors[rng.integers(len(self.factors))] if len(self.factors) else np.float32(1)
        if factor == 1:
            return image, labels
        height, width = (max(1, int(np.float32(side) * factor)) for side in labels.shape)
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, -1)
        return resized, cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.uint8)

    def _padded(self, data: Array, labels: NDArray[np.uint8], room: Array) -> tuple[Array, NDArray[np.uint8]]:
        """Both continued below and to the right: the data with the mean, which is 0 here, the labels to be ignored."""
        shape = (len(data), self.crop, self.crop)
        whole = room if room.shape == shape else np.empty(shape, np.float32)
        whole[:] = 0
        whole[:, : data.shape[1], : data.shape[2]] = data
        around = np.full(shape[1:], self.ignore_label, np.uint8)
        around[: labels.shape[0], : labels.shape[1]] = labels
        return whole, around


@register
class ImageSegData(LabelImageLayer):
    """Images of a list file. Tops: data N × C × H × W, labels N × 1 × H × W, and sizes N × 1 × 1 × 2.

    Lines are `image labels` with label_type PIXEL, where the second is a gray image whose values are classes; `image
    class` with IMAGE, the default, one class for all pixels; and `image` with NONE, all pixels ignore_label (255). Both
    images are resized bilinearly to new_height × new_width, by one of scale_factors at random (labels to the nearest
    pixel), continued below and to the right to at least crop_size with the mean and ignore_label, cut to crop_size (the
    middle in testing, anywhere in training), and turned over at random with `mirror`. The third top, which may be left
    out, has the height and width from before the scaling, at most crop_size.

    The fork takes a class beyond 0 to 255 as the nearest of these; here it is refused.
    """

    type_name = "ImageSegData"
    tops = (2, 3)
    settings = "image_data_param"
    alike = ("crop_size", "mirror", "scale_factors")

    def setup(self, bottom: Sequence[Shape]) -> None:
        param, transform = self.options, self.param.transform_param
        self.check_options(("new_height", "new_width"))
        if param.HasField("normalize"):
            self.fail("normalize of image_data_param is for ImageLabelmapData layers")
        if not 0 <= param.ignore_label <= 255:
            self.fail(f"ignore_label must be from 0 to 255, not {param.ignore_label}")
        if transform.HasField("mean_file"):
            self.fail("takes no mean_file; give mean_value")
        if transform.scale_factors and not min(transform.scale_factors) > 0:
            self.fail(f"scale_factors must be positive, not {min(transform.scale_factors):g}")
        self.check_transform("it takes crop_size, mirror and scale_factors alone")
        make = partial(_Segmentations, self.param, self.phase)
        if param.label_type == _PIXEL:
            records = self.open_labeled(make, read_pairs)
        elif param.label_type == _NONE:
            records = self.open_labeled(make, _read_images)
        else:
            records = self.open_labeled(make, read_labels)
            if bad := [value for _, value in records.lines if not 0 <= value <= 255]:
                self.fail(f"classes in '{param.source}' must be from 0 to 255, not {bad[0]}")
        height, width, channels = self.first_readable(records.read).image.shape
        crop = transform.crop_size
        self.start(records, (channels, crop or height, crop or width), log.here())

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        size, _, height, width = self._data_shape
        return [self._data_shape, (size, 1, height, width), (size, 1, 1, 2)][: self.num_tops]

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        data, rows = self.next_records()
        values = torch.from_numpy(np.stack(rows))
        size, _, height, width = data.shape
        labels, dim = values[:, :-2].reshape(size, 1, height, width), values[:, -2:].reshape(size, 1, 1, 2)
        return (data, labels, dim)[: self.num_tops]
