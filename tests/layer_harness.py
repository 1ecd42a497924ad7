"""Setting up single layers from prototxt text, for tests that need no net around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from google.protobuf import text_format
from numpy.typing import NDArray
from torch import Tensor

import caffe.engine.layer_types  # noqa: F401  (registers the types)
from caffe.engine.layer import TRAIN, Layer, layer_class
from caffe.proto import caffe_pb2

Array = NDArray[np.float64]
Shape = tuple[int, ...]
#: reference(param, bottoms, blobs, phase) gives the tops
Reference = Callable[[Any, list[Array], list[Array], int], list[Array]]


@dataclass(frozen=True)
class Bottom:
    """A bottom's shape and what it holds: normal values, or those that `draw` makes from (generator, shape)."""

    shape: Shape
    draw: Callable[[np.random.Generator, Shape], Array] | None = None
    #: whether a gradient can be checked by small steps
    smooth: bool = True

    def values(self, rng: np.random.Generator, shape: Shape | None = None) -> Array:
        shape = self.shape if shape is None else shape
        return np.asarray(rng.normal(size=shape) if self.draw is None else self.draw(rng, shape))


def labels(*shape: int, classes: int) -> Bottom:
    return Bottom(shape, lambda rng, s: rng.integers(0, classes, size=s).astype(np.float64), smooth=False)


def positive(*shape: int) -> Bottom:
    return Bottom(shape, lambda rng, s: rng.uniform(0.1, 2, size=s))


def probabilities(*shape: int) -> Bottom:
    return Bottom(shape, lambda rng, s: rng.uniform(0.05, 1, size=s))


def constant(value: float, *shape: int) -> Bottom:
    return Bottom(shape, lambda rng, s: np.full(s, value), smooth=False)


@dataclass(frozen=True)
class Case:
    """One configuration of a layer type, with its reference."""

    type: str
    text: str
    bottoms: Sequence[Bottom]
    reference: Reference
    tops: int = 1
    phase: int = TRAIN
    #: shapes that it can change to after set-up; None: one more item in the batch
    resized: Sequence[Shape] | None = field(default=None)

    def __str__(self) -> str:
        return f"{self.type} {self.text or 'plain'} {'+'.join('x'.join(map(str, b.shape)) for b in self.bottoms)}"

    def layer(self) -> Layer:
        return make_layer(self.type, self.text, [b.shape for b in self.bottoms], self.tops, self.phase)

    def other_shapes(self) -> list[Shape]:
        if self.resized is not None:
            return list(self.resized)
        return [(b.shape[0] + 1, *b.shape[1:]) for b in self.bottoms]


def make_layer(type_name: str, text: str, shapes: Sequence[Shape], tops: int = 1, phase: int = TRAIN) -> Layer:
    """A layer named 'l' with bottoms b0, b1, … and tops t0, t1, …, set up for `shapes`; its own `text` may name others."""
    param = text_format.Parse(text, caffe_pb2.LayerParameter())
    param.name, param.type = param.name or "l", type_name
    param.bottom.extend(f"b{i}" for i in range(len(param.bottom), len(shapes)))
    param.top.extend(f"t{i}" for i in range(len(param.top), tops))
    layer = layer_class(type_name, param.name)(param, phase)
    layer.setup(list(shapes))
    layer.reshape(list(shapes))
    return layer


def run(layer: Layer, *bottoms: Tensor) -> list[Tensor]:
    """A layer's tops as a list."""
    tops = layer(*bottoms)
    return [tops] if isinstance(tops, Tensor) else list(tops)


def gradients(layer: Layer, bottoms: Sequence[Any], top_diff: Any = None) -> list[Tensor]:
    """The diffs of all bottoms for the first top's diff (None: ones)."""
    leaves = [torch.as_tensor(b, dtype=torch.float64).clone().requires_grad_() for b in bottoms]
    top = run(layer.double(), *leaves)[0]
    diff = torch.ones_like(top) if top_diff is None else torch.as_tensor(top_diff, dtype=torch.float64)
    grads = torch.autograd.grad(top, leaves, diff, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads, strict=True)]


def spread_out(layer: Layer, seed: int = 0) -> Layer:
    """The layer in float64, its learned blobs filled with distinct values (many fillers leave zeros)."""
    generator = torch.Generator().manual_seed(seed)
    layer.double()
    for blob in layer.blobs:
        if blob.requires_grad:
            blob.data.normal_(generator=generator)
    return layer
