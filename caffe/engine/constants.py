"""What depends on the shapes of blobs only, such as a detector's default boxes, computed once for all passes.

PriorBox gives a copy of its boxes in each pass, because the caller may write to it, and Concat copies them again. In
passes of a net whose blobs nobody sees, both give the same tensors every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from caffe.engine.layer import Layer
from caffe.engine.wiring import Step


def remember(steps: Sequence[Step]) -> list[Step]:
    """The steps, with those remembered that read shapes only, or what others computed from shapes only.

    Those whose tops no other step reads stay as they are: the tops are the net's outputs, which belong to the caller.
    """
    read = {bottom for step in steps for bottom in step.bottoms}
    constant: set[str] = set()
    remembered: list[Step] = []
    for step in steps:
        layer, from_shapes = step.layer, step.layer.constant_tops
        if from_shapes or (step.bottoms and constant.issuperset(step.bottoms) and layer.graph_obstacle() is None):
            constant.update(step.tops)
            if read.issuperset(step.tops) and not any(step.loss_weights):
                step = replace(step, layer=Remembered(layer, from_shapes))
        else:
            constant.difference_update(step.tops)
        remembered.append(step)
    return remembered


class Remembered(Layer):
    """A layer that gives the same tops again for bottoms of the same shapes, or for the same bottoms. Has no gradient.

    from_shapes: whether shapes are enough.
    """

    def __init__(self, layer: Layer, from_shapes: bool) -> None:
        super().__init__(layer.param, layer.phase)
        self.type_name = layer.type_name  # type: ignore[misc]  # that of the layer it stands for
        self.layer = layer
        self.from_shapes = from_shapes
        #: with the bottoms, so that no other tensors take over their ids
        self._made: dict[tuple[object, ...], tuple[tuple[Tensor, ...], Tensor | tuple[Tensor, ...]]] = {}

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        if torch.compiler.is_compiling():  # while tracing, tensors stand for values and must not be kept
            traced: Tensor | tuple[Tensor, ...] = self.layer(*bottom)
            return traced
        key = tuple((x.shape, x.device) if self.from_shapes else id(x) for x in bottom)
        if key not in self._made:
            self._made[key] = (() if self.from_shapes else bottom), self.layer(*bottom)
        return self._made[key][1]
