"""What the training losses of YOLO v2 and v3 share: lists of boxes, and a loss that is not its gradient's integral."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe.engine.layer import Shape
from caffe.engine.layer_types.shapes import can_inspect, count, full_precision, text
from caffe.engine.layer_types.softmax import LossLayer


class SquaredDifferences(torch.autograd.Function):
    """The sum of `diff` squared over N; the gradient of x is `gradient` / N, which is not its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, diff: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return diff.square().sum() / max(len(x), 1)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * (grads[0] / max(len(gradient), 1)), None, None


class YoloLoss(LossLayer):
    """Bottoms: a map N × num·(5 + num_class) × H × W, and boxes N × rows·5 (class, center x, y, width, height).

    A box's numbers are parts of the image. An image's boxes end at the first row whose width (or x) is 0.
    """

    #: anchors at each cell of the map, and classes; set by `setup`
    num: int
    num_class: int

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        super().reshape(bottom)
        (x, boxes), needed = bottom, self.num * (5 + self.num_class)
        if len(x) != 4 or x[1] != needed:
            self.fail(
                f"num: {self.num} anchors with num_class: {self.num_class} need N×{needed}×H×W; "
                f"'{self.param.bottom[0]}' is {text(x)}"
            )
        if count(boxes, 1) % 5:
            self.fail(f"'{self.param.bottom[1]}' is {text(boxes)}; it must have rows of 5: class, x, y, width, height")
        return [()]

    def graph_obstacle(self) -> str:
        return "looks up which anchors its boxes have"

    def given(self, x: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes N × rows × 5, and N × rows each: which of them count for "no object", and which for objects."""
        rows = full_precision(boxes.detach()).to(x.device).reshape(len(x), count(boxes.shape, 1) // 5, 5)
        # The first row whose center or width is 0 ends an image's boxes: for "no object" and for objects.
        near = (rows[:, :, 1] != 0).cumprod(dim=1).bool()
        taught = (rows[:, :, 3] != 0).cumprod(dim=1).bool()
        longest = int((near | taught).sum(dim=1).max()) if rows.numel() else 0
        return rows[:, :longest], near[:, :longest], taught[:, :longest]

    def cells_of(self, label: Tensor, truth: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """The column and the row of each box's cell: `label` K, `truth` K × 4. Raises NetError for boxes that cannot be."""
        place = (truth[:, :2] * truth.new_tensor([width, height])).long()
        if can_inspect(label):
            self._check_boxes(label, place, height, width)
        return place[:, 0].clamp(0, width - 1), place[:, 1].clamp(0, height - 1)

    def _check_boxes(self, label: Tensor, place: Tensor, height: int, width: int) -> None:
        outside = (label < 0) | (label >= self.num_class)
        if bool(outside.any()):
            self.fail(
                f"class {int(label[outside][0])} in '{self.param.bottom[1]}' is not one of num_class: {self.num_class} "
                f"(0 to {self.num_class - 1})"
            )
        if bool(((place < 0) | (place >= place.new_tensor([width, height]))).any()):
            self.fail(
                f"a box in '{self.param.bottom[1]}' has its center outside the image; rows are class, center x, center "
                "y, width and height in parts of the image"
            )
