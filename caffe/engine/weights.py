"""A net's weights to and from files, and from one net to another: matched by layer name, as Caffe does."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from caffe import log
from caffe.engine.layer import Layer
from caffe.engine.net import Net
from caffe.errors import NetError, shown
from caffe.proto import caffe_pb2
from caffe.proto.weights import LayerWeights, read_weights, write_weights
from caffe.runtime import runtime


def copy_trained_from(net: Net, path: str | Path, *, allow_nonfinite: bool = False) -> None:
    """Copies the weights in a .caffemodel or .h5 file into the net's layers of the same names.

    Layers that the net does not have are skipped and logged. Another number of blobs, another shape, or a value that is
    nan or infinite is a NetError; with `allow_nonfinite` such values are copied, with a warning.
    """
    layers = {step.layer.name: step.layer for step in net.steps}
    for source in read_weights(path):
        target = layers.get(source.name)
        if target is None:
            if runtime.rank == 0:
                log.info("net.cpp:752", f"Ignoring source layer {source.name}")
            continue
        shared = {i for i in range(len(target.blobs)) if (target.name, i) in net.parameter_table.borrowed}
        if allow_nonfinite and (found := not_finite(source)):
            log.warning(log.here(), f"{path}: {found}")
        copy_layer(source, target, path, shared, allow_nonfinite=allow_nonfinite)


def copy_layer(
    source: LayerWeights,
    target: Layer,
    path: str | Path,
    shared: Collection[int] = (),
    *,
    allow_nonfinite: bool = False,
) -> None:
    """Copies one layer's weights, which are from the file `path`, into `target`, whatever the two are called.

    `shared` are those of the target's blobs that another layer owns; the HDF5 form leaves them out. Another number of blobs,
    another shape, or (unless `allow_nonfinite`) a value that is nan or infinite is a NetError.
    """
    if not allow_nonfinite and (found := not_finite(source)):
        raise NetError(f"{path}: {found}. The training that wrote it had diverged: take an earlier snapshot")
    if len(source.blobs) not in (len(target.blobs), len(target.blobs) - len(shared)):
        raise NetError(
            f"{path}: Incompatible number of blobs for layer {source.name}: the file has {len(source.blobs)}, "
            f"the net's {target.type_name} layer has {len(target.blobs)}. Rename the layer to train it from scratch"
        )
    full = len(source.blobs) == len(target.blobs)
    owned = [p for i, p in enumerate(target.blobs) if full or i not in shared]
    for i, (array, parameter) in enumerate(zip(source.blobs, owned, strict=True)):
        _copy(array, parameter, i, target, path)


def not_finite(source: LayerWeights) -> str:
    """Which of a layer's blobs holds values that are nan or infinite, in words; empty if none does."""
    for index, blob in enumerate(source.blobs):
        with np.errstate(over="ignore", invalid="ignore"):
            # nan and inf carry over to the sum; only a sum that overflows needs a closer look
            if np.isfinite(blob.sum(dtype=np.float32)):
                continue
        count = blob.size - int(np.count_nonzero(np.isfinite(blob)))
        if count:
            return f"layer '{shown(source.name)}', blob {index}: {count:,} of {blob.size:,} values are nan or infinite"
    return ""


def fits(source: LayerWeights, target: Layer) -> bool:
    """Whether `copy_layer` can copy: as many blobs, of the same shapes."""
    pairs = zip(source.blobs, target.blobs, strict=False)
    return len(source.blobs) == len(target.blobs) and all(_same_shape(a, tuple(p.shape)) for a, p in pairs)


def _same_shape(array: NDArray[Any], shape: tuple[int, ...]) -> bool:
    # old weights give every blob four axes (a bias is 1 x 1 x 1 x N)
    legacy = array.ndim == 4 and len(shape) < 4 and array.shape == (1,) * (4 - len(shape)) + shape
    return array.shape == shape or legacy


def _copy(array: NDArray[Any], parameter: nn.Parameter, index: int, layer: Layer, path: str | Path) -> None:
    shape = tuple(parameter.shape)
    if not _same_shape(array, shape):
        raise NetError(
            f"{path}: Cannot copy param {index} weights from layer '{layer.name}'; shape mismatch. Source param shape is "
            f"{_shape(array.shape)}; target param shape is {_shape(shape)}. To learn this layer's parameters from scratch "
            "rather than copying from a saved net, rename the layer."
        )
    if parameter.device.type == "cpu" and parameter.is_contiguous():
        # directly from the mapped file into the parameter, with any alignment
        np.copyto(parameter.detach().numpy(), array.reshape(shape))
    else:
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(np.array(array).reshape(shape)))


def _shape(shape: Sequence[int]) -> str:
    return " ".join(map(str, shape)) + f" ({int(np.prod(shape))})"


def to_proto(net: Net) -> Any:
    """The net as the original writes it: a NetParameter of its layers, including Split layers, without their blobs."""
    param = caffe_pb2.NetParameter(name=net.name)
    for step in net.steps:
        layer = param.layer.add()
        layer.CopyFrom(step.layer.param)
        del layer.blobs[:]
    return param


def _host(tensor: torch.Tensor) -> NDArray[np.float32]:
    return tensor.detach().cpu().contiguous().numpy()


def save(net: Net, path: str | Path, write_diff: bool = False, hdf5: bool | None = None) -> None:
    """Writes the net's layers and weights: protobuf, or HDF5 (`hdf5`, or a name that ends in .h5). Complete or not at
    all.

    `write_diff` adds the parameters' gradients (a solver's `snapshot_diff`).
    """
    layers = [step.layer for step in net.steps]
    blobs = [[_host(p) for p in layer.blobs] for layer in layers]
    diffs = None
    if write_diff:
        diffs = [[_host(torch.zeros_like(p) if p.grad is None else p.grad) for p in layer.blobs] for layer in layers]
    index = {layer.name: i for i, layer in enumerate(layers)}
    shared = {(index[name], blob) for name, blob in net.parameter_table.borrowed}
    write_weights(path, to_proto(net), blobs, diffs, shared, hdf5)


def share_trained_layers_with(net: Net, other: Net) -> None:
    """Makes the net's parameters those of `other`'s layers with the same names, in shared memory."""
    layers = {step.layer.name: step.layer for step in net.steps}
    for step in other.steps:
        source, target = step.layer, layers.get(step.layer.name)
        if target is None:
            if runtime.rank == 0:
                log.info("net.cpp:693", f"Ignoring source layer {source.name}")
            continue
        if len(target.blobs) != len(source.blobs):
            raise NetError(
                f"Incompatible number of blobs for layer {source.name}: {len(source.blobs)} in net '{other.name}', "
                f"{len(target.blobs)} in net '{net.name}'"
            )
        for i, (mine, theirs) in enumerate(zip(target.blobs, source.blobs, strict=True)):
            if mine.shape != theirs.shape:
                raise NetError(
                    f"Cannot share param {i} weights from layer '{source.name}'; shape mismatch. Source param shape is "
                    f"{_shape(theirs.shape)}; target param shape is {_shape(mine.shape)}"
                )
            mine.data = theirs.data
