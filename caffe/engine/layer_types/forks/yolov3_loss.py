"""Yolov3 of MobileNet-YOLO: the training loss of YOLO v3 (Redmon and Farhadi 2018) for one of its maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.forks.yolo_boxes import boxes_of, overlaps
from caffe.engine.layer_types.forks.yolo_loss import SquaredDifferences, YoloLoss
from caffe.engine.layer_types.shapes import full_precision


@register
class Yolov3(YoloLoss):
    """Bottoms: a map N × num·(5 + num_class) × H × W, and boxes N × rows·5 (class, center x, y, width, height).

    A box's numbers are parts of the image; an image's boxes end at the first row whose width (or x) is 0. `biases`
    are the sides of all maps' anchors in pixels, `mask` says which of them this map has, and anchors_scale how many
    pixels a cell has. Center, objectness and classes are sigmoids of the map.

    Every anchor of every cell is taught that there is no object, unless its box overlaps a given one by more than
    `thresh`. Of all maps' anchors, the one that overlaps a given box most when both are centered (the first of equal
    ones) is taught that box, if it is this map's; and so are this map's others that overlap it by more than
    iou_thresh: its place (times coord_scale and 2 − width · height), objectness 1, and its class (class_scale),
    smoothed by label_smooth_eps. Of several boxes at one anchor, the last one's place counts, and all their classes.

    As in the fork, the loss is the sum of the squared differences that the gradient is made of, over N. The gradient
    is that of the logistic loss for sigmoids; with use_logic_gradient it is multiplied by the sigmoid's slope, and
    objectness by object_scale. noobject_scale has no effect. iou_loss other than MSE is refused.
    """

    type_name = "Yolov3"

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.yolov3_param
        if param.num < 1 or param.num_class < 1 or param.anchors_scale < 1:
            self.fail(
                f"num, num_class and anchors_scale must be at least 1, not {param.num}, {param.num_class} and "
                f"{param.anchors_scale}"
            )
        if param.iou_loss != param.MSE:
            name = param.IOU_LOSS.Name(param.iou_loss)
            self.fail(f"iou_loss: {name} is not supported, only MSE, the default")
        if not param.biases or len(param.biases) % 2 or min(param.biases) <= 0:
            self.fail(
                f"biases must be a positive width and height, in pixels, for each anchor; it has {len(param.biases)} "
                "numbers" + (f", and {min(param.biases):g} among them" if param.biases else "")
            )
        if len(param.mask) != param.num:
            self.fail(f"mask must name num: {param.num} of the anchors; it has {len(param.mask)} numbers")
        if max(param.mask) >= len(param.biases) // 2:
            self.fail(f"mask has anchor {max(param.mask)}; biases give anchors 0 to {len(param.biases) // 2 - 1}")
        self.num, self.num_class = param.num, param.num_class
        self.anchors = torch.tensor(list(param.biases), dtype=torch.float32).reshape(-1, 2)
        #: for each of all anchors, which of the map's it is, or −1
        self.local = torch.full((len(self.anchors),), -1)
        for place, anchor in reversed(list(enumerate(param.mask))):
            self.local[anchor] = place

    def forward(self, *bottom: Tensor) -> Tensor:
        x = full_precision(bottom[0])
        values = x.detach().reshape(len(x), self.num, 5 + self.num_class, *x.shape[2:])
        known = values.sigmoid()
        known[:, :, 2:4] = values[:, :, 2:4]
        diff = self._differences(known, *self.given(x, bottom[1]))
        gradient = diff
        if self.param.yolov3_param.use_logic_gradient:
            slope = known * (1 - known)
            slope[:, :, 2:4] = 1
            gradient = diff * slope
        loss: Tensor = SquaredDifferences.apply(x, diff.reshape(x.shape), gradient.reshape(x.shape))
        return loss

    def _differences(self, known: Tensor, given: Tensor, near: Tensor, taught: Tensor) -> Tensor:
        """The loss's differences in the shape of `known`, N × A × (5 + classes) × H × W: what the map says, as above."""
        param, (height, width) = self.param.yolov3_param, known.shape[3:]
        size = known.new_tensor([width, height])
        anchors = self.anchors.to(known) / (size * param.anchors_scale)
        boxes = boxes_of(known[:, :, :2], known[:, :, 2:4], anchors[list(param.mask)])

        diff = torch.zeros_like(known)
        nothing = known[:, :, 4].clone()
        for row in range(given.shape[1]):
            shared = overlaps(boxes.movedim(2, -1), given[:, row, 1:].reshape(-1, 1, 1, 1, 4))
            nothing[(shared > param.thresh) & near[:, row].reshape(-1, 1, 1, 1)] = 0
        diff[:, :, 4] = nothing

        image, place = taught.nonzero(as_tuple=True)
        truth, label = given[image, place, 1:], given[image, place, 0].long()
        across, down = self.cells_of(label, truth, height, width)
        label = label.clamp(0, self.num_class - 1)
        box, anchor = self._lessons(truth, anchors)
        at = (image[box], anchor, slice(None), down[box], across[box])
        where = ((at[0] * self.num + anchor) * height + at[3]) * width + at[4]

        # Lessons at one anchor come one after the other: the place is the last one's, and each adds its class.
        truth, label, here = truth[box], label[box], known[at]
        corner = torch.stack([across, down], dim=1)[box]
        sides = anchors[list(param.mask)][anchor]
        target = torch.cat([truth[:, :2] * size - corner, (truth[:, 2:] / sides).log()], dim=1)
        weight = param.coord_scale * (2 - truth[:, 2:].prod(dim=1, keepdim=True))
        turn = _turns(where)
        for number in range(int(turn.max()) + 1 if len(turn) else 0):
            now = turn == number
            cell = tuple(index if isinstance(index, slice) else index[now] for index in at)
            lesson = diff[cell]
            lesson[:, :4] = -weight[now] * (target[now] - here[now, :4])
            lesson[:, 4] = here[now, 4] - 1
            if param.use_logic_gradient:
                lesson[:, 4] *= param.object_scale
            lesson[:, 5:] = self._class_differences(lesson[:, 5:], here[now, 5:], label[now])
            diff[cell] = lesson
        return diff

    def _lessons(self, truth: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Which box (of `truth`, K × 4) each of the map's anchors is taught: indices of boxes, in order; of anchors."""
        threshold = self.param.yolov3_param.iou_thresh
        local = self.local.to(truth.device)
        if not len(truth):
            return local[:0], local[:0]
        sides = anchors.expand(len(truth), -1, -1)
        centered = torch.cat([torch.zeros_like(sides), sides], dim=-1)
        fit = overlaps(centered, torch.cat([torch.zeros_like(truth[:, :2]), truth[:, 2:]], dim=-1)[:, None])
        most, best = fit.nan_to_num(nan=-1).max(dim=1)
        first = torch.where(most > 0, local[best], -1)
        # As in the fork, the best anchor's number in the map, not in the list of all, is what the others are compared
        # with; where these differ, the best anchor is taught twice.
        taken = torch.where(first >= 0, first, torch.where(most > 0, best, -1))
        numbers = torch.arange(len(anchors), device=truth.device)
        other = (fit > threshold) & (numbers != taken[:, None]) & (threshold < 1)
        table = torch.cat([first[:, None], torch.where(other, local, -1)], dim=1)
        box, column = (table >= 0).nonzero(as_tuple=True)
        return box, table[box, column]

    def _class_differences(self, before: Tensor, prob: Tensor, label: Tensor) -> Tensor:
        """The classes' differences, n × classes, after those `before`: 0 if the anchor was not taught a class yet."""
        param = self.param.yolov3_param
        one_hot = torch.nn.functional.one_hot(label, self.num_class).to(prob)
        # float32, as the fork computes
        low = 0.5 * param.label_smooth_eps
        high = 1 - param.label_smooth_eps + low
        smooth = param.class_scale * (prob - (low + (high - low) * one_hot))
        smooth = torch.where(smooth.isfinite(), smooth, before)
        first = smooth
        if param.use_focal_loss:
            sure = prob.gather(1, label[:, None]) + 1e-15
            focus = -(1 - sure) * (2 * sure * sure.log() + sure - 1)
            first = param.class_scale * (prob - one_hot) * (0.5 * focus)
        again = before.gather(1, label[:, None]) != 0
        return torch.where(again, torch.where(one_hot > 0, smooth, before), first)


def _turns(where: Tensor) -> Tensor:
    """How many earlier elements are equal to each element of `where`."""
    order = torch.argsort(where, stable=True)
    sorted_ = where[order]
    rank = torch.arange(len(where), device=where.device) - torch.searchsorted(sorted_, sorted_)
    return torch.empty_like(rank).scatter(0, order, rank)
