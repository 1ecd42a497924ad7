"""A net's learned parameters: which are shared under one name, and their multipliers for rate and decay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from caffe.engine.blob import BlobVec, ParameterBlob
from caffe.engine.layer import Layer
from caffe.errors import NetError
from caffe.proto import caffe_pb2


@dataclass
class _Owner:
    layer: Layer
    index: int
    position: int  # in the list of learnable parameters


class Parameters:
    """The parameters of a net in the order of its layers. A name in several ParamSpecs makes them one."""

    def __init__(self) -> None:
        self.learnable: list[nn.Parameter] = []
        self.lr_mult: list[float] = []
        self.decay_mult: list[float] = []
        self._has_lr: list[bool] = []
        self._has_decay: list[bool] = []
        self._owners: dict[str, _Owner] = {}
        self._views: dict[Layer, BlobVec] = {}
        #: shared with another shape (PERMISSIVE): (the sharing one, the owner's)
        self._reshaped: list[tuple[nn.Parameter, nn.Parameter]] = []
        #: (layer, blob index) of those that another layer owns
        self.borrowed: set[tuple[Layer, int]] = set()

    def append(self, layer: Layer, log: Callable[[str, str], None]) -> bool:
        """Adds a layer's blobs; true if one of them learns (lr_mult is not 0)."""
        specs = list(layer.param.param)
        if len(specs) > len(layer.blobs):
            raise NetError(
                f"layer '{layer.name}': {len(specs)} param entries are given, but a {layer.type_name} layer set up this "
                f"way has {len(layer.blobs)} parameter(s)"
            )
        learns = False
        for i in range(len(layer.blobs)):
            spec = specs[i] if i < len(specs) else caffe_pb2.ParamSpec()
            if spec.name and spec.name in self._owners:
                self._share(layer, i, spec, log)
            else:
                if spec.name:
                    self._owners[spec.name] = _Owner(layer, i, len(self.learnable))
                self.learnable.append(layer.blobs[i])
                self.lr_mult.append(spec.lr_mult)
                self.decay_mult.append(spec.decay_mult)
                self._has_lr.append(spec.HasField("lr_mult"))
                self._has_decay.append(spec.HasField("decay_mult"))
            if spec.lr_mult == 0:
                layer.blobs[i].requires_grad_(False)
            learns |= layer.blobs[i].requires_grad
        return learns

    def _share(self, layer: Layer, index: int, spec: caffe_pb2.ParamSpec, log: Callable[[str, str], None]) -> None:
        owner = self._owners[spec.name]
        mine, theirs = layer.blobs[index], owner.layer.blobs[owner.index]
        log(
            "net.cpp:507",
            f"Sharing parameters '{spec.name}' owned by layer '{owner.layer.name}', param index {owner.index}",
        )
        permissive = spec.share_mode == caffe_pb2.ParamSpec.PERMISSIVE
        if (mine.numel() != theirs.numel()) if permissive else (mine.shape != theirs.shape):
            raise NetError(
                f"Cannot share param '{spec.name}' owned by layer '{owner.layer.name}' with layer '{layer.name}'; "
                f"{'count' if permissive else 'shape'} mismatch. Owner layer param shape is {tuple(theirs.shape)}; "
                f"sharing layer shape is {tuple(mine.shape)}"
            )
        if mine.shape == theirs.shape:
            layer.blobs[index] = theirs
        else:
            self._reshaped.append((mine, theirs))
        self.borrowed.add((layer, index))
        for what, has, values in (
            ("lr_mult", self._has_lr, self.lr_mult),
            ("decay_mult", self._has_decay, self.decay_mult),
        ):
            if spec.HasField(what):
                value = getattr(spec, what)
                if has[owner.position] and values[owner.position] != value:
                    raise NetError(f"layer '{layer.name}': Shared param '{spec.name}' has mismatched {what}")
                has[owner.position], values[owner.position] = True, value

    def tie(self) -> None:
        """Gives parameters shared with another shape their owner's memory. Called when they are on their device."""
        for mine, theirs in self._reshaped:
            mine.data = theirs.data.view(mine.shape)
            if theirs.grad is None:
                theirs.grad = torch.zeros_like(theirs)
            mine.grad = theirs.grad.view(mine.shape)

    def set_requires_grad(self, layer: Layer, parameter: nn.Parameter, value: bool) -> None:
        """For force_backward: parameters with lr_mult 0 get a diff too, statistics (BatchNorm's) never do."""
        if layer.learns:
            parameter.requires_grad_(value)

    def views(self, layer: Layer) -> BlobVec:
        """A layer's parameters as pycaffe's blobs, always the same objects."""
        views = self._views.setdefault(layer, BlobVec(layer))
        if len(views) != len(layer.blobs) or any(
            not isinstance(v, ParameterBlob) or v.parameter is not p for v, p in zip(views, layer.blobs, strict=True)
        ):
            views[:] = [ParameterBlob(p) for p in layer.blobs]
        return views
