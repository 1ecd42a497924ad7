"""Interp of DeepLab and PSPNet, and Upsample of SegNet and of MobileNet-YOLO: maps made larger or smaller."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.shapes import can_inspect, text


@register
class Interp(Layer):
    """Bilinear interpolation in which the corner pixels stay where they are.

    Bottom: N × C × H × W, of which pad_beg and pad_end (at most 0) first cut rows and columns off at the beginning and
    end. Top: shrunk to (size − 1) / shrink_factor + 1, zoomed to (size − 1) · zoom_factor + 1, or height × width; that
    is what counts if both factors are given, too, and without it the shrinking comes first. With use_blob_size (of
    CAFFE_SSD) a second bottom gives the height and width, whatever else is given; it gets no gradient.
    """

    type_name = "Interp"
    bottoms = (1, 2)

    def takes_gradient(self, index: int) -> bool:
        return index == 0

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.interp_param
        if param.pad_beg > 0 or param.pad_end > 0:
            self.fail(f"pad_beg and pad_end cut off and must be at most 0, not {param.pad_beg} and {param.pad_end}")
        for factor in ("shrink_factor", "zoom_factor"):
            if getattr(param, factor) < 1:
                self.fail(f"{factor} must be at least 1, not {getattr(param, factor)}")
        self.shrinks, self.zooms = param.HasField("shrink_factor"), param.HasField("zoom_factor")
        self.sized = param.HasField("height") and param.HasField("width") and self.shrinks == self.zooms
        if param.use_blob_size != (len(bottom) > 1):
            self.fail("a second bottom, whose size the top gets, and use_blob_size: true need each other")
        if not (self.shrinks or self.zooms or self.sized or param.use_blob_size):
            self.fail("interp_param must give height and width, zoom_factor or shrink_factor")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        shape, param = bottom[0], self.param.interp_param
        if len(shape) != 4:
            self.fail(f"needs a bottom of 4 axes (num, channels, height, width), not {text(shape)}")
        sizes = [size + param.pad_beg + param.pad_end for size in shape[2:]]
        if min(sizes) < 1:
            self.fail(f"pad_beg {param.pad_beg} and pad_end {param.pad_end} leave nothing of {text(shape[2:])}")
        if param.use_blob_size:
            if len(bottom[1]) != 4:
                self.fail(f"needs a second bottom of 4 axes (num, channels, height, width), not {text(bottom[1])}")
            sizes = list(bottom[1][2:])
        elif self.sized:
            sizes = [param.height, param.width]
        else:
            sizes = [((size - 1) // param.shrink_factor) * param.zoom_factor + 1 for size in sizes]
        if min(sizes) < 1:
            self.fail(f"height and width must be positive, not {text(sizes)}")
        return [(*shape[:2], *sizes)]

    def forward(self, *bottom: Tensor) -> Tensor:
        x, param = bottom[0], self.param.interp_param
        top = self.reshape([tuple(b.shape) for b in bottom])[0]
        begin, end = -param.pad_beg, -param.pad_end
        x = x[:, :, begin : x.shape[2] - end, begin : x.shape[3] - end]
        if not x.numel():
            return x.new_zeros(top)
        return F.interpolate(x, size=top[2:], mode="bilinear", align_corners=True)


@register
class Upsample(Layer):
    """SegNet's with two bottoms, MobileNet-YOLO's with one.

    Two: values N × C × H × W, and the mask of the Pooling that made them small, which says where they go; everything
    else is 0, and of several values for one place the last counts. The top is upsample_h × upsample_w, or scale (2)
    times as large, one row or column less with pad_out_h or pad_out_w.

    One: each value is repeated scale (1) times along the last two axes.
    """

    type_name = "Upsample"
    bottoms = (1, 2)

    def takes_gradient(self, index: int) -> bool:
        return index == 0

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.upsample_param
        given = {field.name for field, _ in param.ListFields()}
        self.size: tuple[int, int] | None = None
        self.scale, self.less = (1, 1), (0, 0)
        if len(bottom) == 1:
            if given - {"scale"}:
                self.fail(f"without a mask as second bottom it takes scale alone, not {', '.join(sorted(given))}")
            self.scale = (param.scale if "scale" in given else 1,) * 2
            if self.scale[0] < 1:
                self.fail("scale must be at least 1, not 0")
            return
        if {"upsample_h", "upsample_w"} <= given:
            self.size = (param.upsample_h, param.upsample_w)
            if min(self.size) <= 1:
                self.fail(f"upsample_h and upsample_w must be larger than 1, not {text(self.size)}")
            return
        pair = {"scale_h", "scale_w"} & given
        if "upsample_h" in given or "upsample_w" in given or len(pair) == 1 or (pair and "scale" in given):
            self.fail("give either upsample_h and upsample_w, or scale, or scale_h and scale_w")
        self.scale = (param.scale_h, param.scale_w) if pair else (param.scale,) * 2
        self.less = (int(param.pad_out_h), int(param.pad_out_w))
        if min(self.scale) <= 1:
            self.fail(f"scale must be larger than 1, not {text(self.scale)}")
        for scale, less, axis in zip(self.scale, self.less, "hw", strict=True):
            if less and scale != 2:
                self.fail(f"pad_out_{axis} needs a scale of 2, not {scale}")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        shape = bottom[0]
        if len(bottom) == 1:
            if len(shape) < 2:
                self.fail(f"needs a bottom with at least 2 axes, not {text(shape)}")
            return [(*shape[:-2], shape[-2] * self.scale[0], shape[-1] * self.scale[1])]
        if len(shape) != 4 or tuple(bottom[1]) != tuple(shape):
            self.fail(f"needs values N×C×H×W and a mask of their shape; they are {text(shape)} and {text(bottom[1])}")
        scaled = (shape[2] * self.scale[0] - self.less[0], shape[3] * self.scale[1] - self.less[1])
        return [(*shape[:2], *(self.size or scaled))]

    def forward(self, *bottom: Tensor) -> Tensor:
        x = bottom[0]
        top = self.reshape([tuple(b.shape) for b in bottom])[0]
        if len(bottom) == 1:
            return x.repeat_interleave(self.scale[0], dim=-2).repeat_interleave(self.scale[1], dim=-1)
        values, where = x.flatten(2), bottom[1].detach().flatten(2).long()
        places = top[2] * top[3]
        outside = (where < 0) | (where >= places)
        if can_inspect(where) and bool(outside.any()):
            self.fail(
                f"the mask '{self.param.bottom[1]}' has index {int(where[outside][0])}, but a top of {text(top[2:])} has "
                f"{places} places: the sizes do not fit the Pooling layer that made the mask"
            )
        # Which of several writers of one place is last is decided first: a scatter alone leaves that open.
        number = torch.arange(where.shape[2], device=x.device).expand_as(where)
        # One place more, for what is outside (on a GPU, where it cannot be reported without waiting).
        where = where.masked_fill(outside, places)
        last = number.new_full((*top[:2], places + 1), -1).scatter_reduce(2, where, number, "amax")[..., :places]
        taken = values.gather(2, last.clamp(min=0)) if values.shape[2] else values.new_zeros(last.shape)
        return torch.where(last >= 0, taken, 0).reshape(top)
