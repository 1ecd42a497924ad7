"""Normalize: L2 normalization with a learned scale (ParseNet; SSD's conv4_3_norm, MDSSD's fusions)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.forks.unit_norm import UnitNorm
from caffe.ops.normalize import normalize
from caffe.proto import caffe_pb2


@register
class Normalize(Layer):
    """norm_param: across_spatial, channel_shared, scale_filler (constant 1), eps. Blob: the scale, C or no axes.

    With normalize_param, or two tops, it is that of caffe-windows; see `UnitNorm`.
    """

    type_name = "Normalize"
    tops = (1, 2)
    fresh_tops = True

    def setup(self, bottom: Sequence[Shape]) -> None:
        #: the other form, if it is meant
        self.unit = UnitNorm(self.param, self.fail) if UnitNorm.is_meant(self.param) else None
        if self.unit:
            return
        if len(bottom[0]) < 2:
            self.fail(f"needs a bottom with two axes or more (items, channels, …), not {bottom[0]}")
        param = self.param.norm_param
        self.across_spatial: bool = param.across_spatial
        self.eps: float = param.eps
        filler = caffe_pb2.FillerParameter(type="constant", value=1.0)
        if param.HasField("scale_filler"):
            filler = param.scale_filler
        self.add_blob(() if param.channel_shared else (bottom[0][1],), filler)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        if self.unit:
            return self.unit.tops(bottom[0])[: self.num_tops]
        scale = self.blobs[0]
        if scale.dim() == 1 and scale.shape[0] != bottom[0][1]:
            self.fail(f"has a scale for {scale.shape[0]} channels, but its bottom has {bottom[0][1]}")
        return [bottom[0]]

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:  # type: ignore[override]  # always one bottom
        if self.unit:
            unit, norm = self.unit(x)
            return unit if self.num_tops < 2 else (unit, norm)
        return normalize(x, self.blobs[0], self.across_spatial, self.eps)
