"""HardMining of Cascade R-CNN (Cai and Vasconcelos 2018): the regions with the largest losses, and what belongs to them."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.shapes import count, full_precision, legacy_dim, text


@register
class HardMining(Layer):
    """Bottoms: losses of regions, R; the regions, R × 5 (image, x1, y1, x2, y2); any others of R items.

    Tops: the items, apart from the losses, of each image's num_roi_per_image regions with the largest losses, in their
    order. If an image has fewer, the hardest others of all images make up for them. Of equal losses the later region is
    the harder. No gradient.
    """

    type_name = "HardMining"
    bottoms = (2, None)
    tops = (1, None)
    fresh_tops = True
    dynamic_axes = MappingProxyType({0: "regions"})

    def takes_gradient(self, index: int) -> bool:
        return False

    def graph_obstacle(self) -> str:
        return "ranks regions on the CPU"

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.hard_mining_param
        self.each, self.images = param.num_roi_per_image, param.num_image
        if self.each < 1 or self.images < 1:
            self.fail(f"num_roi_per_image and num_image must be positive, not {self.each} and {self.images}")
        if self.num_tops != len(bottom) - 1:
            self.fail(f"needs a top for each bottom but the first, {len(bottom) - 1}; it has {self.num_tops}")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        items = bottom[0][0] if bottom[0] else 0
        for index, (name, shape) in enumerate(zip(self.param.bottom, bottom, strict=True)):
            values = {0: 1, 1: 5}.get(index)
            if not 1 <= len(shape) <= 4 or shape[0] != items or (values and count(shape, 1) != values):
                self.fail(f"'{name}' is {text(shape)}; it must be {items}×{values or '…'}")
        size = min(self.each * self.images, items)
        return [(size, *(legacy_dim(shape, axis) for axis in (1, 2, 3))) for shape in bottom[1:]]

    @torch.no_grad()
    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        loss, regions = (full_precision(b.detach()).cpu().flatten() for b in bottom[:2])
        image = regions.reshape(-1, 5)[:, 0].long()
        bad = (image < 0) | (image >= self.images)
        if bool(bad.any()):
            self.fail(
                f"a region of '{self.param.bottom[1]}' is of image {int(image[bad][0])}; with num_image: {self.images} "
                f"there are images 0 to {self.images - 1}"
            )
        hardest = torch.argsort(loss.flip(0), descending=True, stable=True).neg() + len(loss) - 1
        rank = torch.zeros_like(hardest)
        for number in range(self.images):
            own = hardest[image[hardest] == number]
            rank[own] = torch.arange(len(own))
        # those of each image come before the others, both by falling loss
        order = hardest[torch.argsort((rank[hardest] >= self.each).long(), stable=True)]
        kept = order[: self.each * self.images].sort().values
        shapes = self.reshape([tuple(b.shape) for b in bottom])
        return tuple(b.detach()[kept.to(b.device)].reshape(shape) for b, shape in zip(bottom[1:], shapes, strict=True))
