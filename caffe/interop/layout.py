"""Where another framework's file keeps the parameters of a network's layers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffe.errors import ProtoError, shown
from caffe.interop.checkpoint import Tensors
from caffe.interop.preprocessing import Preprocessing

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Layout:
    """`layers`: for each of Caffe's layers the names of its parameters in the file, in the order of its blobs.

    `ignored`: a pattern of names that the file may have besides.
    """

    title: str
    layers: Mapping[str, tuple[str, ...]]
    preprocessing: Preprocessing
    ignored: str = r".*\.num_batches_tracked"

    @property
    def names(self) -> set[str]:
        """All names that a file of this layout has."""
        return {name for names in self.layers.values() for name in names}


def pairs(layers: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Layers with a weight and a bias under a common prefix."""
    return {layer: (f"{prefix}.weight", f"{prefix}.bias") for layer, prefix in layers.items()}


def gather(path: str | Path, tensors: Tensors, layout: Layout, known: Mapping[str, Layout]) -> dict[str, list[Array]]:
    """The parameters of each layer. Raises ProtoError unless the file has exactly the layout's names.

    `known`: every layout by the name that the user gives it, to say which one the file has instead.
    """
    missing = sorted(layout.names - tensors.keys())
    extra = sorted(name for name in tensors.keys() - layout.names if not re.fullmatch(layout.ignored, name))
    if missing or extra:
        others = [name for name, other in known.items() if other.names <= tensors.keys() and other is not layout]
        words = []
        if missing:
            words.append(f"it has no {_some(missing)}")
        if extra:
            words.append(f"{'but it has' if missing else 'it also has'} {_some(extra)}")
        hint = f"; it looks like -from {' or '.join(others)}" if others else "; give the file of that network"
        raise ProtoError(f"{path}: not {layout.title}: {', '.join(words)}{hint}")
    layers = {layer: [tensors[name] for name in names] for layer, names in layout.layers.items()}
    for layer, arrays in layers.items():
        for name, array in zip(layout.layers[layer], arrays, strict=True):
            if not np.isfinite(array).all():
                raise ProtoError(f"{path}: tensor '{shown(name)}' contains NaN or infinity")
    return layers


def _some(names: list[str]) -> str:
    listed = ", ".join(f"'{shown(name)}'" for name in names[:3])
    return f"{listed} and {len(names) - 3} more" if len(names) > 3 else listed


def check_chain(path: str | Path, layers: Mapping[str, list[Array]], layout: Layout, names: list[str]) -> None:
    """Raises ProtoError unless these convolutions, each on the last one's output, have shapes that fit."""
    channels = 3
    for layer in names:
        weight, bias = layers[layer]
        if weight.ndim != 4 or weight.shape[1] != channels or bias.shape != weight.shape[:1]:
            raise ProtoError(
                f"{path}: not {layout.title}: '{layout.layers[layer][0]}' is {_shape(weight)} with a bias of "
                f"{_shape(bias)}, where a convolution of {channels} channels should be"
            )
        channels = weight.shape[0]


def _shape(array: Array) -> str:
    return " x ".join(map(str, array.shape)) or "one number"
