"""RNN, LSTM and LSTMUnit: recurrence over sequences laid out as time × streams × values.

A sequence marker (time × streams) is 0 where a stream begins a new sequence, and clears its state there. The next
forward starts from the state at the end of the last one, without a gradient between the two. With `expose_hidden`,
additional bottoms and tops hold the states instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.shapes import count, text


def lstm_step(cell: Tensor, gates: Tensor, marker: Tensor) -> tuple[Tensor, Tensor]:
    """The next cell and hidden state; cell N × D, gates N × 4D (input, forget, output, new value), marker N."""
    i, f, o, g = gates.chunk(4, dim=-1)
    cell = marker[:, None] * torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return cell, torch.sigmoid(o) * torch.tanh(cell)


@register
class LSTMUnit(Layer):
    """One step of an LSTM: cell 1 × N × D, gate inputs 1 × N × 4D, markers 1 × N; tops: new cell and hidden state."""

    type_name = "LSTMUnit"
    bottoms = (3, 3)
    tops = (2, 2)

    def takes_gradient(self, index: int) -> bool:
        return index != 2

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        cell, gates, marker = bottom
        if len(cell) != 3 or cell[0] != 1:
            self.fail(f"the cell '{self.param.bottom[0]}' must be 1 × streams × values, not {text(cell)}")
        if tuple(gates) != (1, cell[1], 4 * cell[2]) or tuple(marker) != (1, cell[1]):
            self.fail(
                f"a cell of {text(cell)} needs gate inputs {text((1, cell[1], 4 * cell[2]))} and markers "
                f"{text((1, cell[1]))}, not {text(gates)} and {text(marker)}"
            )
        return [cell, cell]

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        cell, hidden = lstm_step(bottom[0][0], bottom[1][0], bottom[2][0].detach())
        return cell.unsqueeze(0), hidden.unsqueeze(0)


class Recurrent(Layer):
    """Bottoms: x (T × N × …), markers (T × N), [a static input N × …], [states 1 × N × num_output each]."""

    bottoms = (2, None)
    tops = (1, None)
    #: the number of states (hidden; hidden and cell)
    states: ClassVar[int]
    #: the number of input values of each unit
    gates: ClassVar[int]

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.recurrent_param
        self.size = param.num_output
        if self.size < 1:
            self.fail("num_output must be given and positive")
        exposed = self.states if param.expose_hidden else 0
        if not 2 + exposed <= len(bottom) <= 3 + exposed:
            self.fail(f"takes {2 + exposed} bottoms, or {3 + exposed} with a static input, not {len(bottom)}")
        if self.num_tops != 1 + exposed:
            self.fail(f"needs {1 + exposed} tops, not {self.num_tops}")
        self.static = len(bottom) == 3 + exposed
        if len(bottom[0]) < 3:
            self.fail(f"'{self.param.bottom[0]}' must be time × streams × values, not {text(bottom[0])}")
        width = self.gates * self.size
        self.add_blob((width, count(bottom[0], 2)), param.weight_filler)
        self.add_blob((width,), param.bias_filler)
        if self.static:
            self.add_blob((width, count(bottom[2], 1)), param.weight_filler)
        self.add_blob((width, self.size), param.weight_filler)
        self._carried: list[Tensor] = []

    def takes_gradient(self, index: int) -> bool:
        return index == 0 or (index == 2 and self.static)

    def graph_obstacle(self) -> str | None:
        exposed = self.param.recurrent_param.expose_hidden
        return None if exposed else "carries its state from one pass to the next"

    def reset(self) -> None:
        """Clears the state of the last forward."""
        self._carried = []

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        x, marker = bottom[:2]
        if len(x) < 3 or count(x, 2) != self.blobs[0].shape[1]:
            self.fail(
                f"'{self.param.bottom[0]}' must be time × streams × {self.blobs[0].shape[1]} values, not {text(x)}"
            )
        if tuple(marker) != tuple(x[:2]):
            self.fail(
                f"'{self.param.bottom[1]}' must be {text(x[:2])}, one marker per step and stream, not {text(marker)}"
            )
        state = (1, x[1], self.size)
        given = bottom[2:]
        if self.static:
            if not given[0] or given[0][0] != x[1] or count(given[0], 1) != self.blobs[2].shape[1]:
                self.fail(f"the static input must be {x[1]} × {self.blobs[2].shape[1]}, not {text(given[0])}")
            given = given[1:]
        for shape in given:
            if tuple(shape) != state:
                self.fail(f"an exposed state must be {text(state)}, not {text(shape)}")
        return [(x[0], x[1], self.size), *[state] * (self.num_tops - 1)]

    def step(self, states: list[Tensor], inputs: Tensor, marker: Tensor) -> tuple[Tensor, list[Tensor]]:
        """One time step: the output (streams × num_output) and the new states."""
        raise NotImplementedError

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        x, marker = bottom[0], bottom[1].detach()
        inputs = F.linear(x.flatten(2), self.blobs[0], self.blobs[1])
        if self.static:
            inputs = inputs + F.linear(bottom[2].flatten(1), self.blobs[2])
        if self.param.recurrent_param.expose_hidden:
            states = [state[0].detach() for state in bottom[-self.states :]]
        elif self._carried and self._carried[0].shape[0] == x.shape[1]:
            states = [state.to(inputs) for state in self._carried]
        else:
            states = [inputs.new_zeros(x.shape[1], self.size)] * self.states
        outputs = []
        for t in range(len(x)):
            output, states = self.step(states, inputs[t], marker[t])
            outputs.append(output)
        top = torch.stack(outputs)
        if self.param.recurrent_param.expose_hidden:
            return (top, *(state.detach().unsqueeze(0) for state in states))
        self._carried = [state.detach() for state in states]
        return top


@register
class RNN(Recurrent):
    """h = tanh(W_hh h + W_xh x + b_h), o = tanh(W_ho h + b_o).

    Blobs: W_xh, b_h, [W_xh of the static input], W_hh, W_ho, b_o.
    """

    type_name = "RNN"
    states = 1
    gates = 1

    def setup(self, bottom: Sequence[Shape]) -> None:
        super().setup(bottom)
        self.add_blob((self.size, self.size), self.param.recurrent_param.weight_filler)
        self.add_blob((self.size,), self.param.recurrent_param.bias_filler)

    def step(self, states: list[Tensor], inputs: Tensor, marker: Tensor) -> tuple[Tensor, list[Tensor]]:
        hidden = torch.tanh(F.linear(states[0] * marker[:, None], self.blobs[-3]) + inputs)
        return torch.tanh(F.linear(hidden, self.blobs[-2], self.blobs[-1])), [hidden]


@register
class LSTM(Recurrent):
    """Long short-term memory without peepholes; gates in the order input, forget, output, new value.

    Blobs: W_xc, b_c, [W_xc of the static input], W_hc.
    """

    type_name = "LSTM"
    states = 2
    gates = 4

    def step(self, states: list[Tensor], inputs: Tensor, marker: Tensor) -> tuple[Tensor, list[Tensor]]:
        hidden, cell = states
        gates = F.linear(hidden * marker[:, None], self.blobs[-1]) + inputs
        cell, hidden = lstm_step(cell, gates, marker)
        return hidden, [hidden, cell]
