"""Losses of scores or probabilities against labels: sigmoid cross-entropy, hinge, multinomial logistic, infogain.

A label that is not a class is an error. On a GPU, where checking labels would mean waiting, the loss is NaN instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from google.protobuf.message import DecodeError
from torch import Tensor

from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.shapes import class_index, count, full_precision, labels_of, text
from caffe.engine.layer_types.softmax import BATCH_SIZE, VALID, LossLayer
from caffe.proto import caffe_pb2

_HINGE_L2 = caffe_pb2.HingeLossParameter.Norm.Value("L2")
#: smaller probabilities count as this in a logarithm
_SMALLEST_PROBABILITY = 1e-20


@register
class SigmoidCrossEntropyLoss(LossLayer):
    """−t·log σ(x) − (1 − t)·log(1 − σ(x)), summed; targets t in [0, 1], one for each score.

    Normalized by the batch size unless loss_param says otherwise; targets that truncate to ignore_label are not
    counted.
    """

    type_name = "SigmoidCrossEntropyLoss"

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.loss_param
        self.mode = BATCH_SIZE
        if param.HasField("normalization"):
            self.mode = param.normalization
        elif param.HasField("normalize") and param.normalize:
            self.mode = VALID
        self.ignore_label: int | None = param.ignore_label if param.HasField("ignore_label") else None

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        super().reshape(bottom)
        if count(bottom[0]) != count(bottom[1]):
            self.fail(f"needs a target for each score; its bottoms are {text(bottom[0])} and {text(bottom[1])}")
        return [()]

    def forward(self, *bottom: Tensor) -> Tensor:
        scores = full_precision(bottom[0]).reshape(-1)
        target = bottom[1].detach().reshape(-1).to(scores.dtype)
        losses = F.binary_cross_entropy_with_logits(scores, target, reduction="none")
        valid = None
        if self.ignore_label is not None:
            valid = target.long() != self.ignore_label
            losses = torch.where(valid, losses, 0)
        outer = bottom[0].shape[0]
        return losses.sum() / self.normalizer(self.mode, outer, count(bottom[0].shape, 1), valid)


class _LabelledRows(LossLayer):
    """Rows of scores (all axes after the batch), each with one label."""

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        super().reshape(bottom)
        if count(bottom[1]) != bottom[0][0]:
            self.fail(
                f"needs one label for each of the {bottom[0][0]} items of '{self.param.bottom[0]}'; "
                f"'{self.param.bottom[1]}' is {text(bottom[1])}"
            )
        return [()]

    def rows(self, bottom: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The scores as N × classes, the labels as indices into them, and whether any label was not a class."""
        scores = full_precision(bottom[0])
        scores = scores.reshape(scores.shape[0], count(scores.shape, 1))
        labels = labels_of(bottom[1])
        self.check_labels(labels, None, scores.shape[1])
        index, bad = class_index(labels, scores.shape[1])
        return scores, index, bad.any()


@register
class HingeLoss(_LabelledRows):
    """max(0, 1 − s·x), s = 1 for the labeled class, −1 for others; or (norm L2) its square. Summed, over the batch."""

    type_name = "HingeLoss"

    def forward(self, *bottom: Tensor) -> Tensor:
        scores, index, bad = self.rows(bottom)
        sign = torch.ones_like(scores).scatter_(1, index[:, None], -1)
        margins = torch.relu(1 + sign * scores)
        loss = margins.square().sum() if self.param.hinge_loss_param.norm == _HINGE_L2 else margins.sum()
        return torch.where(bad, torch.nan, loss / scores.shape[0])


class _NegativeLog(torch.autograd.Function):
    """−log p with p at least 1e-20, also in the gradient (−1/p)."""

    @staticmethod
    def forward(ctx: Any, probability: Tensor) -> Tensor:
        floored = probability.clamp(min=_SMALLEST_PROBABILITY)
        ctx.save_for_backward(floored)
        return -floored.log()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return -grads[0] / ctx.saved_tensors[0]


@register
class MultinomialLogisticLoss(_LabelledRows):
    """The mean of −log of the labeled class's probability; the bottom has probabilities, not scores."""

    type_name = "MultinomialLogisticLoss"

    def forward(self, *bottom: Tensor) -> Tensor:
        probabilities, index, bad = self.rows(bottom)
        losses = _NegativeLog.apply(probabilities.gather(1, index[:, None]))
        return torch.where(bad, torch.nan, losses.sum() / probabilities.shape[0])


@register
class InfogainLoss(_LabelledRows):
    """The mean over items of Σ −H[label, j] · log p_j; H is read from `source` (a BlobProto) or the third bottom."""

    type_name = "InfogainLoss"
    bottoms = (2, 3)

    def takes_gradient(self, index: int) -> bool:
        return index == 0

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.register_buffer("matrix", None, persistent=False)
        if len(bottom) < 3:
            self.matrix = self._read(self.param.infogain_loss_param.source)

    def _read(self, source: str) -> Tensor:
        if not source:
            self.fail("the infogain matrix comes from infogain_loss_param { source } or as a third bottom; give one")
        blob = caffe_pb2.BlobProto()
        try:
            with open(source, "rb") as file:
                blob.ParseFromString(file.read())
        except OSError as error:
            self.fail(f"cannot read the infogain matrix '{source}': {error.strerror}")
        except DecodeError:
            self.fail(f"the infogain matrix '{source}' is not a binary BlobProto")
        shape = tuple(blob.shape.dim) if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)
        values = torch.tensor(list(blob.data or blob.double_data), dtype=torch.float32)
        if count(shape) != len(values):
            self.fail(f"the infogain matrix '{source}' has shape {text(shape)} but {len(values)} values")
        return values.reshape(shape)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        super().reshape(bottom)
        shape = bottom[2] if len(bottom) > 2 else tuple(self.matrix.shape)
        classes = count(bottom[0], 1)
        if len(shape) > 4 or tuple((1, 1, 1, 1, *shape)[-4:]) != (1, 1, classes, classes):
            self.fail(f"the infogain matrix must be {classes}×{classes} for {classes} classes, not {text(shape)}")
        return [()]

    def forward(self, *bottom: Tensor) -> Tensor:
        probabilities, index, bad = self.rows(bottom)
        matrix = bottom[2].detach() if len(bottom) > 2 else self.matrix
        matrix = matrix.reshape(probabilities.shape[1], -1).to(probabilities.dtype)
        losses = matrix[index] * _NegativeLog.apply(probabilities)
        return torch.where(bad, torch.nan, losses.sum() / probabilities.shape[0])
