"""A net: the connected layers of a prototxt, and the two ways of running them.

`net()` runs the whole graph under autograd, for the training loop and everything else that needs one graph
(compilation, several devices, export). `forward_layers` and `backward_layers` run layer by layer as pycaffe does, so
that a user sees and changes every blob's data and diff in between. Both give the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from caffe.engine import acceleration
from caffe.engine.constants import Remembered
from caffe.engine.cuda_graph import GraphedForward, compilable_steps
from caffe.engine.fused import fuse_on
from caffe.engine.layer import TRAIN, Layer, SourceLayer
from caffe.engine.net_rules import filter_net, insert_splits
from caffe.engine.wiring import Step, Wiring, log_root
from caffe.proto import caffe_pb2
from caffe.proto.text import to_text
from caffe.runtime import runtime


@dataclass
class _Record:
    """What one layer's forward keeps for its backward: the tensors it read, and its outputs if autograd recorded."""

    inputs: list[Tensor] = field(default_factory=list)
    outputs: tuple[Tensor, ...] | None = None


def _as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def _is_input(layer: Layer) -> bool:
    return isinstance(layer, SourceLayer) and layer.is_input


class Net(nn.Module):
    """A net set up for one NetState.

    `param` is a NetParameter in the current format (see caffe.proto.text.read_net). `phase`, `level` and `stages`
    replace its state if given. Raises NetError, which names the layer, if it cannot be built.
    """

    def __init__(self, param: Any, phase: int | None = None, level: int = 0, stages: Sequence[str] = ()) -> None:
        super().__init__()
        with_state: Any = caffe_pb2.NetParameter()
        with_state.CopyFrom(param)
        if phase is not None:
            with_state.state.phase, with_state.state.level = phase, level
            with_state.state.stage.extend(stages)
        filtered = filter_net(with_state)
        log_root("net.cpp:58", "Initializing net from parameters: \n" + to_text(filtered))
        self.param = insert_splits(filtered, with_state)
        self.name: str = self.param.name
        self.phase = int(self.param.state.phase)
        wiring = Wiring(self.param)
        self.steps, self.blobs, self.outputs = wiring.steps, wiring.blobs, wiring.outputs
        self.parameter_table = wiring.parameters
        self.layers = nn.ModuleList(step.layer for step in self.steps)
        self._records: dict[int, _Record] = {}
        self.blob_names = list(self.blobs)
        self.layer_names = [step.layer.name for step in self.steps]
        self.source_layers = [step.layer for step in self.steps if isinstance(step.layer, SourceLayer)]
        self.inputs = [top for s in self.steps if _is_input(s.layer) for top in s.tops]
        #: each blob's weight in the loss, 0 for those that are no loss
        self.blob_loss_weights = dict.fromkeys(self.blobs, 0.0)
        for step in self.steps:
            self.blob_loss_weights.update(zip(step.tops, step.loss_weights, strict=True))
        for step in self.steps:
            step.layer.check_data(self.source_layers)
        self.train(self.phase == TRAIN)
        self._move(runtime.device)
        log_root("net.cpp:283", "Network initialization done.")

    def _move(self, device: torch.device) -> None:
        self.to(device)
        if device.type == "cuda":
            acceleration.apply()
            self.to(memory_format=acceleration.memory_format(device))  # type: ignore[call-overload]  # absent from its overloads
        self.parameter_table.tie()
        #: the steps of a pass without gradients: `steps`, or fewer with the same result, which may leave out blobs
        self.inference_steps = fuse_on(device, self.steps)
        self._compiles = runtime.compile
        self._run_head = acceleration.compiled(self._run_first) if runtime.compile else None
        self._cuda_graph: GraphedForward | None = None

    # ---- contents

    @property
    def learnable_params(self) -> list[nn.Parameter]:
        """The parameters in Caffe's order, shared ones only once."""
        return self.parameter_table.learnable

    @property
    def params_lr(self) -> list[float]:
        """The lr_mult of each of `learnable_params`."""
        return self.parameter_table.lr_mult

    @property
    def params_weight_decay(self) -> list[float]:
        """The decay_mult of each of `learnable_params`."""
        return self.parameter_table.decay_mult

    @property
    def device(self) -> torch.device:
        """Where the net runs: the device of its parameters; without any, the one that was chosen for nets."""
        parameters = self.learnable_params
        return parameters[0].device if parameters else runtime.device

    def close(self) -> None:
        """Ends the data layers' worker processes."""
        for layer in self.source_layers:
            layer.close()

    # ---- the whole graph

    def next_batch(self) -> dict[str, Tensor]:
        """The data layers' next batch, by blob name, on the net's device; for input blobs, their data."""
        batch: dict[str, Tensor] = {}
        for step in self.steps:
            if isinstance(step.layer, SourceLayer):
                batch.update(zip(step.tops, self._source(step), strict=True))
        return batch

    def _source(self, step: Step) -> list[Tensor]:
        if _is_input(step.layer):
            return [self.blobs[top].data_tensor() for top in step.tops]
        batch = [t.to(self.device, non_blocking=True) for t in _as_tuple(step.layer())]
        form = acceleration.memory_format(self.device)
        return [t.contiguous(memory_format=form) if t.dim() == 4 else t for t in batch]

    def forward(
        self, batch: Mapping[str, Tensor] | None = None, keep: Iterable[str] = ()
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Runs the whole net on a batch (None: the next one). Returns the weighted loss and the blobs that no layer
        reads.

        The loss is a scalar, zero if the net has none; call `backward()` on it. `keep` names further blobs to return.
        """
        if batch is None:
            batch = self.next_batch()
        graphed = self._graphed_forward()
        if graphed is not None:
            loss, result = graphed(batch, frozenset(keep))
        else:
            with acceleration.autocast(self.device):
                loss, result = self.run_all(dict(batch), frozenset(keep))
        for name, value in result.items():
            self.blobs[name].set_data(value)
        return loss, result

    def _graphed_forward(self) -> GraphedForward | None:
        """Runs a TEST net as a CUDA graph; None if that was not asked for."""
        if not runtime.graph or self.phase == TRAIN or torch.is_grad_enabled() or self.device.type != "cuda":
            return None
        if self._cuda_graph is None:
            self._cuda_graph = GraphedForward(self)
        return self._cuda_graph

    def makes(self, blobs: frozenset[str]) -> bool:
        """Whether `inference_steps` make all of these blobs, for the caller. If not, a pass that keeps them runs `steps`."""
        return not blobs or blobs.issubset(
            top for step in self.inference_steps if not isinstance(step.layer, Remembered) for top in step.tops
        )

    def run_all(self, blobs: dict[str, Tensor], keep: frozenset[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """The whole net as a function of its source blobs."""
        plain = torch.is_grad_enabled() or not self.makes(keep)
        steps = self.steps if plain else self.inference_steps
        # A step that compilation must leave to Python would split the loop over all steps, so it and the rest run
        # afterwards.
        count = compilable_steps(steps) if self._compiles else len(steps)
        # not an attribute that is a method of its own net: such a net would be dropped only by garbage collection
        run_first = self._run_head or self._run_first
        loss, result, blobs = run_first(blobs, keep, count, plain)
        if count < len(steps):
            more = self.run_steps(steps[count:], blobs, keep, result)
            loss = loss if more is None else more if loss is None else loss + more
        result.update(blobs)
        return torch.zeros((), device=self.device) if loss is None else loss, result

    def _run_first(
        self, blobs: dict[str, Tensor], keep: frozenset[str], count: int, plain: bool
    ) -> tuple[Tensor | None, dict[str, Tensor], dict[str, Tensor]]:
        """The first `count` steps, which are compiled: their loss, the blobs in `keep`, and those that no step reads.

        plain: of `steps`, not of `inference_steps`.
        """
        result: dict[str, Tensor] = {}
        steps = self.steps if plain else self.inference_steps
        loss = self.run_steps(steps[:count], blobs, keep, result)
        return loss, result, blobs

    def run_steps(
        self, steps: Sequence[Step], blobs: dict[str, Tensor], keep: frozenset[str], result: dict[str, Tensor]
    ) -> Tensor | None:
        """Runs some of the steps on `blobs`, which then holds the blobs that no step reads; returns their loss, if any.

        Blobs named in `keep` are put into `result` too.
        """
        loss: Tensor | None = None
        for step in steps:
            if isinstance(step.layer, SourceLayer):
                outputs = tuple(blobs[top] for top in step.tops)
            else:
                inputs = [blobs.pop(b) for b in step.bottoms]
                outputs = self._run(step, inputs)
            for top, output, weight in zip(step.tops, outputs, step.loss_weights, strict=True):
                blobs[top] = output
                if top in keep:
                    result[top] = output
                if weight:
                    term = output.sum() * weight
                    loss = term if loss is None else loss + term
        return loss

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
            self._move(device)
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
                inputs = [self._input(step, b) for b in step.bottoms]
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

    def _input(self, step: Step, bottom: str) -> Tensor:
        blob = self.blobs[bottom]
        tensor = blob.data_tensor()
        # What the layer keeps for its backward must survive its own result in the same memory.
        return tensor.clone() if bottom in step.tops and blob.data_is_shown() else tensor

    def _recorded(self, index: int, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        """Runs one layer so that its backward can follow: from its own leaves, so that the graph is one layer's."""
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

        Bottoms' diffs are written, parameters' diffs added to. If no forward has left a graph (in the TEST phase, or
        before the first forward), each layer's forward runs again on what it had read, or on what its bottoms hold.
        """
        last = len(self.steps) - 1 if start is None else start
        for i in range(last, end - 1, -1):
            step = self.steps[i]
            if not step.need_backward or isinstance(step.layer, SourceLayer):
                continue
            record = self._records.get(i) or _Record([self.blobs[b].data_tensor() for b in step.bottoms])
            if record.outputs is None:
                self._recorded(i, record.inputs)
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
        """Gives every blob the shape that follows from the inputs' current shapes."""
        for step in self.steps:
            if _is_input(step.layer):
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
