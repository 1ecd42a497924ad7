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
from caffe.engine import fillers
from caffe.engine.layer import Layer
from caffe.engine.net import Net
from caffe.errors import NetError, shown
from caffe.proto import caffe_pb2
from caffe.proto.weights import LayerWeights, read_weights, write_weights
from caffe.runtime import runtime

_OTHER_NET = (
    "The weights are of a net with another width or other classes: use the prototxts that they were trained with. To start "
    "a training from them anyway, rename this layer, or give `caffe train -skip_mismatched`, which initializes all layers "
    "that do not fit"
)


def copy_trained_from(
    net: Net, path: str | Path, *, skip_mismatched: bool = False, allow_nonfinite: bool = False
) -> set[Layer]:
    """Copies the weights in a .caffemodel or .h5 file into the net's layers of the same names (of several: the first).

    Layers that the net does not have are skipped and logged. Another number of blobs, another shape, or a value that is
    nan or infinite is a NetError. With `skip_mismatched`, a layer of another shape keeps its own weights, and is logged;
    with `allow_nonfinite`, nan and infinity are copied, with a warning. Returns the layers that were set.
    """
    layers: dict[str, Layer] = {}
    for step in net.steps:
        layers.setdefault(step.layer.name, step.layer)
    copied: set[Layer] = set()
    for source in read_weights(path):
        target = layers.get(source.name)
        if target is None:
            if runtime.rank == 0:
                log.info("net.cpp:752", f"Ignoring source layer {source.name}")
            continue
        shared = {i for i in range(len(target.blobs)) if (target, i) in net.parameter_table.borrowed}
        if skip_mismatched and not fits(source, target, shared):
            if runtime.rank == 0:
                there = ", ".join(_shape(blob.shape) for blob in source.blobs) or "no blobs"
                here = ", ".join(_shape(tuple(blob.shape)) for blob in target.blobs) or "no blobs"
                log.warning(
                    log.here(), f"Layer {source.name} is not taken from {path}: it has {there} there and {here} here"
                )
            continue
        if allow_nonfinite and (found := not_finite(source)):
            log.warning(log.here(), f"{path}: {found}")
        copy_layer(source, target, path, shared, allow_nonfinite=allow_nonfinite)
        copied.add(target)
    return copied


def load_net(
    param: Any, files: Sequence[str | Path], phase: int, level: int = 0, stages: Sequence[str] = (), *,
    allow_nonfinite: bool = False,
) -> Net:  # fmt: skip
    """A net (as `Net` builds it) with the weights of `files`, copied in that order.

    Fillers are drawn only for the layers that no file has; a warning lists these.
    """
    with fillers.deferred() as waiting:
        net = Net(param, phase, level, stages)
    copied = {layer for path in files for layer in copy_trained_from(net, path, allow_nonfinite=allow_nonfinite)}
    # by their memory: a layer may share another's parameters in another shape
    loaded = {blob.data_ptr() for layer in copied for blob in layer.blobs}
    waiting.fill(p for p in net.learnable_params if p.data_ptr() not in loaded)
    unset = describe_unset(net, copied, ", ".join(map(str, files)))
    if files and unset and runtime.rank == 0:
        log.warning(log.here(), unset)
    return net


def unset_layers(net: Net, copied: Collection[Layer]) -> list[str]:
    """The names of the layers with parameters of their own that are not among `copied`, in the net's order."""
    borrowed = net.parameter_table.borrowed
    return [
        step.layer.name
        for step in net.steps
        if step.layer not in copied and any((step.layer, i) not in borrowed for i in range(len(step.layer.blobs)))
    ]


def describe_unset(net: Net, copied: Collection[Layer], files: str) -> str | None:
    """A sentence about the layers that `files` left as they were; None if there are none."""
    unset = unset_layers(net, copied)
    if not unset:
        return None
    noun, keep = ("layer is", "keeps") if len(unset) == 1 else ("layers are", "keep")
    return f"{len(unset)} {noun} not in {files} and {keep} the fillers' values: {', '.join(unset)}"


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
            f"the net's {target.type_name} layer has {len(target.blobs)}. {_OTHER_NET}"
        )
    for i, (array, parameter) in enumerate(zip(source.blobs, _targets(source, target, shared), strict=True)):
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


def fits(source: LayerWeights, target: Layer, shared: Collection[int] = ()) -> bool:
    """Whether `copy_layer` can copy: as many blobs (or as many that are not `shared`), of the same shapes."""
    if len(source.blobs) not in (len(target.blobs), len(target.blobs) - len(shared)):
        return False
    return all(
        _same_shape(a, tuple(p.shape)) for a, p in zip(source.blobs, _targets(source, target, shared), strict=True)
    )


def _targets(source: LayerWeights, target: Layer, shared: Collection[int]) -> list[nn.Parameter]:
    """The target's blobs that the source's go to, in order."""
    full = len(source.blobs) == len(target.blobs)
    return [p for i, p in enumerate(target.blobs) if full or i not in shared]


def _same_shape(array: NDArray[Any], shape: tuple[int, ...]) -> bool:
    # old weights give every blob four axes (a bias is 1 x 1 x 1 x N)
    legacy = array.ndim == 4 and len(shape) < 4 and array.shape == (1,) * (4 - len(shape)) + shape
    return array.shape == shape or legacy


def _copy(array: NDArray[Any], parameter: nn.Parameter, index: int, layer: Layer, path: str | Path) -> None:
    shape = tuple(parameter.shape)
    if not _same_shape(array, shape):
        raise NetError(
            f"{path}: Cannot copy param {index} weights from layer '{layer.name}'; shape mismatch. Source param shape is "
            f"{_shape(array.shape)}; target param shape is {_shape(shape)}. {_OTHER_NET}"
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
    index = {layer: i for i, layer in enumerate(layers)}
    shared = {(index[layer], blob) for layer, blob in net.parameter_table.borrowed}
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
