"""DetectionLoss of MS-CNN (Cai et al. 2016) and DetectionGroupLoss of Cascade R-CNN (Cai and Vasconcelos 2018)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.distance_loss import smooth_l1
from caffe.engine.layer_types.forks.anchor_maps import (
    LABEL_CHANNELS,
    AnchorOptions,
    Cells,
    encoded,
    offset_limits,
    split_map,
)
from caffe.engine.layer_types.forks.bbox_reg import offsets_scale
from caffe.engine.layer_types.shapes import full_precision
from caffe.engine.layer_types.softmax import LossLayer, NegativeLogSoftmax


class _Limited(torch.autograd.Function):
    """x between two limits; the gradient is as if there were none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, least: Tensor, most: Tensor) -> Tensor:
        return x.clamp(least, most)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0], None, None


class _AnchorLoss(LossLayer):
    """Top: 1 × 1 × 1 × 2, the loss of classes plus `lambda` times that of offsets, and the latter part alone.

    The first is the mean over the cells that count of −log of their class's softmax times their weight; the second the
    mean over the offsets of the cells with objects. Without any such cells it is 0. Only the first value of the top
    passes a gradient on, although a loss_weight adds both to the total, as in the forks.
    """

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.options = AnchorOptions(self, self.message, self.stride_field)
        self.scale = offsets_scale(self)
        if not self.limited:
            return
        self.limits = offset_limits(self.scale, self.message.field_whr, self.message.field_xyr)

    #: the field with the pixels per cell
    stride_field: str

    @property
    @abstractmethod
    def message(self) -> Any:
        """The layer's own parameter."""

    @property
    def limited(self) -> bool:
        """Whether predicted offsets count as if they were within limits."""
        return True

    def graph_obstacle(self) -> str:
        return "samples as many cells as its labels say"

    def combined(
        self, scores: Tensor, offsets: Tensor, cells: Cells, kept: Tensor, taught: Tensor, weight: Tensor, smooth: bool
    ) -> Tensor:
        """The top. `kept`: cells whose class counts; `taught`: cells whose offsets do; `weight`: of classes' losses."""
        index = cells.target.clamp(0, self.options.classes - 1)
        losses, _ = NegativeLogSoftmax.apply(scores.flatten(2), index.flatten(1))
        weight = torch.where(kept, weight, 0).flatten(1)
        of_classes = (losses * weight).sum() / kept.sum().clamp(min=1)

        goal = encoded(cells.box, self.options.fields(len(offsets)), self.options.stride, self.scale)
        if self.limited:
            least, most = self.limits.to(offsets)[:, None, :, None, None]
            offsets = _Limited.apply(offsets, least, most)
        difference = torch.where(taught[:, None], offsets - goal, 0)
        far = smooth_l1(difference, torch.zeros_like(difference)) if smooth else difference.square() / 2
        of_offsets = getattr(self.message, "lambda") * far.sum() / (4 * taught.sum()).clamp(min=1)
        return torch.stack([of_classes + of_offsets, of_offsets.detach()]).reshape(1, 1, 1, 2)


def _balanced(weight: Tensor, positive: Tensor, kept: Tensor, share: float, alone: bool) -> Tensor:
    """Weights so that those of kept positives add up to `share` of the number of kept cells, and the others to the rest.

    Of one kind whose weights add up to 0, they stay; with `alone` False also those of negatives without positives.
    """
    fore, back = (torch.where(kept & of, weight, 0).sum() for of in (positive, ~positive))
    count, change = kept.sum(), (back != 0) & ((fore != 0) | alone)
    of_positives = torch.where(fore != 0, share * count / fore, 1)
    of_negatives = torch.where(change, (1 - share) * count / back, 1)
    return weight * torch.where(positive, of_positives, of_negatives)


def _hardest(score: Tensor, candidates: Tensor, count: int) -> Tensor:
    """The `count` candidates (indices of cells, rising) with the highest scores; of equal ones the later."""
    order = torch.argsort(score[candidates].flip(0), descending=True, stable=True)
    return candidates.flip(0)[order[:count]]


@register
class DetectionLoss(_AnchorLoss):
    """Bottoms: a map N × (cls_num + 4) × H × W of scores and offsets, and a label map N × 6 × H × W.

    All cells with objects count. Negatives are cells without an object that overlap one by less than bg_threshold.
    sample_mode random: bg_multiple cells for each cell with an object of the image, but at least 4 for each class, are
    drawn, and the negatives among them count. bootstrap: for each class, as many negatives per cell with its object, at
    least 4, that have the highest scores for the class. mixture: half of both. Any other text: all negatives.

    iou_weighted: a cell with an object has its overlap as its weight. pos_neg_weighted: the weights of cells with
    objects then add up to 1 / (1 + bg_multiple) of the number of cells, those of negatives to the rest; if there is no
    object, weights are 1. (Where objects but no negatives are left, the fork's gradient is NaN, here it is not.)
    """

    type_name = "DetectionLoss"
    stride_field = "downsample_rate"

    @property
    def message(self) -> Any:
        return self.param.detection_loss_param

    def setup(self, bottom: Sequence[Shape]) -> None:
        super().setup(bottom)
        if self.message.coord_num != 4:
            self.fail(f"coord_num must be 4, not {self.message.coord_num}")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        names = self.param.bottom
        self.options.check_first(names[0], bottom[0], self.options.classes + 4)
        self.options.check_map(names[1], bottom[1], bottom[0], LABEL_CHANNELS)
        return [(1, 1, 1, 2)]

    def forward(self, *bottom: Tensor) -> Tensor:
        param = self.message
        scores, offsets = split_map(full_precision(bottom[0]), self.options.classes)
        cells = self.options.cells(bottom[1], self.param.bottom[1])
        positive = cells.label != 0
        negative = self.negatives(scores.detach(), cells)
        weight = torch.ones_like(cells.overlap)
        if param.iou_weighted:
            weight = torch.where(positive, cells.overlap, weight)
        if param.pos_neg_weighted:
            weight = _balanced(weight, positive, positive | negative, 1 / (1 + param.bg_multiple), alone=False)
        kept = (positive | negative) & cells.counted
        return self.combined(scores, offsets, cells, kept, cells.taught, weight, param.bb_smooth)

    def negatives(self, scores: Tensor, cells: Cells) -> Tensor:
        """Which cells without an object count, N × H × W."""
        param, classes = self.message, self.options.classes
        able: Tensor = (cells.label == 0) & (cells.overlap < param.bg_threshold)
        if param.sample_mode not in ("random", "bootstrap", "mixture"):
            return able
        share = param.bg_multiple * (0.5 if param.sample_mode == "mixture" else 1)
        able, kept = able.flatten(1), torch.zeros_like(able).flatten(1)
        objects = torch.stack([(cells.target == k).flatten(1).sum(dim=1) for k in range(1, classes)], dim=1).tolist()
        positives = (cells.label != 0).flatten(1).sum(dim=1).tolist()
        for image in range(len(able)):
            if param.sample_mode != "bootstrap" and able.shape[1]:
                count = max(int(positives[image] * share), 4 * (classes - 1))
                drawn = torch.randint(able.shape[1], (count,), device=able.device)
                kept[image, drawn] = able[image, drawn]
            if param.sample_mode != "random":
                candidates = able[image].nonzero().reshape(-1)
                for k in range(1, classes):
                    count = max(int(objects[image][k - 1] * share), 4)
                    kept[image, _hardest(scores[image, k].reshape(-1), candidates, count)] = True
        return kept.reshape(cells.label.shape)


@register
class DetectionGroupLoss(_AnchorLoss):
    """Bottoms: scores N·A × cls_num × H × W, offsets N·A × 4 × H × W, label maps N·A × 6 × H × W.

    An image's A anchors, field_w × field_h, follow each other. Each image has batch_size samples: cells with objects, at
    most 1 / (1 + bg_multiple) of them, drawn at random if there are more; the rest are negatives, cells without an
    object that overlap one by less than bg_threshold. With batch_size -1 all cells with objects are taken, and
    bg_multiple negatives for each, at least min_num_neg. If there are more negatives than wanted, neg_mining_type says
    which: random, bootstrap (those least like background, by neg_ranking_type: conf_prob, or the same in logarithms,
    conf_loss), or mixture, half of both. Of equal ones the later is the harder.

    pos_neg_weighted: the weights of samples with objects add up to 1 / (1 + bg_multiple) of their number, the others'
    to the rest. Predicted offsets have limits if both field_whr and field_xyr are given.
    """

    type_name = "DetectionGroupLoss"
    stride_field = "stride"
    bottoms = (3, 3)

    @property
    def message(self) -> Any:
        return self.param.detection_group_loss_param

    @property
    def limited(self) -> bool:
        return bool(self.message.HasField("field_whr") and self.message.HasField("field_xyr"))

    def takes_gradient(self, index: int) -> bool:
        return index < 2

    def setup(self, bottom: Sequence[Shape]) -> None:
        super().setup(bottom)
        param = self.message
        for name, known in (
            ("neg_mining_type", ("random", "bootstrap", "mixture")),
            ("neg_ranking_type", ("conf_loss", "conf_prob")),
            ("bbox_loss_type", ("Smooth_L1", "Euclidean_L2")),
        ):
            if getattr(param, name) not in known:
                self.fail(f"{name} is '{getattr(param, name)}'; it must be one of {', '.join(known)}")
        if param.batch_size < 1 and param.batch_size != -1:
            self.fail(f"batch_size must be positive, or -1 for all cells with objects, not {param.batch_size}")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        names = self.param.bottom
        self.options.check_first(names[0], bottom[0], self.options.classes)
        self.options.check_map(names[1], bottom[1], bottom[0], 4)
        self.options.check_map(names[2], bottom[2], bottom[0], LABEL_CHANNELS)
        return [(1, 1, 1, 2)]

    def forward(self, *bottom: Tensor) -> Tensor:
        param = self.message
        scores, offsets = (full_precision(x) for x in bottom[:2])
        cells = self.options.cells(bottom[2], self.param.bottom[2])
        kept = self.samples(scores.detach(), cells)
        weight = torch.ones_like(cells.overlap)
        if param.pos_neg_weighted:
            weight = _balanced(weight, cells.label > 0, kept, 1 / (1 + param.bg_multiple), alone=True)
        taught = kept & cells.taught
        smooth = param.bbox_loss_type == "Smooth_L1"
        return self.combined(scores, offsets, cells, kept & cells.counted, taught, weight, smooth)

    def samples(self, scores: Tensor, cells: Cells) -> Tensor:
        """Which cells count, N·A × H × W."""
        param, shape = self.message, cells.label.shape
        images = len(cells.label) // len(self.options.anchors)
        if not cells.label.numel():
            return torch.zeros_like(cells.taught)
        background = scores.softmax(dim=1)[:, 0]
        if param.neg_ranking_type == "conf_prob":
            hardness = 1 - background
        else:
            hardness = -background.clamp(min=torch.finfo(torch.float32).tiny).log()
        hardness = hardness.reshape(images, -1)
        positive = (cells.label > 0).reshape(images, -1)
        negative = ((cells.label == 0) & (cells.overlap < param.bg_threshold)).reshape(images, -1)
        kept = torch.zeros_like(positive)
        for image in range(images):
            fore, back = (of[image].nonzero().reshape(-1) for of in (positive, negative))
            if param.batch_size == -1:
                wanted, others = len(fore), max(len(fore) * param.bg_multiple, param.min_num_neg)
            else:
                wanted = min(math.floor(param.batch_size / (1 + param.bg_multiple) + 0.5), len(fore))
                others = param.batch_size - wanted
            kept[image, _some(fore, wanted)] = True
            kept[image, self._mined(hardness[image], back, others)] = True
        return kept.reshape(shape)

    def _mined(self, hardness: Tensor, back: Tensor, count: int) -> Tensor:
        """`count` of the negatives `back` (indices of cells), all if there are not more."""
        kind = self.message.neg_mining_type
        if len(back) <= count or kind == "random":
            return _some(back, count)
        hard = _hardest(hardness, back, count if kind == "bootstrap" else math.floor(count / 2 + 0.5))
        rest = back[~torch.isin(back, hard)]
        return torch.cat([hard, _some(rest, count - len(hard))])


def _some(cells: Tensor, count: int) -> Tensor:
    """`count` of the indices at random, all if there are not more."""
    return cells if len(cells) <= count else cells[torch.randperm(len(cells), device=cells.device)[:count]]
