"""Flattened blobs and the Concat that joins them, as one step in passes without gradients on a GPU.

The predictions of a detector are permuted parts of blobs that hold more (caffe/engine/merged.py). Flattening would copy
each of them, and Concat would copy all of them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import torch
from torch import Tensor

from caffe.engine.layer import Layer
from caffe.engine.wiring import Step


def join_flattened(steps: Sequence[Step]) -> list[Step]:
    """The steps, with a FlatConcat in the place of each Concat of flattened blobs; these are then not made."""
    writers: dict[str, Step] = {}
    joining: dict[int, list[Step]] = {}  # the place of a Concat: the steps that flatten its bottoms
    for place, step in enumerate(steps):
        sources = [writers[bottom] for bottom in step.bottoms]
        if len(sources) > 1 and step.layer.joins_rows() and all(map(_only_flattens, sources)):
            joining[place] = sources
        writers.update(dict.fromkeys(step.tops, step))
    left_out = {id(source) for sources in joining.values() for source in sources}
    joined: list[Step] = []
    for place, step in enumerate(steps):
        if place in joining:
            bottoms = [source.bottoms[0] for source in joining[place]]
            joined.append(replace(step, layer=FlatConcat(step.layer), bottoms=bottoms))
        elif id(step) not in left_out:
            joined.append(step)
    return joined


def _only_flattens(step: Step) -> bool:
    return step.layer.makes_rows() and not any(step.loss_weights)


class FlatConcat(Layer):
    """The bottoms, each with one row for each image, side by side. Has no gradient."""

    type_name = "Concat"

    def __init__(self, concat: Layer) -> None:
        super().__init__(concat.param, concat.phase)

    def forward(self, *bottom: Tensor) -> Tensor:
        first = bottom[0]
        if (
            torch.compiler.is_compiling()
            or all(x.is_contiguous() for x in bottom)
            or any(x.dtype != first.dtype for x in bottom)
        ):
            return torch.cat([x.flatten(1) for x in bottom], dim=1)
        top = first.new_empty(len(first), sum(x.shape[1:].numel() for x in bottom))
        start = 0
        # Of blobs with equally many channels, those of one place after another follow each other in the top. So a run of
        # such blobs is copied at once, whatever the order of their memory.
        for channels, run in groupby(bottom, lambda x: x.shape[-1]):
            rows = [x.flatten(1, -2) if x.dim() > 2 else x[:, None] for x in run]
            count = sum(x.shape[1] for x in rows)
            part = top[:, start : start + count * channels].view(len(first), count, channels)
            torch.cat(rows, dim=1, out=part)
            start += count * channels
        return top
