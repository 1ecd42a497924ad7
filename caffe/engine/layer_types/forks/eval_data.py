"""EvalData of Cascade R-CNN (Cai and Vasconcelos 2018): the images of a window file in order, with their objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe import log
from caffe.data.augment.object_view import ObjectView, nearest
from caffe.data.feed.prefetch import Array
from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.forks.detection_data import MULTIPLE, has, rounded_side
from caffe.engine.layer_types.forks.object_data import ObjectDataLayer, ObjectImages, object_rows, record_of


class _Images(ObjectImages):
    """Records: images resized, and their objects."""

    def __init__(self, param: Any, scale: float, mean: NDArray[np.float32], *listed: Any) -> None:
        super().__init__(*listed)
        self.param, self.scale, self.mean = param, scale, mean

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """The size of an image in the net: multiples of 32."""
        param = self.param
        if has(param, "resize_width", "resize_height"):
            height, width = param.resize_height, param.resize_width
        elif has(param, "short_size", "long_size"):
            scale = param.short_size / min(height, width)
            height, width = (min(nearest(side * scale), param.long_size) for side in (height, width))
        return max(MULTIPLE, rounded_side(height)), max(MULTIPLE, rounded_side(width))

    def load_as(self, place: int, turn: int, room: Array) -> tuple[Array, Array]:
        _, _, (_, listed) = self.line(place)
        image = self.read(place).image
        height, width = image.shape[:2]
        view = ObjectView(image, listed.boxes.copy(), listed.regions.copy())
        canvas = self.resized(height, width)
        view.resize(*canvas)
        data = record_of(view, canvas, self.mean, self.scale, room)
        return data, object_rows(view, listed, listed.ignore, difficult=True)


@register
class EvalData(ObjectDataLayer):
    """Tops: data N × 3 × H × W, the objects as DetectionData gives them, and perhaps the images' sizes in the net, N × 2 ×
    1 × 1 (height, width).

    The source is a window file as DetectionData's. Images are resized to resize_width × resize_height, or so that the
    shorter side is short_size, but neither longer than long_size (which may change their aspect); then both sides are
    rounded to multiples of 32, at least 32. Without resize_width and resize_height, batches have one image. Of
    transform_param, only mean_value and scale exist. As in the fork, the layer's own `scale` has no effect.
    """

    type_name = "EvalData"
    tops = (2, 3)
    row = 8

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.eval_data_param
        fixed = has(param, "resize_width", "resize_height")
        if param.batch_size < 1 or (param.batch_size > 1 and not fixed):
            self.fail(
                f"batch_size is {param.batch_size}; it must be 1 for images of several sizes, or give resize_width and "
                "resize_height"
            )
        for pair in (("resize_width", "resize_height"), ("short_size", "long_size")):
            if has(param, *pair) and min(getattr(param, name) for name in pair) < 1:
                self.fail(f"{' and '.join(pair)} must be positive")
        mean = self.means(("mean_value", "scale"))
        images = self.listed(param.source, difficult=True)
        order, seed = self.order(len(images))
        records = _Images(param, self.param.transform_param.scale, mean, images, param.root_folder, order, seed, False)
        self._listed = [(image.path, image.height, image.width) for image in images]
        self.start(records, [], records.resized(images[-1].height, images[-1].width), param.batch_size, objects=True)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        return [*super().reshape(bottom), (self._data_shape[0], 2, 1, 1)][: self.num_tops]

    def check_sizes(self, path: str, sizes: Sequence[tuple[int, int]]) -> None:
        for number, (image, size) in enumerate(zip(self._listed, sizes, strict=False), 1):
            if image[1:] != size:
                log.warning(
                    log.here(),
                    f"name_size_file '{path}' does not fit the images of layer '{self.name}': image {number} is {size[1]} × "
                    f"{size[0]} (width × height) in the list, but '{image[0]}' is {image[2]} × {image[1]} in the window "
                    "file. Boxes are scaled with the sizes in the list, so results and scores will be wrong",
                )
                return
        if len(self._listed) != len(sizes):
            log.warning(
                log.here(),
                f"name_size_file '{path}' lists {len(sizes)} images, the window file of layer '{self.name}' "
                f"{len(self._listed)}: sizes will be those of other images",
            )

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        data, rows = super().forward()
        size = torch.tensor(data.shape[2:], dtype=data.dtype)
        return (data, rows, size.expand(len(data), 2).reshape(-1, 2, 1, 1).clone())[: self.num_tops]
