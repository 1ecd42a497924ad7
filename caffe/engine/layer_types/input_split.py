"""Layers that only provide or pass on blobs: Input and Split."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, SourceLayer, register


@register
class Input(SourceLayer):
    """`input_param { shape { dim: … } }`, one for all tops or one per top. The user writes the data to the blobs."""

    type_name = "Input"
    tops = (1, None)
    is_input = True

    def setup(self, bottom: Sequence[Shape]) -> None:
        shapes = [tuple(s.dim) for s in self.param.input_param.shape]
        if len(shapes) not in (0, 1, self.num_tops):
            self.fail(f"gives {len(shapes)} shapes for {self.num_tops} tops; give none, one for all, or one per top")
        for shape in shapes:
            if any(d < 0 for d in shape):
                self.fail(f"shape {shape} has a negative dimension")
        # without a shape, the user's first reshape of the blob sets it
        self.shapes: list[Shape] = shapes * self.num_tops if len(shapes) == 1 else shapes or [()] * self.num_tops

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        return list(self.shapes)

    def forward(self) -> tuple[Tensor, ...]:  # type: ignore[override]  # no bottoms
        return tuple(torch.zeros(s) for s in self.shapes)


@register
class Split(Layer):
    """Passes one blob to several readers; its gradient is the sum of theirs."""

    type_name = "Split"
    tops = (1, None)
    passes_through = True

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        return [bottom[0]] * self.num_tops

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        return (bottom[0],) * self.num_tops
