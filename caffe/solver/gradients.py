"""The gradients of one iteration: forward and backward over iter_size batches (Solver::Step, ForwardBackward)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from caffe.engine.net import Net
from caffe.solver import debug_info
from caffe.solver.exchange import Exchange
from caffe.solver.scalar import ScalarOnItsWay


class Gradients:
    """Leaves the gradients of a training net in its parameters.

    `layerwise` as in Solver. `check` is called with each batch's loss before anything is done with it.
    """

    def __init__(self, net: Net, exchange: Exchange, check: Callable[[float], object], *, layerwise: bool) -> None:
        self._net, self._exchange, self._check, self._layerwise = net, exchange, check, layerwise

    def compute(self, batches: int, *, debug: bool) -> tuple[float, dict[str, Tensor]]:
        """Sums the gradients of so many batches; returns the sum of their losses, and the last one's outputs.

        `debug` logs what debug_info asks for.
        """
        self._clear()
        loss = 0.0
        outputs: dict[str, Tensor] = {}
        for i in range(batches):
            self._exchange.accumulating(i < batches - 1)
            value, outputs = self._add(debug)
            self._check(value)
            loss += value
        return loss, outputs

    def loss(self) -> float:
        """The loss of the next batch, without gradients."""
        with torch.no_grad():
            return self._net.forward_layers() if self._layerwise else float(self._net()[0])

    def _clear(self) -> None:
        if self._layerwise:
            self._net.clear_param_diffs()
        else:
            for parameter in self._net.learnable_params:
                parameter.grad = None

    def _add(self, debug: bool) -> tuple[float, dict[str, Tensor]]:
        """One pass, whose gradients are added. Returns the loss and the output blobs."""
        if debug:
            loss = debug_info.forward_backward(self._net)
        elif self._layerwise:
            loss = self._net.forward_layers()
            self._net.backward_layers()
        else:
            return self._whole_graph()
        return loss, {name: self._net.blobs[name].data_tensor() for name in self._net.outputs}

    def _whole_graph(self) -> tuple[float, dict[str, Tensor]]:
        loss, outputs = self._net()
        value = ScalarOnItsWay(loss.detach())
        if loss.requires_grad:
            loss.backward()
        return value.read(), outputs
