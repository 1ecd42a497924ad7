"""pycaffe's `caffe.Net`, as scripts and notebooks written for the original use it. The solvers are in pysolver.py."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe import log
from caffe.engine import weights as weight_files
from caffe.engine.blob import Array, Blob, BlobVec
from caffe.engine.layer import Layer as EngineLayer
from caffe.engine.layer_types.memory_data import MemoryData
from caffe.engine.layer_types.python import Python as PythonLayer
from caffe.engine.net import Net as EngineNet
from caffe.errors import CaffeError
from caffe.proto.text import read_net

Arrays = Mapping[str, NDArray[Any]]


class LayerView:
    """One layer as `net.layers[i]` shows it: its type and its parameter blobs."""

    def __init__(self, net: EngineNet, layer: EngineLayer) -> None:
        self._net, self._layer = net, layer

    @property
    def type(self) -> str:
        return self._layer.type_name

    @property
    def name(self) -> str:
        return self._layer.name

    @property
    def blobs(self) -> BlobVec:
        return self._net.parameter_table.views(self._layer)


class Net:
    """A net for Python: `caffe.Net('deploy.prototxt', caffe.TEST, weights='x.caffemodel')`.

    Also takes Caffe's older form `caffe.Net('deploy.prototxt', 'x.caffemodel', caffe.TEST)`. `level` and `stages` are
    those of the NetState. Blobs' data and diffs are live: the next forward or backward reads what is written to them.
    """

    def __init__(
        self,
        network_file: str | Path | EngineNet,
        phase: int | str | Path = 1,
        level: int | None = None,
        stages: Sequence[str] | None = None,
        weights: str | Path | None = None,
    ) -> None:
        if isinstance(network_file, EngineNet):
            self._net = network_file
            return
        if isinstance(phase, (str, Path)):
            # the older form: file, weights, phase
            weights, phase = phase, 1 if level is None else level
            level = 0
            log.warning("_caffe.cpp:139", "DEPRECATION WARNING - deprecated use of Python interface")
            log.warning("_caffe.cpp:140", 'Use this instead (with the named "weights" parameter):')
            log.warning("_caffe.cpp:142", f"Net('{network_file}', {phase}, weights='{weights}')")
        if phase not in (0, 1):
            raise CaffeError(f"phase is {phase!r}; give caffe.TRAIN or caffe.TEST")
        files = [] if weights is None else [weights]
        self._net = weight_files.load_net(
            read_net(network_file), files, phase, level or 0, stages or (), allow_nonfinite=True
        )

    # ---- contents
    #
    # A net's layers and blobs are those that it was made of, so each of these is made once, as in the original. What is in
    # them is live: blobs show new data and shapes.

    @cached_property
    def blobs(self) -> OrderedDict[str, Blob]:
        """The blobs by name, from input to output."""
        return OrderedDict(self._net.blobs)

    @cached_property
    def params(self) -> OrderedDict[str, BlobVec]:
        """The parameters by layer name: weights, then bias, …"""
        return OrderedDict(
            (step.layer.name, self._net.parameter_table.views(step.layer))
            for step in self._net.steps
            if len(step.layer.blobs)
        )

    @cached_property
    def layers(self) -> list[Any]:
        """The layers in order: a Python layer is the user's own object, any other shows its type and blobs."""
        return [
            step.layer.user if isinstance(step.layer, PythonLayer) else LayerView(self._net, step.layer)
            for step in self._net.steps
        ]

    @cached_property
    def layer_dict(self) -> OrderedDict[str, Any]:
        return OrderedDict(zip(self._net.layer_names, self.layers, strict=True))

    @cached_property
    def inputs(self) -> list[str]:
        return list(self._net.inputs)

    @cached_property
    def outputs(self) -> list[str]:
        return list(self._net.outputs)

    @cached_property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        return OrderedDict(self._net.blob_loss_weights)

    @cached_property
    def top_names(self) -> OrderedDict[str, list[str]]:
        return OrderedDict((s.layer.name, list(s.tops)) for s in self._net.steps)

    @cached_property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        return OrderedDict((s.layer.name, list(s.bottoms)) for s in self._net.steps)

    @property
    def name(self) -> str:
        return self._net.name

    @property
    def phase(self) -> int:
        return self._net.phase

    # older names that scripts use
    @cached_property
    def _layer_names(self) -> list[str]:
        return list(self._net.layer_names)

    @cached_property
    def _blob_names(self) -> list[str]:
        return list(self._net.blob_names)

    @cached_property
    def _blobs(self) -> list[Blob]:
        return list(self._net.blobs.values())

    @cached_property
    def _inputs(self) -> list[int]:
        return self._blob_ids(self._net.inputs)

    @cached_property
    def _outputs(self) -> list[int]:
        return self._blob_ids(self._net.outputs)

    @cached_property
    def _blob_loss_weights(self) -> list[float]:
        return list(self._net.blob_loss_weights.values())

    def _top_ids(self, layer: int) -> list[int]:
        return self._blob_ids(self._net.steps[layer].tops)

    def _bottom_ids(self, layer: int) -> list[int]:
        return self._blob_ids(self._net.steps[layer].bottoms)

    def _blob_ids(self, names: Sequence[str]) -> list[int]:
        return [self._places_of_blobs[name] for name in names]

    @cached_property
    def _places_of_blobs(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self._net.blob_names)}

    @cached_property
    def _places_of_layers(self) -> dict[str, int]:
        places: dict[str, int] = {}
        for index, name in enumerate(self._net.layer_names):
            places.setdefault(name, index)  # of several layers of one name, the first
        return places

    # ---- running

    def _layer_index(self, name: str) -> int:
        if name not in self._places_of_layers:
            raise CaffeError(f"net '{self.name}' has no layer '{name}'; its layers: {', '.join(self._net.layer_names)}")
        return self._places_of_layers[name]

    def _feed(self, values: Arrays, wanted: Sequence[str], side: str) -> None:
        if set(values) != set(wanted):
            raise CaffeError(
                f"{'Input blob' if side == 'data' else 'Top diff'} arguments do not match net "
                f"{'inputs' if side == 'data' else 'outputs'}: got {sorted(values)}, the net has {sorted(wanted)}"
            )
        for name, value in values.items():
            blob = self._net.blobs[name]
            array = np.asarray(value, dtype=np.float32)
            if not array.shape or array.shape[0] != blob.shape[0]:
                what = "Input is not batch sized" if side == "data" else "Diff is not batch sized"
                raise CaffeError(f"{what}: '{name}' has shape {blob.shape}, the array {array.shape}")
            (blob.data if side == "data" else blob.diff)[...] = array

    def forward(
        self, blobs: Sequence[str] | None = None, start: str | None = None, end: str | None = None, **kwargs: Any
    ) -> dict[str, Array]:
        """Runs the net, or its layers `start` to `end` (names, inclusive).

        Keyword arguments are arrays for the input blobs. Returns the data of the outputs (with `end`: that layer's top
        of the same name) and of `blobs`.
        """
        first = 0 if start is None else self._layer_index(start)
        last = len(self._net.steps) - 1 if end is None else self._layer_index(end)
        if kwargs:
            self._feed(kwargs, self.inputs, "data")
        self._net.follow_mode()
        self._net.forward_layers(first, last)
        names = {*(self._net.outputs if end is None else self._end_names(last, end)), *(blobs or ())}
        return {name: self._blob(name).data for name in names}

    def _end_names(self, index: int, end: str) -> list[str]:
        return [end] if end in self._net.blobs else list(self._net.steps[index].tops)

    def _blob(self, name: str) -> Blob:
        if name not in self._net.blobs:
            raise CaffeError(f"net '{self.name}' has no blob '{name}'; its blobs: {', '.join(self._net.blobs)}")
        return self._net.blobs[name]

    def backward(
        self, diffs: Sequence[str] | None = None, start: str | None = None, end: str | None = None, **kwargs: Any
    ) -> dict[str, Array]:
        """Runs backward through the net, or from layer `start` down to `end`, from the tops' diffs.

        Keyword arguments are diffs for the output blobs. Returns the diffs of the inputs (with `end`: of that blob) and
        of `diffs`. Parameters' diffs are added to, as in Caffe.
        """
        first = len(self._net.steps) - 1 if start is None else self._layer_index(start)
        last = 0 if end is None else self._layer_index(end)
        if kwargs:
            self._feed(kwargs, self.outputs, "diff")
        self._net.backward_layers(first, last)
        names = {*(self._net.inputs if end is None else self._end_names(last, end)), *(diffs or ())}
        return {name: self._blob(name).diff for name in names}

    def _forward(self, start: int, end: int) -> float:
        return self._net.forward_layers(start, end)

    def _backward(self, start: int, end: int) -> None:
        self._net.backward_layers(start, end)

    def forward_all(self, blobs: Sequence[str] | None = None, **kwargs: Any) -> dict[str, NDArray[Any]]:
        """Runs any number of items through the net batch by batch (the last one padded); the outputs of all of them."""
        names = list(dict.fromkeys([*self.outputs, *(blobs or ())]))
        collected: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        for batch in self._batch(kwargs):
            for name, value in self.forward(blobs, **batch).items():
                collected[name].extend(value.copy())
        return _without_padding(collected, len(next(iter(kwargs.values()))))

    def forward_backward_all(
        self, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None, **kwargs: Any
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Forward and backward over any number of items; the outputs and the input diffs of all of them."""
        data: dict[str, list[NDArray[Any]]] = {n: [] for n in dict.fromkeys([*self.outputs, *(blobs or ())])}
        gradients: dict[str, list[NDArray[Any]]] = {n: [] for n in dict.fromkeys([*self.inputs, *(diffs or ())])}
        forward = self._batch({n: kwargs[n] for n in self.inputs if n in kwargs})
        backward = self._batch({n: kwargs[n] for n in self.outputs if n in kwargs})
        nothing: dict[str, Any] = {}
        for into, out_of in zip_longest(forward, backward, fillvalue=nothing):
            for name, value in self.forward(blobs=blobs, **into).items():
                data[name].extend(value.copy())
            for name, value in self.backward(diffs=diffs, **out_of).items():
                gradients[name].extend(value.copy())
        count = len(next(iter(kwargs.values())))
        return _without_padding(data, count), _without_padding(gradients, count)

    def _batch(self, blobs: Arrays) -> Iterator[dict[str, Any]]:
        if not blobs:
            return
        count = len(next(iter(blobs.values())))
        size = next(iter(self._net.blobs.values())).shape[0]
        for i in range(0, count, size):
            batch = {name: np.asarray(value[i : i + size]) for name, value in blobs.items()}
            missing = size - len(next(iter(batch.values())))
            yield {n: np.concatenate([v, np.zeros((missing, *v.shape[1:]), v.dtype)]) for n, v in batch.items()}

    def set_input_arrays(self, data: NDArray[Any], labels: NDArray[Any]) -> None:
        """The items that the net's MemoryData layer goes through: data N x C x H x W, labels N or N x 1 x 1 x 1."""
        layer = self._net.steps[0].layer if self._net.steps else None
        if not isinstance(layer, MemoryData):
            raise CaffeError("set_input_arrays may only be called if the first layer is a MemoryDataLayer")
        layer.reset(np.asarray(data, np.float32), np.asarray(labels, np.float32).reshape(len(labels), 1, 1, 1))

    _set_input_arrays = set_input_arrays

    def reshape(self) -> None:
        """Gives every blob the shape that follows from the inputs' shapes."""
        self._net.reshape()

    def clear_param_diffs(self) -> None:
        self._net.clear_param_diffs()

    # ---- weights

    def copy_from(self, weights: str | Path) -> None:
        """Copies the weights of a .caffemodel (or .h5) into the layers of the same names."""
        weight_files.copy_trained_from(self._net, weights, allow_nonfinite=True)

    def save(self, path: str | Path) -> None:
        weight_files.save(self._net, path)

    def save_hdf5(self, path: str | Path) -> None:
        weight_files.save(self._net, path, hdf5=True)

    def load_hdf5(self, path: str | Path) -> None:
        weight_files.copy_trained_from(self._net, path, allow_nonfinite=True)

    def share_with(self, other: Net) -> None:
        """Shares the parameters of `other`'s layers of the same names."""
        weight_files.share_trained_layers_with(self._net, other._net)


def _without_padding(collected: Mapping[str, list[NDArray[Any]]], count: int) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(values)[:count] for name, values in collected.items()}
