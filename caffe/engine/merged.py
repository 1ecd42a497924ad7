"""Convolutions that read the same blob as one convolution with the filters of all, in passes without gradients.

A detector has two for each of its sources: for places and for confidences. It is done on a GPU, where at batch 1 every
launch costs, and a convolution with few outputs leaves most of the device idle. On the CPU it would save less than a
hundredth of a pass (docs/cpu_speed.md).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caffe.engine.fused import FoundConvolution, convolutions
from caffe.engine.layer import ConvolutionWindow, Layer
from caffe.engine.wiring import Step


def merge(steps: Sequence[Step], *, share: bool = False, multiple: int = 1) -> list[Step]:
    """The steps, with one convolution in the place of those that read the same values through the same window.

    They have one group, and all or none of them have a bias, and a ReLU that overwrites the top at once. In the place of
    the first, one blob is computed with the channels of all, and cut into their tops. These are parts of its memory, which
    do not overlap, so a layer may still overwrite one of them.

    share: the original layers' weights become parts of the new ones, so that they are in memory only once. They are then
    no longer shared with another net.

    multiple: what the number of channels is a multiple of, by filters of zeros behind the others. cuDNN's kernels for
    tensor cores are fastest with whole vectors of 16 bytes.
    """
    found = list(convolutions(steps))
    groups = {min(group): group for group in _groups(found)}
    in_groups = {place for group in groups.values() for place in group}
    blobs = {top for step in steps for top in step.tops}
    merged: list[Step] = []
    for place, part in enumerate(found):
        if place in groups:
            merged += _as_one(list(groups[place].values()), blobs, share, multiple)
        elif place not in in_groups:
            merged += part.steps if isinstance(part, FoundConvolution) else [part]
    return merged


def _groups(found: Sequence[FoundConvolution | Step]) -> list[dict[int, FoundConvolution]]:
    """The convolutions that can be one, by their places, in order."""
    values: dict[str, tuple[int, str]] = {}  # a blob's name: where what it now holds was computed, and as what
    written: dict[str, int] = {}  # a blob's name: where it was last written
    groups: dict[object, dict[int, FoundConvolution]] = {}
    for place, part in enumerate(found):
        step = part.step if isinstance(part, FoundConvolution) else part
        if isinstance(part, FoundConvolution) and _may_be_merged(part):
            bottom = step.bottoms[0]
            group = groups.setdefault((values[bottom], *_kind(part)), {})
            # All are computed in the place of the first, where the bottoms of all must be there.
            if not group or written[bottom] < min(group):
                group[place] = part
        for top in step.tops:
            values[top] = values[step.bottoms[0]] if step.layer.passes_through else (place, top)
            written[top] = place
    return [group for group in groups.values() if len(group) > 1]


def _may_be_merged(found: FoundConvolution) -> bool:
    return found.window.group == 1 and not any(weight for step in found.steps for weight in step.loss_weights)


def _kind(found: FoundConvolution) -> tuple[object, ...]:
    """What convolutions of the same bottom must have in common to be one."""
    weight, *bias = found.step.layer.blobs
    return found.window, weight.shape[1:], weight.dtype, weight.device, len(bias), found.relu is not None


def _as_one(parts: Sequence[FoundConvolution], blobs: set[str], share: bool, multiple: int) -> list[Step]:
    """The steps in the place of some convolutions; blobs: all names that are taken."""
    layers = [part.step.layer for part in parts]
    bottoms = [part.step.bottoms[0] for part in parts]
    tops = [part.step.tops[0] for part in parts]
    whole = " + ".join(tops)
    while whole in blobs:
        whole += "'"
    convolution = MergedConvolution(layers, parts[0].window, share, multiple)
    steps = [Step(convolution, bottoms[:1], [whole], [False], [0.0])]
    if parts[0].relu is not None:
        steps.append(replace(parts[0].relu, bottoms=[whole], tops=[whole]))
    # The other bottoms are the same values. They are read here, so that they do not remain.
    steps.append(Step(_Cut(layers), [whole, *bottoms[1:]], tops, [False] * len(bottoms), [0.0] * len(tops)))
    return steps


def _param_of_all(convolutions: Sequence[Layer]) -> Any:
    """The first one's LayerParameter with the names of all."""
    param = copy.deepcopy(convolutions[0].param)
    param.name = " + ".join(layer.name for layer in convolutions)
    return param


class MergedConvolution(Layer):
    """Stands for convolutions of the same bottom; its filters are those of all, in order. Has no gradient."""

    type_name = "Convolution"
    rounds_blobs = True

    def __init__(
        self, convolutions: Sequence[Layer], window: ConvolutionWindow, share: bool, multiple: int = 1
    ) -> None:
        super().__init__(_param_of_all(convolutions), convolutions[0].phase)
        self._window = window
        for blobs in zip(*(layer.blobs for layer in convolutions), strict=True):
            sizes = [len(blob) for blob in blobs]
            zeros = torch.zeros_like(blobs[0][:1])  # in the same memory format, so that all are
            joined = torch.cat([blob.detach() for blob in blobs] + [zeros] * (-sum(sizes) % multiple))
            if share:
                for blob, part in zip(blobs, torch.split(joined[: sum(sizes)], sizes), strict=True):
                    blob.data = part
            self.blobs.append(nn.Parameter(joined, requires_grad=False))

    def as_convolution(self) -> ConvolutionWindow | None:
        return self._window

    def forward(self, *bottom: Tensor) -> Tensor:
        window = self._window
        bias = self.blobs[1] if len(self.blobs) > 1 else None
        return F.conv2d(bottom[0], self.blobs[0], bias, window.stride, window.pad, window.dilation)


class _Cut(Layer):
    """The first bottom's channels, without those behind, as the tops of the convolutions that it was computed for."""

    type_name = "Slice"

    def __init__(self, convolutions: Sequence[Layer]) -> None:
        super().__init__(_param_of_all(convolutions), convolutions[0].phase)
        self._channels = [len(layer.blobs[0]) for layer in convolutions]

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        return torch.split(bottom[0][:, : sum(self._channels)], self._channels, dim=1)
