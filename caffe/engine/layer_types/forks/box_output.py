"""BoxOutput of MS-CNN (Cai et al. 2016) and BoxGroupOutput of Cascade R-CNN (Cai and Vasconcelos 2018): proposals."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.forks.anchor_maps import moved_anchors
from caffe.engine.layer_types.forks.bbox_reg import NMS_TYPES, inclusive_overlap, little_overlap, offsets_scale
from caffe.engine.layer_types.forks.suppression import suppress
from caffe.engine.layer_types.shapes import full_precision, text


class _Proposals(Layer):
    """Tops: regions R × 5 × 1 × 1 (image, x1, y1, x2, y2), by image and falling score; the same with scores, R × 6.

    For each image: boxes with a score of at least fg_thr and sides of at least min_size; the best max_nms_num; those
    that no better one of them overlaps by more than iou_thr; the best max_post_nms_num of these. 0 stands for all. If
    the whole batch has no box, the tops are one region, [0, 1, 1, 10, 10], and a row of zeros. No gradient.
    """

    tops = (1, 2)
    fresh_tops = True
    dynamic_axes = MappingProxyType({0: "regions"})
    #: of equal scores, the box that was found later comes first
    later_first = False

    def takes_gradient(self, index: int) -> bool:
        return False

    def graph_obstacle(self) -> str:
        return "gives as many regions as it finds"

    @property
    @abstractmethod
    def options(self) -> Any:
        """The layer's own parameter."""

    @abstractmethod
    def boxes_of(self, image: int, bottom: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """All boxes of an image before suppression: corners K × 4, sides K × 2, scores K."""

    @abstractmethod
    def apart(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Which boxes a better one leaves, as `suppress` asks."""

    def images(self, bottom: Sequence[Any]) -> int:
        """The number of images in the batch."""
        return int(bottom[0].shape[0])

    def setup(self, bottom: Sequence[Shape]) -> None:
        options = self.options
        if options.nms_type not in NMS_TYPES:
            self.fail(f"nms_type is '{options.nms_type}'; it must be one of {', '.join(NMS_TYPES)}")
        if not (options.field_whr > 0 and options.field_xyr > 0):
            self.fail(f"field_whr and field_xyr must be positive, not {options.field_whr:g} and {options.field_xyr:g}")
        self.scale = offsets_scale(self)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        shapes: list[Shape] = [(1, 5, 1, 1), (1, 6, 1, 1)]  # as in the fork, until they are found
        return shapes[: max(self.num_tops, 1)]

    def decoded(self, offsets: Tensor, field: Tensor, stride: float) -> tuple[Tensor, Tensor]:
        """Upper left corners and sides, both A × 2 × H × W, of anchors `field` (A × 2: width, height) moved by
        `offsets`, A × 4 × H × W."""
        options = self.options
        return moved_anchors(offsets, field, stride, self.scale, options.field_whr, options.field_xyr)

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        data = [full_precision(b.detach()) for b in bottom]
        rows = [data[0].new_zeros(0, 6)]
        for image in range(self.images(data)):
            corners, scores = self._best(*self.boxes_of(image, data))
            number = corners.new_full((len(corners), 1), image)
            rows.append(torch.cat([number, corners, scores[:, None]], dim=1))
        found = torch.cat(rows)
        regions = found[:, :5]
        if not len(found):
            regions, found = found.new_tensor([[0, 1, 1, 10, 10]]), found.new_zeros(1, 6)
        tops = [regions.reshape(-1, 5, 1, 1), found.reshape(-1, 6, 1, 1)]
        return tops[0] if self.num_tops < 2 else tuple(tops)

    def _best(self, corners: Tensor, sides: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The boxes of an image that are kept, and their scores."""
        options = self.options
        kept = (scores >= options.fg_thr) & (sides >= options.min_size).all(dim=1)
        corners, scores = corners[kept], scores[kept]
        if self.later_first:
            corners, scores = corners.flip(0), scores.flip(0)
        scores, order = torch.sort(scores, descending=True, stable=True)
        if options.max_nms_num:
            scores, order = scores[: options.max_nms_num], order[: options.max_nms_num]
        corners = corners[order]
        left = suppress(corners, self.apart(), options.max_post_nms_num or None)
        return corners[left], scores[left]


@register
class BoxOutput(_Proposals):
    """Bottoms: maps N × (classes + 4) × H × W with one anchor each: scores, background first, and four offsets.

    A box's score is the highest of its classes' scores minus the background's. Anchors have the sides field_w and
    field_h and lie at the centers of cells of downsample_rate pixels. A box that begins outside the image is moved
    into it; then its sides are cut off at the image's end. Of equal scores the one found later comes first, by map,
    row and column.
    """

    type_name = "BoxOutput"
    bottoms = (1, None)
    later_first = True

    @property
    def options(self) -> Any:
        return self.param.box_output_param

    def setup(self, bottom: Sequence[Shape]) -> None:
        super().setup(bottom)
        for name in ("field_h", "field_w", "downsample_rate"):
            values = getattr(self.options, name)
            if len(values) != len(bottom) or min(values) < 1:
                self.fail(f"needs a positive {name} for each of its {len(bottom)} bottoms; found {list(values)}")
        sides = zip(self.options.field_w, self.options.field_h, strict=True)
        self.fields = [torch.tensor([[wide, high]], dtype=torch.float32) for wide, high in sides]

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        for name, shape in zip(self.param.bottom, bottom, strict=True):
            if len(shape) != 4 or shape[1] < 6 or shape[:2] != bottom[0][:2]:
                self.fail(
                    f"needs maps N×(classes + 4)×H×W with at least 2 classes and the same N and classes; '{name}' is "
                    f"{text(shape)}, '{self.param.bottom[0]}' {text(bottom[0])}"
                )
        return super().reshape(bottom)

    def boxes_of(self, image: int, bottom: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        parts = []
        for x, field, stride in zip(bottom, self.fields, self.options.downsample_rate, strict=True):
            scores, offsets = x[image, :-4], x[image, -4:]
            corner, sides = self.decoded(offsets[None], field, stride)
            corner = corner.clamp(min=0)
            end = x.new_tensor([x.shape[3] * stride, x.shape[2] * stride]).reshape(2, 1, 1)
            sides = torch.minimum(sides, end - corner)
            score = scores[1:].amax(dim=0) - scores[0]
            box = torch.cat([corner, corner + sides, sides], dim=1).reshape(6, -1).T
            parts.append(torch.cat([box, score.reshape(-1, 1)], dim=1))
        table = torch.cat(parts)
        return table[:, :4], table[:, 4:6], table[:, 6]

    def apart(self) -> Callable[[Tensor, Tensor], Tensor]:
        return little_overlap(self.options.iou_thr, self.options.nms_type, 0, lambda across: (across > 0).all(dim=1))


@register
class BoxGroupOutput(_Proposals):
    """Bottoms: pairs of probabilities N·A × classes × H × W, background first, and offsets N·A × 4 × H × W.

    A box_group_param gives the A anchors of a pair: field_w and field_h, at the centers of cells of `stride` pixels.
    The maps of an image's anchors follow each other. A box's score is 1 minus the background's probability. Corners
    are inclusive. Of equal scores the one found earlier comes first, by pair, anchor, row and column (the original
    leaves that open).
    """

    type_name = "BoxGroupOutput"
    bottoms = (2, None)

    @property
    def options(self) -> Any:
        return self.param.box_group_output_param

    def setup(self, bottom: Sequence[Shape]) -> None:
        super().setup(bottom)
        groups = self.options.box_group_param
        if len(bottom) != 2 * len(groups):
            self.fail(
                f"needs two bottoms, probabilities and offsets, for each of its {len(groups)} box_group_param; it has "
                f"{len(bottom)}"
            )
        for group in groups:
            wide, high = list(group.field_w), list(group.field_h)
            if not wide or len(wide) != len(high) or min(*wide, *high, group.stride) < 1:
                self.fail(
                    f"box_group_param needs a positive stride and as many field_w as field_h, at least one; found "
                    f"stride {group.stride}, field_w {wide}, field_h {high}"
                )
        self.fields = [
            torch.tensor([list(group.field_w), list(group.field_h)], dtype=torch.float32).T for group in groups
        ]

    def images(self, bottom: Sequence[Any]) -> int:
        return int(bottom[0].shape[0]) // len(self.fields[0])

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        first, names = bottom[0], self.param.bottom
        for i, field in enumerate(self.fields):
            prob, offsets = bottom[2 * i : 2 * i + 2]
            if len(prob) != 4 or prob[0] % len(field) or prob[1] != first[1] or prob[1] < 1:
                self.fail(
                    f"'{names[2 * i]}' is {text(prob)}; with {len(field)} anchors it must be N·{len(field)}×classes×H×W"
                )
            if prob[0] // len(field) != first[0] // len(self.fields[0]):
                self.fail(
                    f"'{names[2 * i]}' is {text(prob)} and '{names[0]}' {text(first)}: not the same number of images"
                )
            if tuple(offsets) != (prob[0], 4, *prob[2:]):
                self.fail(f"'{names[2 * i + 1]}' is {text(offsets)}; it must be {text((prob[0], 4, *prob[2:]))}")
        return super().reshape(bottom)

    def boxes_of(self, image: int, bottom: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        parts = []
        for i, (field, group) in enumerate(zip(self.fields, self.options.box_group_param, strict=True)):
            part = slice(image * len(field), (image + 1) * len(field))
            prob, offsets = bottom[2 * i][part], bottom[2 * i + 1][part]
            low, sides = self.decoded(offsets, field, group.stride)
            end = prob.new_tensor([prob.shape[3], prob.shape[2]]).reshape(2, 1, 1) * group.stride
            high = torch.minimum(low + sides - 1, end)
            box = torch.cat([low.clamp(min=0), high, 1 - prob[:, :1]], dim=1)
            parts.append(box.permute(0, 2, 3, 1).reshape(-1, 5))
        table = torch.cat(parts)
        return table[:, :4], table[:, 2:4] - table[:, :2] + 1, table[:, 4]

    def apart(self) -> Callable[[Tensor, Tensor], Tensor]:
        return inclusive_overlap(self.options.iou_thr, self.options.nms_type)
