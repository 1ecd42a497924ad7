"""A net: the layers of a prototxt, wired, and the two ways of running them.

`net()` runs the whole graph under autograd: the way of the training loop, and of everything that wants one graph
(compilation, several devices, export). `forward_layers` and `backward_layers` run layer by layer as pycaffe does, so that
a user sees and changes every blob's data and diff in between. Both give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from caffe import log
from caffe.engine import layer_types as _layer_types  # noqa: F401  (registers the layer types)
from caffe.engine.blob import Blob
from caffe.engine.graph import filter_net, insert_splits
from caffe.engine.layer import TRAIN, Layer, Shape, SourceLayer, layer_class
from caffe.engine.parameters import Parameters
from caffe.engine.runtime import runtime
from caffe.errors import NetError
from caffe.proto import caffe_pb2
from caffe.proto.text import to_text

#: layers whose tops are memory of their own that no other blob shows, so that an in-place reader may overwrite them
_FRESH_TOPS = {"Convolution", "Deconvolution", "InnerProduct", "BatchNorm", "Scale", "Normalize"}


@dataclass
class Step:
    """One layer in the order of running: what it reads and writes, and what its backward has to give."""

    layer: Layer
    bottoms: list[str]
    tops: list[str]
    #: for each bottom, whether a gradient is wanted
    bottom_grad: list[bool]
    #: for each top, its weight in the loss
    loss_weights: list[float]
    need_backward: bool = True


@dataclass
class _Record:
    """What one layer's forward leaves for its backward: the tensors it read, and its outputs if autograd was recording."""

    inputs: list[Tensor] = field(default_factory=list)
    outputs: tuple[Tensor, ...] | None = None


def _as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


class Net(nn.Module):
    """A net set up for one NetState.

    `param` is a NetParameter in today's form (see caffe.proto.text.read_net). `phase`, `level` and `stages` replace its
    state where given. Raises NetError naming the layer where it cannot be built.
    """

    def __init__(self, param: Any, phase: int | None = None, level: int = 0, stages: Sequence[str] = ()) -> None:
        super().__init__()
        state = caffe_pb2.NetParameter()
        state.CopyFrom(param)
        if phase is not None:
            state.state.phase, state.state.level = phase, level
            state.state.stage.extend(stages)
        filtered = filter_net(state)
        self._log("net.cpp:58", "Initializing net from parameters: \n" + to_text(filtered))
        self.param = insert_splits(filtered)
        self.name: str = self.param.name
        self.phase: int = self.param.state.phase
        self.layers = nn.ModuleList()
        self.steps: list[Step] = []
        self.blobs: dict[str, Blob] = {}
        self.parameter_table = Parameters()
        self._records: dict[int, _Record] = {}
        self._build()
        self.inputs = [top for s in self.steps if s.layer.type_name == "Input" for top in s.tops]
        self.train(self.phase == TRAIN)
        self.to(runtime.device)
        self.parameter_table.tie()
        self._log("net.cpp:283", "Network initialization done.")

    # ---- building

    def _log(self, where: str, message: str) -> None:
        if runtime.rank == 0:
            log.info(where, message)

    def _build(self) -> None:
        needs_grad: dict[str, bool] = {}
        unread: dict[str, None] = {}
        writers: dict[str, str] = {}
        memory = 0
        names: set[str] = set()
        for param in self.param.layer:
            if param.name in names:
                raise NetError(
                    f"two layers are named '{param.name}'; rename one (a TRAIN and a TEST one may share a name)"
                )
            names.add(param.name)
            if not param.HasField("phase"):
                param.phase = self.phase
            self._log("layer_factory.hpp:77", f"Creating layer {param.name}")
            layer = layer_class(param.type, param.name)(param, self.phase)
            self._log("net.cpp:100", f"Creating Layer {param.name}")
            self._check_counts(layer)
            step = self._wire(layer, needs_grad, unread, writers)
            shapes = self._set_up(step)
            for top, shape, weight in zip(step.tops, shapes, step.loss_weights, strict=True):
                self._log("net.cpp:157", f"Top shape: {' '.join(map(str, (*shape, '')))}({math.prod(shape)})")
                if weight:
                    self._log("net.cpp:160", f"    with loss weight {weight:g}")
                if self.blobs[top].shape != shape:
                    self.blobs[top].reshape(*shape)
                if weight:
                    self.blobs[top].set_diff(torch.full(shape, weight, device=runtime.device))
                memory += math.prod(shape)
            self._log("net.cpp:165", f"Memory required for data: {memory * 4}")
            learns = self.parameter_table.append(layer, self._log)
            step.need_backward = learns or any(needs_grad[b] for b in step.bottoms)
            for top in step.tops:
                needs_grad[top] = needs_grad.get(top, False) or step.need_backward
            self.layers.append(layer)
            self.steps.append(step)
        self._mark_backward()
        self.outputs = sorted(unread)
        for output in self.outputs:
            self._log("net.cpp:270", f"This network produces output {output}")

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
                layer.fail(f"takes {limit} {what} blob(s), the prototxt gives {have}")
        if layer.same_count and len(layer.param.bottom) != len(layer.param.top):
            layer.fail(f"needs as many tops as bottoms: {len(layer.param.bottom)} bottoms, {len(layer.param.top)} tops")
        if len(layer.param.propagate_down) not in (0, len(layer.param.bottom)):
            layer.fail(
                f"propagate_down must be given for none or each of its {len(layer.param.bottom)} bottoms, "
                f"not {len(layer.param.propagate_down)}"
            )

    def _wire(
        self, layer: Layer, needs_grad: dict[str, bool], unread: dict[str, None], writers: dict[str, str]
    ) -> Step:
        param = layer.param
        bottom_grad = []
        for j, bottom in enumerate(param.bottom):
            if bottom not in unread:
                raise NetError(f"Unknown bottom blob '{bottom}' (layer '{layer.name}', bottom index {j})")
            del unread[bottom]
            self._log("net.cpp:434", f"{layer.name} <- {bottom}")
            wanted = param.propagate_down[j] if len(param.propagate_down) else needs_grad[bottom]
            # labels and priors get none, whatever the prototxt says
            bottom_grad.append(wanted and layer.takes_gradient(j))
        layer.in_place = bool(
            param.bottom and param.top and param.top[0] == param.bottom[0] and writers[param.bottom[0]] in _FRESH_TOPS
        )
        tops = list(param.top)
        for j, top in enumerate(tops):
            if j < len(param.bottom) and top == param.bottom[j]:
                self._log("net.cpp:395", f"{layer.name} -> {top} (in-place)")
            elif top in self.blobs:
                raise NetError(
                    f"Top blob '{top}' produced by multiple sources: layer '{layer.name}' writes it again without "
                    "reading it (name its top differently, or make it an in-place layer)"
                )
            else:
                self._log("net.cpp:408", f"{layer.name} -> {top}")
                self.blobs[top] = Blob()
            unread[top] = None
            writers[top] = layer.type_name
        if layer.auto_tops:
            while len(tops) < layer.tops[0]:
                # an unnamed top: it counts as a loss, but no other layer can read it
                self._log("net.cpp:408", f"{layer.name} -> (automatic)")
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
        step.layer.setup(bottom)
        shapes = [tuple(int(d) for d in s) for s in step.layer.reshape(bottom)]
        assert len(shapes) == len(step.tops), f"{step.layer.type_name}: {len(shapes)} shapes for {len(step.tops)} tops"
        self._log("net.cpp:150", f"Setting up {step.layer.name}")
        return shapes

    def _mark_backward(self) -> None:
        """Which layers and bottoms backward reaches: those between a parameter (or an asked-for blob) and a loss."""
        under_loss: set[str] = set()
        skipped: set[str] = set()
        for step in reversed(self.steps):
            contributes = any(w or top in under_loss for w, top in zip(step.loss_weights, step.tops, strict=True))
            if step.need_backward and step.tops and all(top in skipped for top in step.tops):
                step.need_backward = False
                step.bottom_grad = [False] * len(step.bottoms)
            step.need_backward &= contributes
            verb = "needs" if step.need_backward else "does not need"
            self._log(
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
                    self.parameter_table.set_requires_grad(step.layer, blob, True)

    # ---- what it consists of

    @property
    def layer_names(self) -> list[str]:
        return [step.layer.name for step in self.steps]

    @property
    def blob_names(self) -> list[str]:
        return list(self.blobs)

    @property
    def blob_loss_weights(self) -> dict[str, float]:
        """Each blob's weight in the loss, 0 for those that are no loss."""
        weights = dict.fromkeys(self.blobs, 0.0)
        for step in self.steps:
            weights.update(zip(step.tops, step.loss_weights, strict=True))
        return weights

    @property
    def learnable_params(self) -> list[nn.Parameter]:
        """The parameters in Caffe's order, a shared one once."""
        return self.parameter_table.learnable

    @property
    def params_lr(self) -> list[float]:
        return self.parameter_table.lr_mult

    @property
    def params_weight_decay(self) -> list[float]:
        return self.parameter_table.decay_mult

    @property
    def source_layers(self) -> list[SourceLayer]:
        return [step.layer for step in self.steps if isinstance(step.layer, SourceLayer)]

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.parameters()), runtime.device)

    def close(self) -> None:
        """Ends the data layers' worker processes."""
        for layer in self.source_layers:
            layer.close()

    # ---- the whole graph

    def next_batch(self) -> dict[str, Tensor]:
        """What the data layers bring next, by blob name, on the net's device. Input blobs bring what they hold."""
        batch: dict[str, Tensor] = {}
        for step in self.steps:
            if isinstance(step.layer, SourceLayer):
                batch.update(zip(step.tops, self._source(step), strict=True))
        return batch

    def _source(self, step: Step) -> list[Tensor]:
        if step.layer.type_name == "Input":
            return [self.blobs[top].data_tensor() for top in step.tops]
        return [t.to(self.device, non_blocking=True) for t in _as_tuple(step.layer())]

    def forward(
        self, batch: Mapping[str, Tensor] | None = None, keep: Iterable[str] = ()
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Runs the whole net on a batch (None: the next one). Returns the weighted loss and the blobs nobody read.

        The loss is a scalar, zero where the net has none; call `backward()` on it. `keep` names further blobs to return.
        """
        if batch is None:
            batch = self.next_batch()
        kept = set(keep)
        blobs = dict(batch)
        result: dict[str, Tensor] = {}
        loss: Tensor | None = None
        for step in self.steps:
            if isinstance(step.layer, SourceLayer):
                outputs = tuple(blobs[top] for top in step.tops)
            else:
                inputs = [blobs.pop(b) for b in step.bottoms]
                outputs = self._run(step, inputs)
            for top, output, weight in zip(step.tops, outputs, step.loss_weights, strict=True):
                blobs[top] = output
                if top in kept:
                    result[top] = output
                if weight:
                    term = output.sum() * weight
                    loss = term if loss is None else loss + term
        result.update(blobs)
        for name, value in result.items():
            self.blobs[name].set_data(value)
        return torch.zeros((), device=self.device) if loss is None else loss, result

    def _run(self, step: Step, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        if not step.need_backward and torch.is_grad_enabled():
            with torch.no_grad():
                return _as_tuple(step.layer(*inputs))
        if torch.is_grad_enabled():
            inputs = [x if wanted else x.detach() for x, wanted in zip(inputs, step.bottom_grad, strict=True)]
        return _as_tuple(step.layer(*inputs))

    # ---- layer by layer

    def follow_mode(self) -> None:
        """Moves the net to the device that set_mode_cpu or set_mode_gpu has chosen since it was made."""
        device = runtime.device
        if self.device != device:
            self.to(device)
            self.parameter_table.tie()
            for blob in self.blobs.values():
                blob.to(device)
            self._records.clear()

    def forward_layers(self, start: int = 0, end: int | None = None) -> float:
        """Runs layers `start` to `end` (inclusive; None: the last), reading and writing blobs. Returns their loss."""
        loss = 0.0
        for i in range(start, len(self.steps) if end is None else end + 1):
            step = self.steps[i]
            if isinstance(step.layer, SourceLayer):
                outputs = tuple(self._source(step))
            else:
                self._upload_parameters(step.layer)
                inputs = [self.blobs[b].data_tensor() for b in step.bottoms]
                if self.phase == TRAIN and step.need_backward:
                    outputs = self._recorded(i, inputs)
                else:
                    with torch.no_grad():
                        outputs = _as_tuple(step.layer(*inputs))
                    self._records[i] = _Record(inputs)
            for top, output, weight in zip(step.tops, outputs, step.loss_weights, strict=True):
                blob = self.blobs[top]
                blob.set_data(output)
                if weight:
                    if not blob.has_diff():
                        blob.set_diff(torch.full_like(output, weight))
                    loss += weight * float(output.detach().sum())
        return loss

    def _recorded(self, index: int, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        """Runs one layer so that its backward can follow: from leaves of its own, so that it stays a layer's."""
        step = self.steps[index]
        leaves = [
            x.detach().requires_grad_(wanted and x.is_floating_point())
            for x, wanted in zip(inputs, step.bottom_grad, strict=True)
        ]
        with torch.enable_grad():
            outputs = _as_tuple(step.layer(*leaves))
        self._records[index] = _Record(leaves, outputs)
        return outputs

    def backward_layers(self, start: int | None = None, end: int = 0) -> None:
        """Runs the backward of layers `start` (None: the last) down to `end`, from their tops' diffs.

        Bottoms' diffs are written, parameters' diffs added to. In the TEST phase, where forward keeps no graph, each
        layer's forward is run again on what it had read.
        """
        last = len(self.steps) - 1 if start is None else start
        for i in range(last, end - 1, -1):
            step = self.steps[i]
            if not step.need_backward or isinstance(step.layer, SourceLayer):
                continue
            if i not in self._records:
                raise NetError(f"layer '{step.layer.name}': backward needs a forward first")
            if self._records[i].outputs is None:
                self._recorded(i, self._records[i].inputs)
            self._backward_step(step, self._records[i])

    def _backward_step(self, step: Step, record: _Record) -> None:
        assert record.outputs is not None
        parameters = [p for p in step.layer.blobs if p.requires_grad]
        wanted = [x for x in record.inputs if x.requires_grad]
        outputs, diffs = [], []
        for top, output in zip(step.tops, record.outputs, strict=True):
            if output.requires_grad:
                outputs.append(output)
                diffs.append(self.blobs[top].diff_tensor().to(output.dtype).reshape(output.shape))
        if not (parameters or wanted) or not outputs:
            return
        grads = torch.autograd.grad(
            outputs, [*wanted, *parameters], grad_outputs=diffs, allow_unused=True, retain_graph=True
        )
        by_leaf = dict(zip(map(id, wanted), grads, strict=False))
        for bottom, leaf in zip(step.bottoms, record.inputs, strict=True):
            if leaf.requires_grad:
                grad = by_leaf[id(leaf)]
                self.blobs[bottom].set_diff(torch.zeros_like(leaf) if grad is None else grad.contiguous())
        for parameter, grad in zip(parameters, grads[len(wanted) :], strict=True):
            if grad is not None:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad.add_(grad)

    def _upload_parameters(self, layer: Layer) -> None:
        for blob in self.parameter_table.views(layer):
            blob.upload()

    def reshape(self) -> None:
        """Gives every blob the shape that follows from the inputs' shapes as they are now."""
        for step in self.steps:
            if step.layer.type_name == "Input":
                continue
            shapes = step.layer.reshape([self.blobs[b].shape for b in step.bottoms])
            for top, shape in zip(step.tops, shapes, strict=True):
                if self.blobs[top].shape != tuple(shape):
                    self.blobs[top].reshape(*shape)

    def clear_param_diffs(self) -> None:
        """Sets every parameter's diff to zero."""
        for parameter in self.learnable_params:
            if parameter.grad is not None:
                parameter.grad.zero_()
