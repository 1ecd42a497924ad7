"""Proposal of the ports of Faster R-CNN (Ren et al. 2015) to C++, PVANET's first: the regions that are looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.forks.suppression import suppress
from caffe.engine.layer_types.shapes import count, text


def anchors_of(base_size: int, ratios: Sequence[float], scales: Sequence[float]) -> list[tuple[float, ...]]:
    """Corners of the anchors of the first cell, ratio by ratio: x1, y1, x2, y2, inclusive.

    The sides of a ratio's anchor are rounded to pixels before they are scaled, halves up.
    """
    center = 0.5 * (base_size - 1)
    anchors: list[tuple[float, ...]] = []
    for ratio in ratios:
        width = math.floor(math.sqrt(base_size**2 / ratio) + 0.5)
        height = math.floor(width * ratio + 0.5)
        for scale in scales:
            x, y = 0.5 * (width * scale - 1), 0.5 * (height * scale - 1)
            anchors.append((center - x, center - y, center + x, center + y))
    return anchors


def little_overlap(threshold: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Says which of boxes R × 4 (corners inclusive) overlap a box by `threshold` at most: intersection over union."""

    def apart(box: Tensor, rest: Tensor) -> Tensor:
        sides = torch.minimum(rest[:, 2:], box[2:]) - torch.maximum(rest[:, :2], box[:2]) + 1
        shared = sides.clamp(min=0).prod(dim=1)
        area, areas = (box[2:] - box[:2] + 1).prod(), (rest[:, 2:] - rest[:, :2] + 1).prod(dim=1)
        return shared / (areas + area - shared) <= threshold

    return apart


@register
class Proposal(Layer):
    """Bottoms: scores N × 2A × H × W (background first), box offsets N × 4A × H × W, and im_info.

    im_info is N × 3 or more: the image's height, width and how much it was enlarged; a fourth value, if given, is the
    enlargement across. Tops: regions R × 5 (image, x1, y1, x2, y2), by image and falling score; their scores, R.

    For each image: anchors moved by their offsets and cut off at the image; those with a side below min_size times the
    enlargement get score 0; the best pre_nms_topn; of these the best post_nms_topn that overlap no better one by more
    than nms_thresh. Among equal scores the earlier comes first, by row, column and anchor (the original leaves that
    open). No gradient.
    """

    type_name = "Proposal"
    bottoms = (3, 3)
    tops = (1, 2)
    fresh_tops = True
    dynamic_axes = MappingProxyType({0: "regions"})

    def takes_gradient(self, index: int) -> bool:
        return False

    def graph_obstacle(self) -> str:
        return "gives as many regions as it finds"

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.proposal_param
        for field in ("feat_stride", "base_size", "pre_nms_topn", "post_nms_topn"):
            if getattr(param, field) < 1:
                self.fail(f"{field} must be at least 1, not {getattr(param, field)}")
        for field in ("ratio", "scale"):
            values = list(getattr(param, field))
            if not values or min(values) <= 0:
                self.fail(f"proposal_param must give {field}, one or more numbers above 0")
        self.anchors = torch.tensor(anchors_of(param.base_size, param.ratio, param.scale), dtype=torch.float64)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        scores, offsets, info = bottom
        a = len(self.anchors)
        if len(scores) != 4 or scores[1] != 2 * a:
            self.fail(
                f"{a} anchors ({len(self.param.proposal_param.ratio)} ratio, {len(self.param.proposal_param.scale)} "
                f"scale) need scores N×{2 * a}×H×W; '{self.param.bottom[0]}' is {text(scores)}"
            )
        if tuple(offsets) != (scores[0], 4 * a, *scores[2:]):
            self.fail(
                f"'{self.param.bottom[1]}' is {text(offsets)}; with these scores it must be "
                f"{text((scores[0], 4 * a, *scores[2:]))}"
            )
        if not info or info[0] != scores[0] or count(info, 1) < 3:
            self.fail(
                f"'{self.param.bottom[2]}' is {text(info)}; it must have height, width and scale for each of the "
                f"{scores[0]} images"
            )
        most = scores[0] * min(self.param.proposal_param.post_nms_topn, a * scores[2] * scores[3])
        return [(most, 5), (most,)][: max(self.num_tops, 1)]

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        scores, offsets, info = (b.detach() for b in bottom)
        found = [self._of_image(s, o, i) for s, o, i in zip(scores, offsets, info.flatten(1), strict=True)]
        regions = [torch.cat([boxes.new_full((len(boxes), 1), n), boxes], dim=1) for n, (boxes, _) in enumerate(found)]
        top = torch.cat([scores.new_zeros(0, 5), *regions])
        return top if self.num_tops < 2 else (top, torch.cat([scores.new_zeros(0), *(s for _, s in found)]))

    def _of_image(self, scores: Tensor, offsets: Tensor, info: Tensor) -> tuple[Tensor, Tensor]:
        """The boxes R × 4 and scores R of an image."""
        param, a = self.param.proposal_param, len(self.anchors)
        height, width = scores.shape[1:]
        y = torch.arange(height, device=scores.device, dtype=scores.dtype) * param.feat_stride
        x = torch.arange(width, device=scores.device, dtype=scores.dtype) * param.feat_stride
        shift = torch.stack([x.expand(height, width), y[:, None].expand(height, width)] * 2, dim=-1)
        anchors = (shift[:, :, None] + self.anchors.to(scores)).reshape(-1, 4)
        moves = offsets.reshape(a, 4, height, width).permute(2, 3, 0, 1).reshape(-1, 4)
        size = anchors[:, 2:] - anchors[:, :2] + 1
        center = anchors[:, :2] + 0.5 * size + moves[:, :2] * size
        half = 0.5 * size * moves[:, 2:].exp()
        last = info[:2].flip(0) - 1  # x, y
        corners = torch.cat([center - half, center + half], dim=1)
        boxes = torch.minimum(corners, torch.cat([last, last])).clamp(min=0)
        enlarged = torch.stack([info[3] if len(info) > 3 else info[2], info[2]])
        large = (boxes[:, 2:] - boxes[:, :2] + 1 >= param.min_size * enlarged).all(dim=1)
        score = scores[a:].permute(1, 2, 0).reshape(-1) * large
        score, order = torch.sort(score, descending=True, stable=True)
        score, boxes = score[: param.pre_nms_topn], boxes[order[: param.pre_nms_topn]]
        kept = suppress(boxes, little_overlap(param.nms_thresh), param.post_nms_topn)
        return boxes[kept], score[kept]
