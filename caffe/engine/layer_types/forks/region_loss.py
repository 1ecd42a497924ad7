"""RegionLoss of the ports of YOLO v2 (Redmon and Farhadi 2016) to Caffe: its training loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.forks.yolo_boxes import boxes_of, overlaps
from caffe.engine.layer_types.forks.yolo_loss import SquaredDifferences, YoloLoss
from caffe.engine.layer_types.shapes import full_precision


@register
class RegionLoss(YoloLoss):
    """Bottoms: a map N × num·(5 + num_class) × H × W, and boxes N × rows·5 (class, center x, y, width, height).

    A box's numbers are parts of the image; an image's boxes end at the first row whose width (or x) is 0. For every
    anchor of every cell: objectness is taught to be 0 (noobject_scale), unless its box overlaps a given one by more than
    `thresh`. For every given box: the anchor of its cell that overlaps it most when both are centered (with
    `bias_match` the anchor itself, else its prediction; of equal ones the first) is taught its position
    (coord_scale), class (class_scale), and objectness: 1, or with `rescore` the overlap (object_scale). Without
    `rescore` the position of small boxes counts more: times 2 − width · height. Where two boxes have one anchor, the
    later counts.

    As in the ports, the loss is the sum of the squared differences that the gradient is made of, over N.
    Their fields side, softmax, jitter, absolute, random, softmax_tree and class_map have no effect here; the first port
    also drew all boxes to their anchors in the first 12,800 images.
    """

    type_name = "RegionLoss"

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.region_loss_param
        if param.num < 1 or param.num_class < 1 or param.coords != 4:
            self.fail(
                f"num and num_class must be at least 1 and coords 4, not {param.num}, {param.num_class} and {param.coords}"
            )
        if param.softmax_tree:
            self.fail("softmax_tree (classes in a hierarchy) is not supported")
        if len(param.biases) != 2 * param.num:
            self.fail(
                f"needs 2 biases (width and height in cells) for each of num: {param.num} anchors, not {len(param.biases)}"
            )
        if min(param.biases) <= 0:
            self.fail(f"biases must be positive, not {min(param.biases):g}")
        self.num, self.num_class = param.num, param.num_class
        self.anchors = torch.tensor(list(param.biases), dtype=torch.float32).reshape(-1, 2)

    def forward(self, *bottom: Tensor) -> Tensor:
        x = full_precision(bottom[0])
        values = x.detach().reshape(len(x), self.num, 5 + self.num_class, *x.shape[2:])
        diff = self._differences(values, *self.given(x, bottom[1])).reshape(x.shape)
        loss: Tensor = SquaredDifferences.apply(x, diff, diff)
        return loss

    def _differences(self, values: Tensor, given: Tensor, near: Tensor, taught: Tensor) -> Tensor:
        """What the gradient is N times of, in the shape of `values`, N × A × (5 + classes) × H × W."""
        param = self.param.region_loss_param
        cells = values.new_tensor([values.shape[4], values.shape[3]])  # across, down
        anchors = self.anchors.to(values) / cells
        offset, size, objectness = values[:, :, :2].sigmoid(), values[:, :, 2:4], values[:, :, 4].sigmoid()
        prob = values[:, :, 5:].softmax(dim=2)
        boxes = boxes_of(offset, size, anchors)  # N × A × 4 × H × W
        slope = objectness * (1 - objectness)

        diff = torch.zeros_like(values)
        diff[:, :, 4] = param.noobject_scale * objectness * slope
        for row in range(given.shape[1]):
            shared = overlaps(boxes.movedim(2, -1), given[:, row, 1:].reshape(-1, 1, 1, 1, 4))
            diff[:, :, 4][(shared > param.thresh) & near[:, row].reshape(-1, 1, 1, 1)] = 0

        image, place_in_list = taught.nonzero(as_tuple=True)
        truth = given[image, place_in_list, 1:]
        label = given[image, place_in_list, 0].long()
        across, down = self.cells_of(label, truth, *values.shape[3:])
        sides = anchors.expand(len(truth), -1, -1)
        if not param.bias_match:
            sides = boxes[image, :, 2:, down, across]
        centered = torch.cat([torch.zeros_like(sides), sides], dim=-1)
        fit = overlaps(centered, torch.cat([torch.zeros_like(truth[:, :2]), truth[:, 2:]], dim=-1)[:, None])
        anchor = fit.nan_to_num(nan=-1).argmax(dim=1) if len(truth) else label

        # Of several boxes at one place the last counts.
        where = ((image * values.shape[1] + anchor) * values.shape[3] + down) * values.shape[4] + across
        order = torch.arange(len(where), device=where.device)
        last = where.new_full((diff[:, :, 4].numel(),), -1).scatter_reduce(0, where, order, "amax")[where] == order
        image, anchor, down, across, truth, label = (t[last] for t in (image, anchor, down, across, truth, label))
        at = (image, anchor, slice(None), down, across)

        found = overlaps(boxes[at], truth)
        target = torch.cat([truth[:, :2] * cells, (truth[:, 2:] / anchors[anchor]).log()], dim=1)
        target[:, :2] -= torch.stack([across, down], dim=1)
        weight = torch.full_like(found, param.coord_scale)
        if not param.rescore:
            weight = weight * (2 - truth[:, 2:].prod(dim=1))
        here = values[at]
        inside = offset[at]
        diff_here = torch.empty_like(here)
        diff_here[:, :2] = -weight[:, None] * (target[:, :2] - inside) * inside * (1 - inside)
        diff_here[:, 2:4] = -weight[:, None] * (target[:, 2:] - here[:, 2:4])
        sure = objectness[image, anchor, down, across]
        wanted = found if param.rescore else torch.ones_like(found)
        diff_here[:, 4] = -param.object_scale * (wanted - sure) * slope[image, anchor, down, across]
        one_hot = torch.nn.functional.one_hot(label.clamp(0, param.num_class - 1), param.num_class)
        diff_here[:, 5:] = -param.class_scale * (one_hot - prob[at])
        diff[at] = diff_here
        return diff
