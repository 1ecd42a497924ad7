"""What the layers share that read images with an image of labels each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe import log
from caffe.data.augment.transform import Source
from caffe.data.feed.stream import layer_seed
from caffe.data.images import ImageFormat, read_image
from caffe.engine.layer_types.image_data import ImageListLayer, ImageRecords, Lines
from caffe.errors import DataError
from caffe.proto import caffe_pb2


class LabelImages(ImageRecords):
    """The lines of a list that name an image and its label image."""

    def labels(
        self, path: str, source: Source, size: tuple[int, int], interpolation: int, divided: int = 1
    ) -> NDArray[np.uint8]:
        """The label image at `path`, [H, W], resized to `size` (width, height) unless that is 0.

        It must have the size of the image, divided by `divided`.
        """
        where = f"label image '{self.root}{path}' of {source.where}"
        try:
            _, labels = read_image(self.root + path, ImageFormat(gray=True))
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        labels = labels.reshape(labels.shape[:2])
        if size[0]:
            labels = cv2.resize(labels, size, interpolation=interpolation)
        height, width = labels.shape
        if (height, width) != tuple(side // divided for side in source.image.shape[:2]):
            raise DataError(
                f"{where} is {height}×{width} (height × width), the image "
                f"{source.image.shape[0]}×{source.image.shape[1]}; they must have one size"
            )
        return np.asarray(labels, np.uint8)


class LabelImageLayer(ImageListLayer):
    """A layer whose labels are images, which everything at random has to change like their images."""

    #: fields of transform_param that the records apply to both; the Transformer does not get them
    alike: ClassVar[tuple[str, ...]] = ()

    def transform_param(self) -> Any:
        rest = caffe_pb2.TransformationParameter()
        rest.CopyFrom(self.param.transform_param)
        for field in self.alike:
            rest.ClearField(field)
        return rest

    def check_transform(self, instead: str) -> None:
        """Raises NetError for fields of transform_param that would change the image alone; `instead` ends it."""
        known = {*self.alike, "scale", "mean_file", "mean_value", "force_color", "force_gray"}
        given = [field.name for field, _ in self.param.transform_param.ListFields() if field.name not in known]
        if given:
            self.fail(
                f"transform_param has {', '.join(given)}, which would change the image and not its labels; {instead}"
            )

    def open_labeled(self, make: Callable[..., ImageRecords], read: Callable[[str], Lines]) -> ImageRecords:
        """The images of the list, which `read` reads; `make` takes the arguments of ImageRecords."""
        log.info(log.here(), f"Opening file {self.options.source}")
        lines = self.read_list(read)
        seed = layer_seed()
        return self.open_images(make, lines, seed, self.drawn_skip(len(lines), seed))
