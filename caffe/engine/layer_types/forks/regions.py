"""What the layers that pool regions of interest share: the regions, their grid, and rounding as C does it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape
from caffe.engine.layer_types.shapes import can_inspect, count, text


class RegionLayer(Layer):
    """A layer with a feature map N × C × H × W and regions R × 5: image, x1, y1, x2, y2 in pixels of the net's input.

    Corners are inclusive. Regions get no gradient.
    """

    bottoms = (2, 2)
    fresh_tops = True

    def takes_gradient(self, index: int) -> bool:
        return index == 0

    def check_regions(self, bottom: Sequence[Shape]) -> None:
        image, regions = bottom
        if len(image) != 4:
            self.fail(f"needs a feature map of 4 axes (num, channels, height, width), not {text(image)}")
        if not regions or count(regions, 1) != 5:
            self.fail(f"needs regions of 5 values (image, x1, y1, x2, y2); '{self.param.bottom[1]}' is {text(regions)}")

    def images_of(self, regions: Tensor, images: int) -> Tensor:
        """Each region's image, R; raises NetError for one that is not in the batch, where values may be read."""
        index = regions[:, 0].long()
        if can_inspect(index) and bool(((index < 0) | (index >= images)).any()):
            bad = int(index[(index < 0) | (index >= images)][0])
            self.fail(f"a region of '{self.param.bottom[1]}' is in image {bad}; the batch has images 0 to {images - 1}")
        return index.clamp(0, max(images - 1, 0))


def rounded(x: Tensor) -> Tensor:
    """The nearest integers, halves away from zero (torch.round takes the even one)."""
    whole = torch.trunc(x)
    return whole + torch.sign(x) * ((x - whole).abs() >= 0.5)


def padded(corners: Tensor, ratio: float) -> Tensor:
    """Regions R × 4 (corners inclusive), enlarged on every side by `ratio` times their own side."""
    if not ratio:
        return corners
    pad = (corners[:, 2:] - corners[:, :2] + 1) * ratio
    return torch.cat([corners[:, :2] - pad, corners[:, 2:] + pad], dim=1)


def pooled_size(layer: Layer) -> tuple[int, int]:
    """pooled_h and pooled_w of a layer's roi_pooling_param."""
    param = layer.param.roi_pooling_param
    if param.pooled_h < 1 or param.pooled_w < 1:
        layer.fail(f"pooled_h and pooled_w must be given and positive, not {param.pooled_h} and {param.pooled_w}")
    return param.pooled_h, param.pooled_w
