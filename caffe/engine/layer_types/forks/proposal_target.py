"""ProposalTarget and BboxAccuracy of MS-CNN and Cascade R-CNN (Cai et al. 2016, 2018): what regions are to predict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.forks.anchor_maps import overlap
from caffe.engine.layer_types.forks.bbox_reg import offsets_scale
from caffe.engine.layer_types.shapes import count, full_precision, text

#: columns of MS-CNN's rows of objects: image, x1, y1, x2, y2, label, ignored. Cascade R-CNN's have one more.
_MSCNN_ROW = 7
#: the least side of a random region, and how often one without an object is looked for
_LEAST_SIDE, _TRIES = 32, 300
#: regions that overlap an object by more are the object itself
_ITSELF = 0.975


@dataclass
class _Regions:
    """Regions R × 5: image, x1, y1, width, height; the index of the object that each overlaps most (-1: none), and how
    much."""

    box: Tensor
    match: Tensor
    fit: Tensor

    def __getitem__(self, index: Tensor) -> _Regions:
        return _Regions(self.box[index], self.match[index], self.fit[index])

    @staticmethod
    def together(parts: Sequence[_Regions]) -> _Regions:
        return _Regions(*(torch.cat([getattr(p, name) for p in parts]) for name in ("box", "match", "fit")))


def _sized(corners: Tensor) -> Tensor:
    """Boxes with width and height for the second corner; both border pixels belong to them."""
    return torch.cat([corners[:, :3], corners[:, 3:5] - corners[:, 1:3] + 1], dim=1)


def _fits(box: Tensor, objects: Tensor) -> Tensor:
    """The overlaps of boxes with objects, R × G; -1 for those of other images."""
    fit = overlap(box[:, None, 1:3], box[:, None, 3:5], objects[None, :, 1:3], objects[None, :, 3:5])
    return torch.where(box[:, None, 0] == objects[None, :, 0], fit, -1)


def _some(regions: _Regions, most: int) -> _Regions:
    """Up to `most` of the regions, at random if there are more."""
    if len(regions.box) <= most:
        return regions
    return regions[torch.randperm(len(regions.box))[:most]]


@register
class ProposalTarget(Layer):
    """Bottoms: regions R × 5 (image, x1, y1, x2, y2); objects G × 7 (the same, label, ignored) or, of Cascade R-CNN,
    G × 8 (and difficult), where rows of image -1 are left out.

    Tops: S regions, S × 5 × 1 × 1; their labels, S × 1 × 1 × 1; offsets from them to their objects, S × D × 1 × 1, in
    the places of their class; the offsets' inside and outside weights; their objects, S × 6 × 1 × 1 (label, x1, y1, x2,
    y2, overlap; zeros for background); weights of the samples, S × 1 × 1 × 1, if there is a seventh top. D is 4 · cls_num,
    or 8 with cls_aware: false.

    The objects join the regions (append_gtbox). A region that overlaps one by fg_thr or more is foreground, unless the
    object is ignored: then it is left out. Background overlaps by at least bg_thr_lw and less than bg_thr_hg. batch_size
    regions are drawn, fg_fraction of them at most from the foreground. If there is too little background, other regions,
    in their order, follow (pickup_discard), and in MS-CNN's case random boxes without an object. With batch_size -1 all
    foreground and background is taken. At least one region is always given: a random box, if there is no other. Offsets
    count if the overlap is from bbox_thr_lw to bbox_thr_hg. Weights of samples, with iou_weighted overlaps, add up to
    fg_fraction of their number for foreground and the rest for background.

    Where the fork would look for a random box forever, an object is accepted in it after 300 tries. No gradient.
    """

    type_name = "ProposalTarget"
    bottoms = (2, 2)
    tops = (6, 7)
    fresh_tops = True
    dynamic_axes = MappingProxyType({0: "regions"})

    def takes_gradient(self, index: int) -> bool:
        return False

    def graph_obstacle(self) -> str:
        return "samples regions on the CPU"

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.options = self.param.proposal_target_param
        self.scale = offsets_scale(self)
        self.aware: bool = self.param.bbox_reg_param.cls_aware
        if param.cls_num < 2:
            self.fail(f"needs a cls_num of at least 2 (the background counts), not {param.cls_num}")
        if param.batch_size < 1 and param.batch_size != -1:
            self.fail(f"batch_size must be positive, or -1 for all regions, not {param.batch_size}")
        if not 0 <= param.fg_fraction <= 1:
            self.fail(f"fg_fraction is {param.fg_fraction:g}; it must be from 0 to 1")
        if not 0 < param.fg_thr >= param.bg_thr_hg:
            self.fail(f"fg_thr must be positive and at least bg_thr_hg; found {param.fg_thr:g} and {param.bg_thr_hg:g}")
        if param.num_img_per_batch < 1:
            self.fail("num_img_per_batch must be at least 1")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        for name, shape, widths in zip(self.param.bottom, bottom, ((5,), (7, 8)), strict=True):
            if not shape or count(shape, 1) not in widths:
                self.fail(f"'{name}' is {text(shape)}; it must have rows of {' or '.join(map(str, widths))} values")
        size = self.options.batch_size
        return self._shapes(max(bottom[0][0], 1) if size == -1 else size)

    def _shapes(self, size: int) -> list[Shape]:
        targets = 4 * self.options.cls_num if self.aware else 8
        widths = (5, 1, targets, targets, targets, 6, 1)
        return [(size, width, 1, 1) for width in widths[: self.num_tops]]

    @torch.no_grad()
    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        regions, rows = (full_precision(b.detach()).cpu().flatten(1) for b in bottom)
        rows = rows[rows[:, 0] != -1]
        objects = _sized(rows)
        self._check(regions, rows)
        label, ignored = rows[:, 5].long(), rows[:, 6] != 0
        box = _sized(regions)
        if self.options.append_gtbox:
            box = torch.cat([box, objects])
        fore, back = self._drawn(self._matched(box, objects), objects, ignored, filled=rows.shape[1] == _MSCNN_ROW)
        tops = self._targets(_Regions.together([fore, back]), len(fore.box), objects, label)
        return tuple(
            top.reshape(shape).to(bottom[0].device) for top, shape in zip(tops, self._shapes(len(tops[0])), strict=True)
        )

    def _check(self, regions: Tensor, rows: Tensor) -> None:
        images = self.options.num_img_per_batch
        for name, values in zip(self.param.bottom, (regions[:, 0], rows[:, 0]), strict=True):
            bad = (values < 0) | (values >= images)
            if bool(bad.any()):
                self.fail(
                    f"a row of '{name}' is of image {values[bad][0]:g}; with num_img_per_batch: {images} there are "
                    f"images 0 to {images - 1}"
                )
        label = rows[:, 5].long()
        bad = (label < 1) | ((label >= self.options.cls_num) & self.aware)
        if bool(bad.any()):
            self.fail(
                f"label {int(label[bad][0])} in '{self.param.bottom[1]}' is not one of the classes 1 to "
                f"{self.options.cls_num - 1}"
            )

    @staticmethod
    def _matched(box: Tensor, objects: Tensor) -> _Regions:
        if not len(objects):
            return _Regions(box, torch.full((len(box),), -1), box.new_zeros(len(box)))
        fit, match = _fits(box, objects).max(dim=1)
        return _Regions(box, torch.where(fit < 0, -1, match), fit.clamp(min=0))

    def _drawn(self, all_: _Regions, objects: Tensor, ignored: Tensor, filled: bool) -> tuple[_Regions, _Regions]:
        """Foreground and background. `filled`: random boxes make up the number."""
        param = self.options
        near = all_.fit >= param.fg_thr
        able = near.clone()
        able[near] = ~ignored[all_.match[near]]
        between = ~near & (all_.fit >= param.bg_thr_lw) & (all_.fit < param.bg_thr_hg)
        fore, back, others = (all_[mask.nonzero().reshape(-1)] for mask in (able, between, ~near & ~between))
        size, wanted = param.batch_size, math.floor(param.fg_fraction * param.batch_size + 0.5)
        if size == -1:
            size, wanted = len(fore.box) + len(back.box), len(fore.box)
        fore = _some(fore, min(wanted, size))
        enough = len(back.box) > size - len(fore.box)
        back = _some(back, size - len(fore.box))
        missing = size - len(fore.box) - len(back.box)
        if not enough and param.pickup_discard:
            back = _Regions.together([back, others[torch.arange(min(missing, len(others.box)))]])
            missing = size - len(fore.box) - len(back.box)
        found = len(fore.box) + len(back.box)
        made = max(missing, 1 - found, 0) if filled else max(1 - found, 0)
        if made:
            boxes = torch.stack([self._random_box(objects) for _ in range(made)])
            back = _Regions.together([back, _Regions(boxes, torch.full((made,), -1), boxes.new_zeros(made))])
        return fore, back

    def _random_box(self, objects: Tensor) -> Tensor:
        """A box of at least 32 × 32 pixels of an image of the batch; as far as one is found, without an object."""
        param = self.options
        sizes = [max(int(size), _LEAST_SIDE + 1) for size in (param.img_width, param.img_height)]
        for _ in range(_TRIES):
            image = int(torch.randint(param.num_img_per_batch, ()))
            corner = [int(torch.randint(size - _LEAST_SIDE, ())) for size in sizes]
            sides = [
                max(int(torch.randint(size - start, ())), _LEAST_SIDE)
                for size, start in zip(sizes, corner, strict=True)
            ]
            box = objects.new_tensor([image, *corner, *sides])
            if not len(objects) or _fits(box[None], objects).max() < param.fg_thr:
                break
        return box

    def _targets(self, chosen: _Regions, fore: int, objects: Tensor, label: Tensor) -> list[Tensor]:
        """The tops for chosen regions, of which the first `fore` are foreground; without their last axes."""
        param, size = self.options, len(chosen.box)
        box, match = chosen.box[:fore, 1:], chosen.match[:fore]
        given = objects[match, 1:]
        classes = label[match]
        place = (given[:, :2] + 0.5 * given[:, 2:] - box[:, :2] - 0.5 * box[:, 2:]) / box[:, 2:]
        mean, deviation = self.scale.to(box)
        offsets = (torch.cat([place, (given[:, 2:] / box[:, 2:]).log()], dim=1) - mean) / deviation

        targets, weights = (chosen.box.new_zeros(size, 4 * param.cls_num if self.aware else 8) for _ in range(2))
        at = 4 * (classes if self.aware else classes.clamp(max=1))[:, None] + torch.arange(4)
        fit = chosen.fit[:fore]
        counts = (fit >= param.bbox_thr_lw) & (fit <= param.bbox_thr_hg)
        targets[:fore].scatter_(1, at, offsets)
        weights[:fore].scatter_(1, at, counts.to(weights)[:, None].expand(-1, 4))

        labels, matched = chosen.box.new_zeros(size), chosen.box.new_zeros(size, 6)
        labels[:fore] = classes.to(labels)
        corners = torch.cat([given[:, :2], given[:, :2] + given[:, 2:] - 1], dim=1)
        matched[:fore] = torch.cat([labels[:fore, None], corners, fit[:, None]], dim=1)
        regions = torch.cat([chosen.box[:, :3], chosen.box[:, 1:3] + chosen.box[:, 3:] - 1], dim=1)
        tops = [regions, labels, targets, weights, weights.clone(), matched]
        if self.num_tops > 6:
            tops.append(self._sample_weights(fit, size))
        return tops

    def _sample_weights(self, fit: Tensor, size: int) -> Tensor:
        """The weights of `size` samples, the first of which are foreground with these overlaps."""
        weights, fore = fit.new_ones(size), len(fit)
        if self.options.iou_weighted:
            weights[:fore] = fit
        total = weights[:fore].sum()
        if total != 0:
            share = self.options.fg_fraction
            weights[:fore] *= share * size / total
            weights[fore:] *= (1 - share) * size / max(size - fore, 1)
        return weights


@register
class BboxAccuracy(Layer):
    """Bottoms: offsets S × D, regions S × 5, their objects S × 6 (label, x1, y1, x2, y2, overlap), as of ProposalTarget.

    Tops, 1 × 1 × 1 × 1: the mean overlap of regions with their objects after the offsets of their class moved them; the
    same before. Regions that overlap theirs by more than 0.975, which are mostly the objects themselves, do not count.
    Without any, both are -1. With cls_aware: false all classes have the second four offsets. No gradient.
    """

    type_name = "BboxAccuracy"
    bottoms = (3, 3)
    tops = (1, 2)
    fresh_tops = True

    def takes_gradient(self, index: int) -> bool:
        return False

    def graph_obstacle(self) -> str:
        return "copies means and deviations from the host"

    def setup(self, bottom: Sequence[Shape]) -> None:
        self.scale = offsets_scale(self)
        self.aware: bool = self.param.bbox_reg_param.cls_aware

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        items = bottom[1][0] if bottom[1] else 0
        for name, shape, values in zip(self.param.bottom, bottom, (None, 5, 6), strict=True):
            width = count(shape, 1) if shape else 0
            bad = values != width if values else width < 8 or width % 4 or (width != 8 and not self.aware)
            if not shape or shape[0] != items or bad:
                needed = values or ("4·classes" if self.aware else 8)
                self.fail(f"'{name}' is {text(shape)}; it must be {items}×{needed}")
        return [(1, 1, 1, 1)] * max(self.num_tops, 1)

    @torch.no_grad()
    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        offsets, regions, objects = (full_precision(b.detach()).flatten(1) for b in bottom)
        label = objects[:, 0].long()
        counted = (label > 0) & (objects[:, 5] <= _ITSELF)
        place = label if self.aware else label.clamp(max=1)
        at = (4 * place[:, None] + torch.arange(4, device=label.device)).clamp(0, offsets.shape[1] - 1)
        mean, deviation = self.scale.to(offsets)
        moves = offsets.gather(1, at) * deviation + mean
        box = _sized(regions)[:, 1:]
        given = _sized(objects)[:, 1:]
        sides = box[:, 2:] * moves[:, 2:].exp()
        low = moves[:, :2] * box[:, 2:] + box[:, :2] + 0.5 * box[:, 2:] - sides / 2
        fits = [overlap(a, b, given[:, :2], given[:, 2:]) for a, b in ((low, sides), (box[:, :2], box[:, 2:]))]
        found = counted.sum()
        tops = [
            torch.where(found > 0, torch.where(counted, fit, 0).sum() / found.clamp(min=1), -1).reshape(1, 1, 1, 1)
            for fit in fits
        ]
        return tops[0] if self.num_tops < 2 else tuple(tops)
