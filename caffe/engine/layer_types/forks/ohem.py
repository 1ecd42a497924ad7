"""Online hard example mining of R-FCN (Dai et al. 2016; Shrivastava et al. 2016): losses of each region, and the hardest.

SoftmaxWithLossOHEM and SmoothL1LossOHEM also give the loss of each region; BoxAnnotatorOHEM keeps the labels and box
weights of those with the largest, for a second pass through ordinary losses.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.distance_loss import SmoothL1Loss, smooth_l1
from caffe.engine.layer_types.shapes import count, full_precision, legacy_dim, text
from caffe.engine.layer_types.softmax import SoftmaxWithLoss


@register
class SoftmaxWithLossOHEM(SoftmaxWithLoss):
    """SoftmaxWithLoss under R-FCN's name: its third top is the loss at each position."""

    type_name = "SoftmaxWithLossOHEM"


@register
class SmoothL1LossOHEM(SmoothL1Loss):
    """Smooth L1 of the differences, a third bottom weights them; a second top is the loss of each position, N×1×H×W.

    `normalization`: VALID and FULL (N · H · W), BATCH_SIZE, PRE_FIXED, NONE. Only the first top passes a gradient on.
    """

    type_name = "SmoothL1LossOHEM"
    bottoms = (2, 3)
    tops = (1, 2)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        super().reshape(bottom)
        return [(), self.positions(bottom[0])][: max(self.num_tops, 1)]

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        num, channels, *image = (legacy_dim(bottom[0].shape, axis) for axis in range(4))
        a, b, *weight = (full_precision(x).reshape(num, channels, *image) for x in bottom)
        losses = smooth_l1(a, b, weight[0].detach() if weight else None)
        outer, inner = num, count(image)
        loss = losses.sum() / self.normalizer(self.normalization_mode(), outer, inner, None)
        if self.num_tops < 2:
            return loss
        return loss, losses.detach().sum(dim=1, keepdim=True)


@register
class BoxAnnotatorOHEM(Layer):
    """Keeps the labels and box weights of each image's roi_per_img regions with the largest losses.

    Bottoms: regions R × 5 × H × W (the image first), losses R × 1 × H × W, labels R × 1 × H × W, box weights
    R × B × H × W; missing axes count as 1. Tops: the labels, ignore_label (−1) elsewhere; the weights, 0 elsewhere.
    Among equal losses the earlier region is kept (the original leaves that open). No gradient.
    """

    type_name = "BoxAnnotatorOHEM"
    bottoms = (4, 4)
    tops = (2, 2)

    def takes_gradient(self, index: int) -> bool:
        return False

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.box_annotator_ohem_param
        if param.roi_per_img < 1:
            self.fail("box_annotator_ohem_param must give roi_per_img, at least 1")
        self.keep, self.ignore_label = param.roi_per_img, param.ignore_label

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        num, height, width = (legacy_dim(bottom[0], axis) for axis in (0, 2, 3))
        for i, (shape, channels) in enumerate(zip(bottom, (5, 1, 1, None), strict=True)):
            found = [legacy_dim(shape, axis) for axis in range(4)]
            needed = [num, found[1] if channels is None else channels, height, width]
            if found != needed or not shape:
                self.fail(f"'{self.param.bottom[i]}' is {text(shape)}; with {num} regions it must be {text(needed)}")
        return [(num, 1, height, width), (num, legacy_dim(bottom[3], 1), height, width)]

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        label_shape, weight_shape = self.reshape([tuple(b.shape) for b in bottom])
        regions, losses, labels, weights = (b.detach() for b in bottom)
        image = regions.reshape(label_shape[0], 5, *label_shape[2:])[:, 0].reshape(-1).long()
        hardest = torch.argsort(losses.reshape(-1), descending=True, stable=True)
        by_image = torch.argsort(image[hardest], stable=True)
        order = hardest[by_image]  # images one after the other, each by falling loss
        grouped = image[order]
        rank = torch.arange(len(order), device=order.device) - torch.searchsorted(grouped, grouped)
        kept = torch.zeros_like(order, dtype=torch.bool).scatter(0, order, rank < self.keep).reshape(label_shape)
        return (
            torch.where(kept, labels.reshape(label_shape), self.ignore_label),
            torch.where(kept, weights.reshape(weight_shape), 0),
        )
