"""Accuracy: the share of labels among the top_k scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.shapes import can_inspect, class_index, count, labels_of, text


@register
class Accuracy(Layer):
    """Scores with classes along `axis`, one label for each other position; among equal scores the later class ranks
    first.

    With min_is_better (of caffe-windows) the scores are distances: the smallest ranks first, of equal ones the earlier
    class.

    Labels equal to ignore_label are not counted; if none is left, the accuracy is NaN. A second top is the accuracy of
    each class, 0 for a class without labels.
    """

    type_name = "Accuracy"
    bottoms = (2, 2)
    tops = (1, 2)

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.accuracy_param
        self.ignore_label: int | None = param.ignore_label if param.HasField("ignore_label") else None

    def takes_gradient(self, index: int) -> bool:
        return False

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottom
        axis = self.canonical_axis(self.param.accuracy_param.axis, len(scores))
        positions = count(scores, 0, axis) * count(scores, axis + 1)
        if positions != count(labels):
            self.fail(
                f"'{self.param.bottom[0]}' {text(scores)} with classes along axis {axis} needs {positions} labels; "
                f"'{self.param.bottom[1]}' {text(labels)} has {count(labels)}"
            )
        top_k = self.param.accuracy_param.top_k
        if top_k > scores[axis]:
            self.fail(f"top_k {top_k} is more than the {scores[axis]} classes of axis {axis} of {text(scores)}")
        return [(), (scores[axis],)][: max(self.num_tops, 1)]

    @torch.no_grad()
    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        param = self.param.accuracy_param
        scores = bottom[0].movedim(self.canonical_axis(param.axis, bottom[0].dim()), -1).flatten(0, -2)
        labels = labels_of(bottom[1])
        valid = torch.ones_like(labels, dtype=torch.bool)
        if self.ignore_label is not None:
            valid = labels != self.ignore_label
        classes = scores.shape[1]
        index, bad = class_index(labels, classes)
        if can_inspect(labels) and bool((bad & valid).any()):
            self.fail(
                f"label {int(labels[bad & valid][0])} in '{self.param.bottom[1]}' is not one of the {classes} classes "
                f"(0 to {classes - 1})"
            )
        own = scores.gather(1, index[:, None])
        order = torch.arange(classes, device=scores.device)
        if param.min_is_better:
            before = (scores < own) | ((scores == own) & (order < index[:, None]))
        else:
            before = (scores > own) | ((scores == own) & (order > index[:, None]))
        rank = before.sum(dim=1)
        hit = ((rank < param.top_k) & valid & ~bad).to(bottom[0].dtype)
        accuracy: Tensor = hit.sum() / valid.sum()
        if self.num_tops < 2:
            return accuracy
        hits = hit.new_zeros(classes).index_add_(0, index, hit)
        labeled = hit.new_zeros(classes).index_add_(0, index, (valid & ~bad).to(hit.dtype))
        return accuracy, torch.where(labeled > 0, hits / labeled.clamp(min=1), 0)
