"""CenterLoss of Wen et al. 2016, for face recognition: features are drawn to the center of their class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.shapes import class_index, count, full_precision, labels_of, text
from caffe.engine.layer_types.softmax import LossLayer


class _CenterLoss(torch.autograd.Function):
    """Half the mean squared distance of the features, N × K, from their centers.

    The centers' gradient is no derivative: the sum of the distances of a class's items over their number plus 1, which
    the loss's own weight does not change.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, centers: Tensor, label: Tensor) -> Tensor:
        distance = x - centers[label]
        ctx.save_for_backward(distance, label)
        ctx.classes = len(centers)
        return distance.square().sum() / (2 * max(len(x), 1))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        distance, label = ctx.saved_tensors
        items = torch.bincount(label, minlength=ctx.classes)
        total = distance.new_zeros(ctx.classes, distance.shape[1]).index_add_(0, label, distance)
        return distance * (grads[0] / max(len(distance), 1)), -total / (items[:, None] + 1), None


@register
class CenterLoss(LossLayer):
    """Bottoms: features N × …, labels N. Blob: the centers, num_output × the number of features of an item.

    The loss is half the mean squared distance of the features from the center of their class. With each step the
    centers go towards their items, by lr_mult and the learning rate alone: loss_weight does not change their gradient.
    """

    type_name = "CenterLoss"

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.center_loss_param
        if param.num_output < 1:
            self.fail("num_output must be given: the number of classes")
        axis = self.canonical_axis(param.axis, len(bottom[0]))
        if count(bottom[0], 1, axis) != 1:
            self.fail(f"axis {param.axis} would leave out values of {text(bottom[0])}; use axis: 1")
        self.add_blob((param.num_output, count(bottom[0], axis)), param.center_filler)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        super().reshape(bottom)
        features, labels = bottom
        if count(labels, 1) != 1:
            self.fail(f"needs one label for each of {features[0]} items; '{self.param.bottom[1]}' is {text(labels)}")
        if count(features, 1) != self.blobs[0].shape[1]:
            self.fail(
                f"'{self.param.bottom[0]}' is {text(features)}; its centers have {self.blobs[0].shape[1]} values each"
            )
        return [()]

    def forward(self, *bottom: Tensor) -> Tensor:
        x, centers = full_precision(bottom[0]), full_precision(self.blobs[0])
        label = labels_of(bottom[1])
        self.check_labels(label, None, len(centers))
        label, _ = class_index(label, len(centers))
        loss: Tensor = _CenterLoss.apply(x.flatten(1), centers, label)
        return loss
