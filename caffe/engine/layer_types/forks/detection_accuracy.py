"""DetectionAccuracy of MS-CNN (Cai et al. 2016) and DetectionGroupAccuracy of Cascade R-CNN (Cai and Vasconcelos 2018)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.forks.anchor_maps import (
    LABEL_CHANNELS,
    AnchorOptions,
    Cells,
    moved_anchors,
    overlap,
    split_map,
)
from caffe.engine.layer_types.forks.bbox_reg import offsets_scale
from caffe.engine.layer_types.shapes import full_precision


class _AnchorAccuracy(Layer):
    """Tops: 1 × 1 × 1 × 2, the share of cells with the right class, and of those with objects alone; 1 × 1 × 1 × 1, the
    mean overlap of the boxes of cells with objects and their objects. A mean over no cell is -1.

    Cells without an object that overlap one by bg_threshold or more do not count. No gradient.
    """

    tops = (1, 2)
    fresh_tops = True
    #: the field with the pixels per cell
    stride_field: str
    #: an intersection that is narrower, in pixels, is none
    least_across = 0.0
    #: of equal scores, the class that counts as the higher: the later or the earlier
    later_first = True

    @property
    @abstractmethod
    def message(self) -> Any:
        """The layer's own parameter."""

    def takes_gradient(self, index: int) -> bool:
        return False

    def graph_obstacle(self) -> str:
        return "copies its anchors from the host"

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.options = AnchorOptions(self, self.message, self.stride_field)
        self.scale = offsets_scale(self)

    def found(self, scores: Tensor, offsets: Tensor, cells: Cells, top_k: int) -> Tensor | tuple[Tensor, ...]:
        """The tops, from scores B × classes × H × W and offsets B × 4 × H × W."""
        options, param = self.options, self.message
        near = (cells.target == 0) & (cells.overlap >= param.bg_threshold)
        counted = cells.counted & ~near
        index = cells.target.clamp(0, options.classes - 1)[:, None]
        own = scores.gather(1, index)
        places = torch.arange(options.classes, device=scores.device).reshape(1, -1, 1, 1)
        first = places > index if self.later_first else places < index
        rank = ((scores > own) | ((scores == own) & first)).sum(dim=1)
        right = counted & (rank < top_k) & ~own[:, 0].isnan()
        fore = counted & (cells.target != 0)
        hit = right.to(scores.dtype)
        share = torch.stack([_mean(hit, counted), _mean(hit, fore)]).reshape(1, 1, 1, 2)
        if self.num_tops < 2:
            return share
        low, sides = moved_anchors(
            offsets, options.fields(len(offsets)), options.stride, self.scale, param.field_whr, param.field_xyr
        )
        low, sides, center, given = (part.movedim(1, -1) for part in (low, sides, cells.box[:, :2], cells.box[:, 2:]))
        fit = overlap(low, sides, center - given / 2, given, self.least_across)
        return share, _mean(fit, cells.taught).reshape(1, 1, 1, 1)


def _mean(values: Tensor, of: Tensor) -> Tensor:
    """The mean of the values at `of`; -1 if there are none."""
    count = of.sum()
    return torch.where(count > 0, torch.where(of, values, 0).sum() / count.clamp(min=1), -1)


@register
class DetectionAccuracy(_AnchorAccuracy):
    """Bottoms: a map N × (cls_num + 4) × H × W of scores and offsets, and a label map N × 6 × H × W.

    A class is right if it is among the top_k scores; of equal scores the later class ranks first.
    """

    type_name = "DetectionAccuracy"
    stride_field = "downsample_rate"
    bottoms = (2, 2)

    @property
    def message(self) -> Any:
        return self.param.detection_accuracy_param

    def setup(self, bottom: Sequence[Shape]) -> None:
        super().setup(bottom)
        param = self.message
        if param.coord_num != 4:
            self.fail(f"coord_num must be 4, not {param.coord_num}")
        if not 1 <= param.top_k <= param.cls_num:
            self.fail(f"top_k must be from 1 to cls_num: {param.cls_num}, not {param.top_k}")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        names = self.param.bottom
        self.options.check_first(names[0], bottom[0], self.options.classes + 4)
        self.options.check_map(names[1], bottom[1], bottom[0], LABEL_CHANNELS)
        shapes: list[Shape] = [(1, 1, 1, 2), (1, 1, 1, 1)]
        return shapes[: max(self.num_tops, 1)]

    @torch.no_grad()
    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        scores, offsets = split_map(full_precision(bottom[0]), self.options.classes)
        return self.found(scores, offsets, self.options.cells(bottom[1], self.param.bottom[1]), self.message.top_k)


@register
class DetectionGroupAccuracy(_AnchorAccuracy):
    """Bottoms: scores N·A × cls_num × H × W, offsets N·A × 4 × H × W, label maps N·A × 6 × H × W.

    An image's A anchors follow each other. Of equal scores the earlier class is the found one.
    """

    type_name = "DetectionGroupAccuracy"
    stride_field = "stride"
    bottoms = (3, 3)
    least_across = 1.0
    later_first = False

    @property
    def message(self) -> Any:
        return self.param.detection_group_accuracy_param

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        names = self.param.bottom
        self.options.check_first(names[0], bottom[0], self.options.classes)
        self.options.check_map(names[1], bottom[1], bottom[0], 4)
        self.options.check_map(names[2], bottom[2], bottom[0], LABEL_CHANNELS)
        shapes: list[Shape] = [(1, 1, 1, 2), (1, 1, 1, 1)]
        return shapes[: max(self.num_tops, 1)]

    @torch.no_grad()
    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        scores, offsets = (full_precision(x) for x in bottom[:2])
        return self.found(scores, offsets, self.options.cells(bottom[2], self.param.bottom[2]), top_k=1)
