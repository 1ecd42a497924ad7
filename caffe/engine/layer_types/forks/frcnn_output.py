"""FrcnnOutput of Cascade R-CNN (Cai and Vasconcelos 2018): the detections of an image, from its regions."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from caffe.detection import result_files
from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.forks.bbox_reg import NMS_TYPES, inclusive_overlap, moved_regions, offsets_scale
from caffe.engine.layer_types.forks.suppression import suppress
from caffe.engine.layer_types.shapes import count, full_precision, text
from caffe.runtime import runtime


@register
class FrcnnOutput(Layer):
    """Bottoms: probabilities S × classes, background first; offsets S × 4·classes, or S × 8 with cls_aware: false, where
    the second four are those of all classes; regions of one image, S × 5 or S × 6; its size in the net, 1 × 2 (height,
    width).

    Top: R × 7 × 1 × 1: image, x1, y1, x2, y2, class, score. The first row is 0 and six -1, the detections follow by class
    and falling score. For each class: regions with a probability of at least conf_thr, moved by its offsets and cut off
    at the image's borders; those that no better one overlaps by more than iou_thr. Of all, the best max_det_num are left
    (0: all). Of equal scores the earlier region and class come first; the fork leaves that open. No gradient.

    With save_output_param the detections are also written as DetectionOutput writes them. (The fork writes VOC's files
    alone, and empties the folder first.)
    """

    type_name = "FrcnnOutput"
    bottoms = (4, 4)
    fresh_tops = True
    dynamic_axes = MappingProxyType({0: "detections"})

    def takes_gradient(self, index: int) -> bool:
        return False

    def graph_obstacle(self) -> str:
        return "gives as many rows as it finds detections"

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.options = self.param.frcnn_output_param
        self.scale = offsets_scale(self)
        self.aware: bool = self.param.bbox_reg_param.cls_aware
        if param.nms_type not in NMS_TYPES:
            self.fail(f"nms_type is '{param.nms_type}'; it must be one of {', '.join(NMS_TYPES)}")
        self.reshape(bottom)
        self.results: result_files.ResultFiles | None = None
        with self.named_in_errors():
            if runtime.layers_write and result_files.wanted(param.save_output_param):
                self.results = result_files.ResultFiles(param.save_output_param, count(bottom[0], 1), 0)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        names = self.param.bottom
        if any(not shape for shape in bottom):
            self.fail("its bottoms must have axes; one is a scalar")
        items, classes = bottom[0][0], count(bottom[0], 1)
        offsets = 4 * classes if self.aware else 8
        for index, widths in ((1, (offsets,)), (2, (5, 6))):
            if bottom[index][0] != items or count(bottom[index], 1) not in widths:
                needed = " or ".join(f"{items}×{width}" for width in widths)
                self.fail(
                    f"'{names[index]}' is {text(bottom[index])}; with '{names[0]}' {text(bottom[0])} it must be {needed}"
                )
        if count(bottom[3]) != 2:
            self.fail(f"'{names[3]}' is {text(bottom[3])}; it must be 1×2, the height and width of one image")
        return [(1, 7, 1, 1)]

    @torch.no_grad()
    def forward(self, *bottom: Tensor) -> Tensor:
        self.reshape([tuple(b.shape) for b in bottom])
        prob, offsets, regions, size = (full_precision(b.detach()).flatten(1) for b in bottom)
        if bool((regions[:, 0] != 0).any()):
            self.fail(f"'{self.param.bottom[2]}' has regions of several images; it must have those of one, number 0")
        height, width = size.reshape(2)
        most = torch.stack([width, height]).repeat(2)
        parts = []
        for c in range(1, prob.shape[1]):
            kept = (prob[:, c] >= self.options.conf_thr).nonzero().reshape(-1)
            place = 4 * (c if self.aware else 1)
            boxes = moved_regions(offsets[kept, place : place + 4], regions[kept, 1:5], self.scale)
            boxes = torch.cat([boxes[:, :2].clamp(min=0), torch.minimum(boxes[:, 2:], most[2:])], dim=1)
            score, order = torch.sort(prob[kept, c], descending=True, stable=True)
            boxes = boxes[order]
            left = suppress(boxes, inclusive_overlap(self.options.iou_thr, self.options.nms_type))
            label = score.new_full((len(left), 1), c)
            parts.append(torch.cat([torch.zeros_like(label), boxes[left], label, score[left, None]], dim=1))
        found = torch.cat(parts) if parts else prob.new_zeros(0, 7)
        if 0 < self.options.max_det_num < len(found):
            best = torch.argsort(found[:, 6], descending=True, stable=True)[: self.options.max_det_num]
            found = found[best.sort().values]
        if self.results is not None:
            rows = torch.cat([found[:, :1], found[:, 5:], found[:, 1:5] / most], dim=1)
            self.results.add(rows.float().cpu().numpy(), 1)
        first = found.new_tensor([[0.0, *[-1.0] * 6]])
        return torch.cat([first, found]).reshape(-1, 7, 1, 1)
