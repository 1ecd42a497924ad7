"""How the layers of a net are connected: blobs by name, gradients where needed, shared parameters (Caffe's net.cpp)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from caffe import log
from caffe.engine import layer_types as _layer_types  # noqa: F401  (registers the layer types)
from caffe.engine.blob import Blob
from caffe.engine.layer import TRAIN, Layer, Shape, check_types, layer_class
from caffe.engine.memory import Memory
from caffe.engine.parameters import Parameters
from caffe.errors import NetError
from caffe.runtime import runtime


@dataclass
class Step:
    """One layer in the order of running: what it reads and writes, and what its backward has to compute."""

    layer: Layer
    bottoms: list[str]
    tops: list[str]
    #: for each bottom, whether a gradient is needed
    bottom_grad: list[bool]
    #: for each top, its weight in the loss
    loss_weights: list[float]
    need_backward: bool = True


def log_root(where: str, message: str) -> None:
    """Logs only on rank 0."""
    if runtime.rank == 0:
        log.info(where, message)


class Wiring:
    """The layers of a NetParameter (filtered, with splits), set up in order: the steps to run, the blobs between them."""

    def __init__(self, param: Any) -> None:
        self.param = param
        self.steps: list[Step] = []
        self.blobs: dict[str, Blob] = {}
        self.parameters = Parameters()
        #: blobs that no layer reads yet, in the order in which they were written
        self._unread: dict[str, None] = {}
        #: the layer that wrote each blob last
        self._writers: dict[str, Layer] = {}
        self._needs_grad: dict[str, bool] = {}
        self._memory = Memory()
        self._add_layers()
        self._mark_backward()
        if self.param.state.phase == TRAIN:
            self._memory.backward(self.steps, {name: blob.shape for name, blob in self.blobs.items()})
        self.outputs = sorted(self._unread)
        for output in self.outputs:
            log_root("net.cpp:270", f"This network produces output {output}")

    def _add_layers(self) -> None:
        memory = 0
        check_types((param.name, param.type) for param in self.param.layer)
        for param in self.param.layer:
            if not param.HasField("phase"):
                param.phase = self.param.state.phase
            log_root("layer_factory.hpp:77", f"Creating layer {param.name}")
            layer = layer_class(param.type, param.name)(param, self.param.state.phase)
            log_root("net.cpp:100", f"Creating Layer {param.name}")
            self._check_counts(layer)
            step = self._wire(layer)
            shapes = self._set_up(step)
            for top, shape, weight in zip(step.tops, shapes, step.loss_weights, strict=True):
                log_root("net.cpp:157", f"Top shape: {' '.join(map(str, (*shape, '')))}({math.prod(shape)})")
                if weight:
                    log_root("net.cpp:160", f"    with loss weight {weight:g}")
                if self.blobs[top].shape != shape:
                    self.blobs[top].reshape(*shape)
                if weight:
                    self.blobs[top].set_diff(torch.full(shape, weight, device=runtime.device))
                memory += math.prod(shape)
            log_root("net.cpp:165", f"Memory required for data: {memory * 4}")
            learns = self.parameters.append(layer, log_root)
            step.need_backward = learns or any(self._needs_grad[b] for b in step.bottoms)
            for top in step.tops:
                self._needs_grad[top] = self._needs_grad.get(top, False) or step.need_backward
            self.steps.append(step)

    def _check_counts(self, layer: Layer) -> None:
        for what, have, (fewest, most) in (
            ("bottom", len(layer.param.bottom), layer.bottoms),
            ("top", len(layer.param.top), layer.tops),
        ):
            if what == "top" and layer.auto_tops and have < fewest:
                continue
            if have < fewest or (most is not None and have > most):
                limit = (
                    str(fewest) if fewest == most else f"at least {fewest}" if most is None else f"{fewest} to {most}"
                )
                layer.fail(f"takes {limit} {what} blob(s), but the prototxt gives {have}")
        if layer.same_count and len(layer.param.bottom) != len(layer.param.top):
            layer.fail(f"needs as many tops as bottoms: {len(layer.param.bottom)} bottoms, {len(layer.param.top)} tops")
        if len(layer.param.propagate_down) not in (0, len(layer.param.bottom)):
            layer.fail(
                f"propagate_down must be given for none or each of its {len(layer.param.bottom)} bottoms, "
                f"not {len(layer.param.propagate_down)}"
            )

    def _wire(self, layer: Layer) -> Step:
        param = layer.param
        bottom_grad = []
        for j, bottom in enumerate(param.bottom):
            if bottom not in self._unread:
                raise NetError(f"Unknown bottom blob '{bottom}' (layer '{layer.name}', bottom index {j})")
            del self._unread[bottom]
            log_root("net.cpp:434", f"{layer.name} <- {bottom}")
            wanted = param.propagate_down[j] if len(param.propagate_down) else self._needs_grad[bottom]
            # labels and priors get no gradient, whatever the prototxt says
            bottom_grad.append(wanted and layer.takes_gradient(j))
        layer.in_place = bool(
            param.bottom and param.top and param.top[0] == param.bottom[0] and self._writers[param.bottom[0]].fresh_tops
        )
        tops = list(param.top)
        for j, top in enumerate(tops):
            if j < len(param.bottom) and top == param.bottom[j]:
                log_root("net.cpp:395", f"{layer.name} -> {top} (in-place)")
            elif top in self.blobs:
                raise NetError(
                    f"Top blob '{top}' produced by multiple sources: layer '{layer.name}' writes it again without "
                    "reading it (give its top another name, or make it an in-place layer)"
                )
            else:
                log_root("net.cpp:408", f"{layer.name} -> {top}")
                self.blobs[top] = Blob()
            self._unread[top] = None
            self._writers[top] = layer
        if layer.auto_tops:
            while len(tops) < layer.tops[0]:
                # an unnamed top: it is a loss, but no other layer can read it
                log_root("net.cpp:408", f"{layer.name} -> (automatic)")
                name = "(automatic)" if "(automatic)" not in self.blobs else f"(automatic) {layer.name} {len(tops)}"
                self.blobs[name] = Blob()
                tops.append(name)
        layer.num_tops = len(tops)
        if len(param.loss_weight) not in (0, len(tops)):
            layer.fail(
                f"loss_weight must be given for none or each of its {len(tops)} tops, not {len(param.loss_weight)}"
            )
        weights = list(param.loss_weight) or [1.0 if layer.is_loss and j == 0 else 0.0 for j in range(len(tops))]
        return Step(layer, list(param.bottom), tops, bottom_grad, weights)

    def _set_up(self, step: Step) -> list[Shape]:
        bottom = [self.blobs[b].shape for b in step.bottoms]
        for name, shape in zip(step.bottoms, bottom, strict=True):
            if 0 in shape and not step.layer.passes_through:
                step.layer.fail(f"its bottom '{name}' is {'×'.join(map(str, shape))}: it has no values")
            if len(shape) < step.layer.least_axes:
                step.layer.fail(f"needs bottoms with {step.layer.least_axes} or more axes; '{name}' has {len(shape)}")
        step.layer.memory = self._memory
        step.layer.setup(bottom)
        shapes = [tuple(int(d) for d in s) for s in step.layer.reshape(bottom)]
        self._memory.blobs(step.layer, bottom, shapes)
        for name, top, before, after in zip(step.bottoms, step.tops, bottom, shapes, strict=False):
            if name == top and math.prod(before) != math.prod(after):
                step.layer.fail(
                    f"cannot work in place on '{name}': its top has another size; give the top another name"
                )
        assert len(shapes) == len(step.tops), f"{step.layer.type_name}: {len(shapes)} shapes for {len(step.tops)} tops"
        log_root("net.cpp:150", f"Setting up {step.layer.name}")
        return shapes

    def _mark_backward(self) -> None:
        """Which layers and bottoms backward reaches: those between a parameter (or a requested blob) and a loss."""
        under_loss: set[str] = set()
        skipped: set[str] = set()
        for step in reversed(self.steps):
            contributes = any(w or top in under_loss for w, top in zip(step.loss_weights, step.tops, strict=True))
            if step.need_backward and step.tops and all(top in skipped for top in step.tops):
                step.need_backward = False
                step.bottom_grad = [False] * len(step.bottoms)
            step.need_backward &= contributes
            verb = "needs" if step.need_backward else "does not need"
            log_root(
                "net.cpp:226" if step.need_backward else "net.cpp:228",
                f"{step.layer.name} {verb} backward computation.",
            )
            for j, bottom in enumerate(step.bottoms):
                if contributes:
                    under_loss.add(bottom)
                else:
                    step.bottom_grad[j] = False
                if not step.bottom_grad[j]:
                    skipped.add(bottom)
        if self.param.force_backward:
            for step in self.steps:
                step.need_backward = True
                step.bottom_grad = [step.layer.takes_gradient(j) for j in range(len(step.bottoms))]
                for blob in step.layer.blobs:
                    self.parameters.set_requires_grad(step.layer, blob, True)
