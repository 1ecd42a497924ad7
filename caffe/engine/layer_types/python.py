"""The Python layer: a user's class, found by module and name, run as a layer of the net."""

from __future__ import annotations

import enum
import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe import log
from caffe.engine.blob import Blob, BlobVec
from caffe.engine.layer import Layer, Shape, register
from caffe.errors import shown
from caffe.runtime import runtime


class Phase(enum.IntEnum):
    """TRAIN or TEST: the number 0 or 1 as in pycaffe; its text is the name, which py-faster-rcnn's layers expect."""

    TRAIN = 0
    TEST = 1

    def __str__(self) -> str:
        return self.name


class PythonLayerBase:
    """What a user's layer class derives from, as `caffe.Layer`: setup, reshape, forward and backward on lists of blobs.

    `self.param_str`, `self.phase` and `self.blobs` are available from `setup` on. `bottom[i].data` and `top[i].diff`
    are numpy arrays; `top[i].reshape(...)` sets the shapes. `param_str_` is `param_str` under its older name, which
    py-faster-rcnn's layers use.
    """

    param_str: str = ""
    param_str_: str = ""
    phase: Phase = Phase.TRAIN
    blobs: BlobVec
    type = "Python"

    def __init__(self, param: Any = None) -> None:
        pass

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no setup(self, bottom, top)")

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no reshape(self, bottom, top)")

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no forward(self, bottom, top)")

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no backward(self, top, propagate_down, bottom)")


class _Run(torch.autograd.Function):
    """The user's forward and backward as one autograd node. Parameters' diffs are written by the user's backward."""

    @staticmethod
    def forward(ctx: Any, layer: Python, num_bottoms: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.layer, ctx.num_bottoms = layer, num_bottoms
        ctx.set_materialize_grads(False)
        return layer.run_forward(tensors[:num_bottoms])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        wanted = list(ctx.needs_input_grad[2 : 2 + ctx.num_bottoms])
        bottoms = ctx.layer.run_backward(grads, wanted)
        return (None, None, *bottoms, *[None] * (len(ctx.needs_input_grad) - 2 - ctx.num_bottoms))


@register
class Python(Layer):
    """`type: "Python"  python_param { module: … layer: … param_str: … }`. Runs on the CPU; a GPU net's blobs are copied."""

    type_name = "Python"
    bottoms = (0, None)
    tops = (0, None)

    def graph_obstacle(self) -> str:
        return "runs the user's code"

    def setup(self, bottom: Sequence[Shape]) -> None:
        settings = self.param.python_param
        if not runtime.python_layers:
            self.fail(
                f"would run the Python module '{shown(settings.module)}'. If you trust it, give -allow_python; to look at "
                "the rest of the net, remove the layer"
            )
        if not all(part.isidentifier() for part in settings.module.split(".")):
            self.fail(f"python_param's module is '{shown(settings.module)}', which is not the name of a Python module")
        try:
            module = importlib.import_module(settings.module)
        except ModuleNotFoundError as error:
            # a module that the user's own module imports is missing: the user's error
            if error.name is None or not f"{settings.module}.".startswith(f"{error.name}."):
                raise
            package, dot, _ = settings.module.partition(".")
            what = f"the directory that has the package '{package}'" if dot else f"the directory of {package}.py"
            self.fail(f"cannot import module '{settings.module}'; put {what} on PYTHONPATH")
        if not hasattr(module, settings.layer):
            self.fail(f"module '{settings.module}' has no class '{settings.layer}'")
        if runtime.rank == 0:
            where = getattr(module, "__file__", None) or "built in"
            log.info(
                log.here(), f"Layer {self.name} runs {settings.layer} of the Python module {settings.module} ({where})"
            )
        user_class = getattr(module, settings.layer)
        if not (isinstance(user_class, type) and issubclass(user_class, PythonLayerBase)):
            self.fail(f"'{settings.module}.{settings.layer}' must be a class derived from caffe.Layer")
        self.user = user_class(self.param)
        self.user.param_str = self.user.param_str_ = settings.param_str
        self.user.phase = Phase(self.phase)
        self.user.blobs = BlobVec(self)
        self.bottom_blobs = [Blob(s) for s in bottom]
        self.top_blobs = [Blob() for _ in range(self.num_tops)]
        self.user.setup(self.bottom_blobs, self.top_blobs)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        for blob, shape in zip(self.bottom_blobs, bottom, strict=True):
            if blob.shape != shape:
                blob.reshape(*shape)
        self.user.reshape(self.bottom_blobs, self.top_blobs)
        return [top.shape for top in self.top_blobs]

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        tops: tuple[Tensor, ...] = _Run.apply(self, len(bottom), *bottom, *self.blobs)
        return tops

    def run_forward(self, bottom: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Calls the user's forward with the bottoms, and returns copies of the tops that it wrote."""
        for blob, tensor in zip(self.bottom_blobs, bottom, strict=True):
            blob.set_data(tensor.to("cpu", torch.float32))
        self.user.reshape(self.bottom_blobs, self.top_blobs)
        self.user.forward(self.bottom_blobs, self.top_blobs)
        device = bottom[0].device if bottom else torch.device("cpu")
        return tuple(top.data_tensor().clone().to(device) for top in self.top_blobs)

    def run_backward(self, grads: Sequence[Tensor | None], wanted: list[bool]) -> list[Tensor | None]:
        """Calls the user's backward with the tops' diffs, and returns copies of the bottoms' diffs that it wrote."""
        device = next((g.device for g in grads if g is not None), torch.device("cpu"))
        for top, grad in zip(self.top_blobs, grads, strict=True):
            top.set_diff(torch.zeros(top.shape) if grad is None else grad.to("cpu").contiguous())
        for blob in self.bottom_blobs:
            blob.set_diff(torch.zeros(blob.shape))
        self.user.backward(self.top_blobs, wanted, self.bottom_blobs)
        return [
            b.diff_tensor().clone().to(device) if w else None for b, w in zip(self.bottom_blobs, wanted, strict=True)
        ]
