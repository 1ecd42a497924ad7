"""SegAccuracy of DeepLab (Chen et al. 2015) and PSPNet (Zhao et al. 2017): how well pixels are labeled."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.shapes import can_inspect, class_index, count, full_precision, labels_of, legacy_dim, text


@register
class SegAccuracy(Layer):
    """Bottoms: scores N × C × H × W, labels N × 1 × H × W. Top: 1 × 1 × 1 × 3. No gradient.

    The three are the part of the pixels that are labeled right; the mean over the classes that occur of the part of
    their pixels; and the mean over all classes of intersection over union, where a class that is neither labeled nor
    found counts as 1. The label found is that of the largest score, of equal ones the last. Pixels with one of
    ignore_label do not count. With `reset: false` the pixels of all passes count together. `metric` has no effect.
    """

    type_name = "SegAccuracy"
    bottoms = (2, 2)

    def takes_gradient(self, index: int) -> bool:
        return False

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.classes = legacy_dim(bottom[0], 1)
        if self.classes < 1:
            self.fail(f"needs scores of at least one class; '{self.param.bottom[0]}' is {text(bottom[0])}")
        ignored = torch.tensor(list(self.param.seg_accuracy_param.ignore_label), dtype=torch.long)
        self.register_buffer("_ignored", ignored, persistent=False)
        counts = torch.zeros(self.classes**2, dtype=torch.long)
        self.register_buffer("_counts", counts, persistent=False)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        scores, labels = ([legacy_dim(shape, axis) for axis in range(4)] for shape in bottom)
        if min(map(len, bottom)) < 1 or max(map(len, bottom)) > 4 or labels != [scores[0], 1, *scores[2:]]:
            self.fail(f"needs scores N×C×H×W and labels N×1×H×W; they are {text(bottom[0])} and {text(bottom[1])}")
        if scores[1] != self.classes:
            self.fail(f"was set up for {self.classes} classes; '{self.param.bottom[0]}' is {text(bottom[0])}")
        return [(1, 1, 1, 3)]

    def graph_obstacle(self) -> str | None:
        return None if self.param.seg_accuracy_param.reset else "adds up the pixels of all passes"

    def forward(self, *bottom: Tensor) -> Tensor:
        scores = bottom[0].detach()
        labels = labels_of(bottom[1])
        ignored: Tensor = self._ignored  # type: ignore[assignment]
        counts: Tensor = self._counts  # type: ignore[assignment]
        counted = (labels[:, None] != ignored).all(dim=1)
        index, bad = class_index(labels, self.classes)
        bad &= counted
        if can_inspect(labels) and bool(bad.any()):
            self.fail(
                f"label {int(labels[bad][0])} in '{self.param.bottom[1]}' is not one of the {self.classes} classes "
                f"(0 to {self.classes - 1}), nor an ignore_label"
            )
        # not by argmax, which leaves open which of equal scores it finds
        by_class = scores.reshape(len(scores), self.classes, count(scores.shape, 2))
        order = torch.arange(self.classes, device=scores.device)[:, None]
        best = by_class == by_class.amax(dim=1, keepdim=True)
        found = torch.where(best, order, 0).amax(dim=1).reshape(-1)
        pairs = torch.zeros_like(counts).index_add(0, index * self.classes + found, (counted & ~bad).long())
        if not self.param.seg_accuracy_param.reset:
            counts += pairs
            pairs = counts
        matrix = pairs.reshape(self.classes, self.classes).to(torch.float64)
        right, labeled, seen = matrix.diagonal(), matrix.sum(dim=1), matrix.sum(dim=0)
        union = labeled + seen - right
        accuracy = right.sum() / matrix.sum().clamp(min=1)
        recall = (right / labeled.clamp(min=1)).sum() / (labeled > 0).sum().clamp(min=1)
        jaccard = torch.where(union == right, 1.0, right / union.clamp(min=1)).mean()
        return torch.stack([accuracy, recall, jaccard]).reshape(1, 1, 1, 3).to(full_precision(scores).dtype)
