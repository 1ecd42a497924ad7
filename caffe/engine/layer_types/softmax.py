"""Softmax and SoftmaxWithLoss, and how losses are normalized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.activation import Neuron
from caffe.engine.layer_types.shapes import can_inspect, count, full_precision, labels_of, text
from caffe.ops.softmax import softmax
from caffe.proto import caffe_pb2

_Mode = caffe_pb2.LossParameter.NormalizationMode
FULL, VALID, BATCH_SIZE = _Mode.Value("FULL"), _Mode.Value("VALID"), _Mode.Value("BATCH_SIZE")
PRE_FIXED = _Mode.Value("PRE_FIXED")
_TINY = torch.finfo(torch.float32).tiny


class LossLayer(Layer):
    """A layer whose first top is a scalar loss; bottom 1 is the label or target of bottom 0, item by item."""

    bottoms = (2, 2)
    auto_tops = True
    is_loss = True

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        if not bottom[0] or not bottom[1] or bottom[0][0] != bottom[1][0]:
            self.fail(
                f"'{self.param.bottom[0]}' is {text(bottom[0])} and '{self.param.bottom[1]}' is {text(bottom[1])}; "
                "their first axes (the batch) must agree"
            )
        return [()]

    def normalization_mode(self) -> int:
        """LossParameter.normalization, or what the older `normalize` means."""
        param = self.param.loss_param
        if param.HasField("normalize") and not param.HasField("normalization"):
            return VALID if param.normalize else BATCH_SIZE
        return int(param.normalization)

    def check_labels(self, labels: Tensor, valid: Tensor | None, classes: int) -> None:
        """Raises NetError for a label that is not a class, if labels may be read."""
        if not can_inspect(labels):
            return
        bad = (labels < 0) | (labels >= classes)
        if valid is not None:
            bad &= valid
        if bool(bad.any()):
            self.fail(
                f"label {int(labels[bad][0])} in '{self.param.bottom[1]}' is not one of the {classes} classes "
                f"(0 to {classes - 1})"
            )

    def normalizer(self, mode: int, outer: int, inner: int, valid: Tensor | None) -> float | Tensor:
        """The divisor of the summed loss, at least 1: `valid` marks the labels that count (None: all)."""
        if mode == FULL or (mode == VALID and valid is None):
            return float(max(outer * inner, 1))
        if mode == VALID:
            assert valid is not None
            return valid.sum().clamp(min=1)
        if mode == PRE_FIXED:
            return max(float(self.param.loss_param.pre_fixed_normalizer), 1.0)
        return float(max(outer, 1)) if mode == BATCH_SIZE else 1.0


@register
class Softmax(Neuron):
    """exp(x) over its sum along `axis`."""

    type_name = "Softmax"

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        self.canonical_axis(self.param.softmax_param.axis, len(bottom[0]))
        return [bottom[0]]

    def forward(self, *bottom: Tensor) -> Tensor:
        return softmax(bottom[0], self.param.softmax_param.axis)


class NegativeLogSoftmax(torch.autograd.Function):
    """−log of each position's label's softmax, cut off at −log of the smallest float32; the gradient is not cut off.

    scores are outer × classes × inner, labels outer × inner; a label that is not a class gives NaN.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        classes = scores.shape[1]
        prob = torch.softmax(scores, dim=1)
        index = labels.clamp(0, max(classes - 1, 0)).unsqueeze(1)
        losses = -prob.gather(1, index).squeeze(1).clamp(min=_TINY).log()
        losses = losses.masked_fill((labels < 0) | (labels >= classes), float("nan"))
        ctx.save_for_backward(prob, index)
        ctx.mark_non_differentiable(prob)
        return losses, prob

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        prob, index = ctx.saved_tensors
        grad = grads[0].unsqueeze(1)
        return (prob * grad).scatter_add(1, index, -grad), None


@register
class SoftmaxWithLoss(LossLayer):
    """The mean of −log softmax of the labeled class, over the labels that are not ignore_label.

    One label for each position apart from the class `axis`. `normalization`: VALID (labels that count), FULL,
    BATCH_SIZE (the size of the axes before the classes), NONE, PRE_FIXED (R-FCN's: pre_fixed_normalizer). A second top
    holds the probabilities, and a third one (of Cascade R-CNN) the loss at each position, in the labels' shape, 0 where
    the label is ignored. Only the first passes a gradient on.

    With weight_by_label_freqs (of SegNet) the loss of a label is multiplied by its class_weighting; VALID still divides
    by the number of labels.
    """

    type_name = "SoftmaxWithLoss"
    tops = (1, 3)
    _class_weights: Tensor | None

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.loss_param
        self.mode = self.normalization_mode()
        if self.param.softmax_param.normalize_type != "Softmax":
            self.fail(
                f"normalize_type '{self.param.softmax_param.normalize_type}' is not supported; it must be Softmax"
            )
        self.ignore_label: int | None = param.ignore_label if param.HasField("ignore_label") else None
        if param.weight_by_label_freqs and not param.class_weighting:
            self.fail("weight_by_label_freqs needs class_weighting, one weight for each class")
        # a buffer, because a CUDA graph cannot hold a copy from the host
        weights = torch.tensor(list(param.class_weighting)) if param.weight_by_label_freqs else None
        self.register_buffer("_class_weights", weights, persistent=False)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        super().reshape(bottom)
        axis = self.class_axis(len(bottom[0]))
        weights = self.param.loss_param.class_weighting
        if self.param.loss_param.weight_by_label_freqs and len(weights) != bottom[0][axis]:
            self.fail(f"has {len(weights)} class_weighting for the {bottom[0][axis]} classes of {text(bottom[0])}")
        positions = count(bottom[0], 0, axis) * count(bottom[0], axis + 1)
        if positions != count(bottom[1]):
            self.fail(
                f"'{self.param.bottom[0]}' {text(bottom[0])} with classes along axis {axis} needs {positions} labels; "
                f"'{self.param.bottom[1]}' {text(bottom[1])} has {count(bottom[1])}"
            )
        return [(), bottom[0], bottom[1]][: max(self.num_tops, 1)]

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        loss, prob, losses = self._loss_of(bottom)
        return loss if self.num_tops < 2 else (loss, prob, losses.detach().reshape(bottom[1].shape))[: self.num_tops]

    def class_axis(self, num_axes: int) -> int:
        """The axis of the classes of a bottom with `num_axes` axes."""
        return self.canonical_axis(self.param.softmax_param.axis, num_axes)

    def losses_of(self, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each position (outer × inner) and the probabilities. scores: outer × classes × inner."""
        losses, prob = NegativeLogSoftmax.apply(scores, labels)
        return losses, prob

    def _loss_of(self, bottom: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, the probabilities, and the loss at each position (outer × inner, 0 where the label is ignored)."""
        scores, label = full_precision(bottom[0]), labels_of(bottom[1])
        axis = self.class_axis(scores.dim())
        outer, classes, inner = count(scores.shape, 0, axis), scores.shape[axis], count(scores.shape, axis + 1)
        valid = None
        if self.ignore_label is not None:
            valid = label != self.ignore_label
        self.check_labels(label, valid, classes)
        if valid is not None:
            label = torch.where(valid, label, 0)
        losses, prob = self.losses_of(scores.reshape(outer, classes, inner), label.reshape(outer, inner))
        if self._class_weights is not None:
            losses = losses * self._class_weights.to(losses)[label.clamp(0, classes - 1)].reshape(outer, inner)
        if valid is not None:
            losses = losses * valid.reshape(outer, inner)
        loss = losses.sum() / self.normalizer(self.mode, outer, inner, valid)
        return loss, prob.reshape(scores.shape), losses
