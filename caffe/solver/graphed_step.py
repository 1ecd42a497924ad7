"""A training iteration as one CUDA graph: forward, loss and backward of its batches, and the update of the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from caffe.engine.cuda_graph import CudaRecorder, Recorder, StaticInputs, capturable_steps, label_blobs, record
from caffe.engine.net import Net
from caffe.solver.updates import UpdateRule

#: iterations that run one by one before one is recorded, while libraries choose their algorithms
WARM_UPS = 3


def obstacle(param: Any, net: Net, world_size: int) -> str | None:
    """Why the iterations of a SolverParameter cannot each be one graph; None if they can."""
    count, reason = capturable_steps(net.steps)
    if count < len(net.steps):
        return reason
    for layer in (step.layer for step in net.steps):
        if layer.dynamic_axes and not layer.static_shape:
            return f"layer '{layer.name}' ({layer.type_name}) has tops whose sizes depend on values"
    if world_size > 1:
        return "several ranks exchange gradients while backward is running"
    if param.lr_policy == "plateau":
        return 'lr_policy "plateau" takes the learning rate from the iteration\'s own loss'
    return None


class GraphedStep:
    """Runs iterations. The first ones of a batch's shape run one by one, then one is recorded, and replayed from then
    on.

    The rates are scalars on the device. The batches are copied to fixed buffers, with room for more label rows. Batches
    that do not fit (more boxes than before, another size) cause a new recording.
    """

    def __init__(
        self,
        net: Net,
        rule: UpdateRule,
        iter_size: int = 1,
        *,
        keep_updates: bool = False,
        recorder: Recorder | None = None,
    ) -> None:
        self.net, self.rule, self.iter_size, self.keep_updates = net, rule, iter_size, keep_updates
        self._recorder = recorder or CudaRecorder()
        self._labels = label_blobs(net.steps)
        groups = len(rule.rates(0.0, 0))
        self._rates = torch.zeros(groups, device=net.device)
        self._inputs: list[StaticInputs] = []
        self._left = WARM_UPS
        self._replay: Callable[[], None] | None = None
        self._places: tuple[int, ...] = ()
        self._results: tuple[Tensor, dict[str, Tensor], Tensor | None] | None = None
        self._gradients: list[Tensor | None] = []
        #: how often a step was recorded
        self.recordings = 0

    def __call__(self, rate: float, iteration: int) -> tuple[float, dict[str, Tensor]]:
        """One iteration on the next batches, at learning rate `rate`: their losses' sum, the last batch's outputs."""
        return self.run(self.next_batches(), rate, iteration)

    def next_batches(self) -> list[dict[str, Tensor]]:
        """The batches of the next iteration."""
        return [dict(self.net.next_batch()) for _ in range(self.iter_size)]

    def run(
        self, batches: Sequence[Mapping[str, Tensor]], rate: float, iteration: int
    ) -> tuple[float, dict[str, Tensor]]:
        """One iteration on `batches`, iter_size of them."""
        self._take(batches)
        self._rates.copy_(torch.tensor(self.rule.rates(rate, iteration)))
        if self._replay is None and self._left:
            self._left -= 1
            self._drop_gradients()
            results = self._recorder.warm_up(self._work)
        else:
            if self._replay is None:
                self._record()
            assert self._replay is not None
            assert self._results is not None
            self._replay()
            for parameter, gradient in zip(self.net.learnable_params, self._gradients, strict=True):
                parameter.grad = gradient
            results = self._results
        loss, outputs, norm = results
        if norm is not None:
            self.rule.log_clipping(float(norm))
        for name, value in outputs.items():
            self.net.blobs[name].set_data(value)
        return float(loss), outputs

    def _take(self, batches: Sequence[Mapping[str, Tensor]]) -> None:
        """Copies the batches to their buffers; where they do not fit, makes new buffers and drops the recording."""
        places = tuple(t.data_ptr() for t in (*self.net.learnable_params, *self.rule.history))
        fit = len(self._inputs) == len(batches) and all(i.fit(b) for i, b in zip(self._inputs, batches, strict=True))
        if not fit or places != self._places:
            self._replay, self._results, self._gradients = None, None, []
            self._left = WARM_UPS
            self._places = places
        if not fit:
            # all passes have label buffers of one size, so the fullest one grows them all
            fullest = {name: max(batches, key=lambda b: b[name].shape[2]) for name in self._labels}
            wide = [{**batch, **{name: fullest[name][name] for name in self._labels}} for batch in batches]
            self._inputs = [StaticInputs(batch, self._labels) for batch in wide]
        for inputs, batch in zip(self._inputs, batches, strict=True):
            inputs.fill(batch)

    def _drop_gradients(self) -> None:
        for parameter in self.net.learnable_params:
            parameter.grad = None

    def _record(self) -> None:
        self._drop_gradients()  # the recording allocates its own
        self._results, self._replay = record(self._recorder, self._work)
        self._gradients = [parameter.grad for parameter in self.net.learnable_params]
        self.recordings += 1

    def _work(self) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        total: Tensor | None = None
        outputs: dict[str, Tensor] = {}
        for inputs in self._inputs:
            loss, outputs = self.net(inputs.tensors)
            if loss.requires_grad:
                loss.backward()
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None
        norm = self.rule.apply_rates(list(self._rates.unbind()), self.keep_updates)
        # detached: a reference to autograd's graph would tie it to this stream
        return total, {name: value.detach() for name, value in outputs.items()}, norm
