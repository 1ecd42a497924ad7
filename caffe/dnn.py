"""A stand-in for OpenCV's `cv2.dnn` for Caffe nets, which OpenCV 5 no longer reads: change one import.

    from caffe import dnn                        # was: from cv2 import dnn

    net = dnn.readNetFromCaffe("deploy.prototxt", "net.caffemodel")
    net.setInput(dnn.blobFromImage(image, 1.0, (300, 300), (104, 117, 123)))
    detections = net.forward()

Nets run on this project's engine. Outputs are those of layers, as in OpenCV: `forward("conv1")` is what the layer conv1
returns, even if a later layer works in place on it. All else in `cv2.dnn`, such as blobFromImage, NMSBoxes and the
DNN_… constants, is OpenCV's own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from caffe import log
from caffe.engine.layer import TEST, SourceLayer
from caffe.engine.net import Net as EngineNet
from caffe.engine.weights import copy_trained_from
from caffe.engine.wiring import Step
from caffe.errors import CaffeError
from caffe.proto.text import read_net

Array = NDArray[np.float32]
#: a path, or the content of the file
File = str | Path | bytes | bytearray | NDArray[np.uint8]

#: cv2.dnn's targets that mean the GPU
_CUDA_TARGETS = {6, 7}


def __getattr__(name: str) -> Any:
    try:
        return getattr(cv2.dnn, name)
    except AttributeError:
        raise AttributeError(f"neither caffe.dnn nor cv2.dnn has '{name}'") from None


def readNetFromCaffe(prototxt: File, caffeModel: File = "") -> Net:
    """The net of a deploy prototxt with the weights of a caffemodel: paths, or the files' contents.

    Raises CaffeError for files that cannot be read, and for weights that do not fit.
    """
    with _OnDisk(prototxt, ".prototxt") as model, _OnDisk(caffeModel, ".caffemodel") as weights, log.quiet():
        net = EngineNet(read_net(model), TEST)
        if str(weights):
            copy_trained_from(net, weights)
    return Net(net)


def readNet(model: str, config: str = "", framework: str = "") -> Net:
    """`readNetFromCaffe` of a .caffemodel and a .prototxt, in either order."""
    if framework not in ("", "caffe"):
        raise CaffeError(f"readNet reads nets of Caffe here, not of {framework}; cv2.dnn.readNet has the others")
    first, second = (config, model) if model.endswith(".caffemodel") else (model, config)
    return readNetFromCaffe(first, second)


class _OnDisk:
    """A path, or a temporary file with given content."""

    def __init__(self, file: File, suffix: str) -> None:
        self._file, self._suffix = file, suffix
        self._temporary: Any = None

    def __enter__(self) -> str | Path:
        if isinstance(self._file, str | Path):
            return self._file
        self._temporary = NamedTemporaryFile(suffix=self._suffix)
        self._temporary.write(bytes(self._file))
        self._temporary.flush()
        return str(self._temporary.name)

    def __exit__(self, *_: object) -> None:
        if self._temporary is not None:
            self._temporary.close()


@dataclass(frozen=True)
class Layer:
    """What getLayer returns: a layer's name, type, and weights."""

    name: str
    type: str
    blobs: list[Array]


class Net:
    """A net with the methods of `cv2.dnn.Net`. Layers count from 1; 0 is the input."""

    def __init__(self, net: EngineNet) -> None:
        self._net = net
        #: OpenCV has no layers for inputs and for Caffe's splits
        self._steps = [s for s in net.steps if s.layer.type_name != "Split" and not isinstance(s.layer, SourceLayer)]
        self._by_name = {step.layer.name: step for step in self._steps}
        self._inputs: dict[str, torch.Tensor] = {}
        self._seconds = 0.0

    # ---- running

    def setInput(
        self, blob: NDArray[Any], name: str = "", scalefactor: float = 1.0, mean: Sequence[float] | float = ()
    ) -> None:
        """Sets an input, N × C × H × W, to scalefactor · (blob − mean); `name` may be left out if there is only one.

        The size may differ from the prototxt's. Raises CaffeError for other names and numbers of channels.
        """
        inputs = self._net.inputs
        if not name and len(inputs) == 1:
            name = inputs[0]
        if name not in inputs:
            raise CaffeError(f"the net has no input '{name}'; its inputs are {', '.join(inputs)}")
        values = np.asarray(blob)
        shape = tuple(self._net.blobs[name].shape)
        if values.ndim != len(shape) or values.shape[1:2] != shape[1:2] or not values.size:
            raise CaffeError(
                f"input '{name}' is {' x '.join(map(str, values.shape))}, and the net takes {' x '.join(map(str, shape))} "
                "(the number of images and their size may differ); blobFromImage makes such an array"
            )
        data = values.astype(np.float32)
        if np.size(mean):
            means = np.asarray(mean, np.float32).reshape(-1)
            data = data - (means[: data.shape[1]].reshape(1, -1, 1, 1) if means.size > 1 else means)
        if scalefactor != 1.0:
            data = data * np.float32(scalefactor)
        self._inputs[name] = torch.from_numpy(np.ascontiguousarray(data))

    def setInputShape(self, inputName: str, shape: Sequence[int]) -> None:
        """Sets an input to zeros of a shape."""
        self.setInput(np.zeros(tuple(shape), np.float32), inputName)

    def forward(self, outputName: str | Sequence[str] | None = None) -> Any:
        """Runs the net. The output of the named layer (default: the last one), or a tuple for a sequence of names."""
        if outputName is None or outputName == "":
            names = [self._steps[-1].layer.name]
        else:
            names = [outputName] if isinstance(outputName, str) else list(outputName)
        wanted = [self._output(name) for name in names]
        start = time.perf_counter()
        with torch.no_grad():
            found = self._run(wanted)
        self._seconds = time.perf_counter() - start
        arrays = tuple(found[key] for key in wanted)
        return arrays if outputName is not None and not isinstance(outputName, str) else arrays[0]

    def _output(self, name: str) -> tuple[str, int]:
        """A layer and the index of its top, from its name or `<layer>.<index>`."""
        layer, dot, index = name.rpartition(".")
        if name in self._by_name:
            layer, index = name, "0"
        elif not dot or layer not in self._by_name or not index.isdecimal():
            raise CaffeError(f"the net has no layer '{name}'; getLayerNames() lists them")
        step = self._by_name[layer]
        if int(index) >= len(step.tops):
            raise CaffeError(f"layer '{layer}' has {len(step.tops)} outputs, not {int(index) + 1}")
        return layer, int(index)

    def _run(self, wanted: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Array]:
        missing = [name for name in self._net.inputs if name not in self._inputs]
        if missing:
            raise CaffeError(f"input '{missing[0]}' is not set; call setInput first")
        inputs = {name: value.to(self._net.device) for name, value in self._inputs.items()}
        last = {top: step.layer.name for step in self._steps for top in step.tops}
        tops = {key: self._by_name[key[0]].tops[key[1]] for key in wanted}
        if all(last[top] == layer for (layer, _), top in tops.items()):
            _, blobs = self._net(inputs, keep=list(tops.values()))
            return {key: blobs[top].cpu().numpy() for key, top in tops.items()}
        return self._layer_by_layer(inputs, set(wanted))

    def _layer_by_layer(
        self, blobs: dict[str, torch.Tensor], wanted: set[tuple[str, int]]
    ) -> dict[tuple[str, int], Array]:
        """Outputs that later layers overwrite: copied when they are made."""
        found: dict[tuple[str, int], Array] = {}
        for step in self._net.steps:
            if isinstance(step.layer, SourceLayer):
                continue
            made = step.layer(*(blobs[name] for name in step.bottoms))
            for index, (top, value) in enumerate(
                zip(step.tops, made if isinstance(made, tuple) else (made,), strict=True)
            ):
                blobs[top] = value
                if (step.layer.name, index) in wanted:
                    found[step.layer.name, index] = value.cpu().numpy().copy()
            if len(found) == len(wanted):
                break
        return found

    # ---- asking

    def empty(self) -> bool:
        """Whether the net has no layers."""
        return not self._steps

    def getLayerNames(self) -> tuple[str, ...]:
        """The layers' names, in the order of running."""
        return tuple(step.layer.name for step in self._steps)

    def getLayersCount(self, layerType: str) -> int:
        """How many layers are of a type."""
        return sum(step.layer.type_name == layerType for step in self._steps)

    def getLayerTypes(self) -> tuple[str, ...]:
        """The types of the net's layers, sorted."""
        return tuple(sorted({step.layer.type_name for step in self._steps}))

    def getLayerId(self, layer: str) -> int:
        """A layer's number, from 1; −1 if there is none of that name."""
        return next((i for i, step in enumerate(self._steps, start=1) if step.layer.name == layer), -1)

    def getLayer(self, layerId: int | str) -> Layer:
        """A layer by its number, from 1, or name. Raises CaffeError if there is none."""
        step = self._step(layerId)
        return Layer(step.layer.name, step.layer.type_name, [self._array(blob) for blob in step.layer.blobs])

    def getParam(self, layer: int | str, numParam: int = 0) -> Array:
        """A layer's weights (0), bias (1), and so on; a copy."""
        return self._array(self._blob(layer, numParam))

    def setParam(self, layer: int | str, numParam: int, blob: NDArray[Any]) -> None:
        """Replaces a layer's weights. Raises CaffeError for another shape."""
        target = self._blob(layer, numParam)
        if tuple(target.shape) != np.shape(blob):
            raise CaffeError(f"parameter {numParam} of layer '{layer}' is {tuple(target.shape)}, not {np.shape(blob)}")
        with torch.no_grad():
            target.copy_(torch.from_numpy(np.asarray(blob, np.float32)))

    def getUnconnectedOutLayers(self) -> tuple[int, ...]:
        """The numbers of the layers whose outputs no layer reads."""
        return tuple(self.getLayerId(name) for name in self.getUnconnectedOutLayersNames())

    def getUnconnectedOutLayersNames(self) -> tuple[str, ...]:
        """The names of the layers whose outputs no layer reads."""
        last: Mapping[str, Step] = {top: step for step in self._steps for top in step.tops}
        ends = {last[blob].layer.name for blob in self._net.outputs if blob in last}
        return tuple(name for name in self.getLayerNames() if name in ends)

    def getPerfProfile(self) -> tuple[int, tuple[float, ...]]:
        """The ticks of the last forward, and one time per layer: there are none, since layers run fused."""
        return round(self._seconds * cv2.getTickFrequency()), ()

    def _step(self, layer: int | str) -> Step:
        number = self.getLayerId(layer) if isinstance(layer, str) else layer
        if not 1 <= number <= len(self._steps):
            raise CaffeError(f"the net has no layer {layer!r}; it has 1 to {len(self._steps)}")
        return self._steps[number - 1]

    def _blob(self, layer: int | str, index: int) -> torch.Tensor:
        blobs = self._step(layer).layer.blobs
        if not 0 <= index < len(blobs):
            raise CaffeError(f"layer {layer!r} has {len(blobs)} parameters, so there is no number {index}")
        blob: torch.Tensor = blobs[index]
        return blob

    @staticmethod
    def _array(blob: torch.Tensor) -> Array:
        array: Array = blob.detach().cpu().numpy().copy()
        return array

    # ---- where it runs

    def setPreferableBackend(self, backendId: int) -> None:
        """Accepted and ignored: there is one backend, PyTorch."""

    def setPreferableTarget(self, targetId: int) -> None:
        """Moves the net to the GPU for DNN_TARGET_CUDA and DNN_TARGET_CUDA_FP16, and to the CPU for all others.

        Without a GPU, the net stays on the CPU and a warning is logged, as in OpenCV.
        """
        cuda = targetId in _CUDA_TARGETS
        if cuda and not torch.cuda.is_available():
            log.warning(log.here(), "DNN_TARGET_CUDA: there is no GPU, the net runs on the CPU")
            cuda = False
        self._net._move(torch.device("cuda" if cuda else "cpu"))

    def enableFusion(self, fusion: bool) -> None:
        """Accepted and ignored: layers are fused where that changes no output."""

    def enableWinograd(self, useWinograd: bool) -> None:
        """Accepted and ignored: PyTorch chooses how to convolve."""
