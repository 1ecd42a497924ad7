"""RNN, LSTM and LSTMUnit, step by step and stream by stream."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _unit(cell: Array, gates: Array, marker: float) -> tuple[Array, Array]:
    d = len(cell)
    new_cell, hidden = np.empty(d), np.empty(d)
    for k in range(d):
        i, f, o = (_sigmoid(gates[gate * d + k]) for gate in range(3))
        new_cell[k] = marker * f * cell[k] + i * math.tanh(gates[3 * d + k])
        hidden[k] = o * math.tanh(new_cell[k])
    return new_cell, hidden


def lstm_unit(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    cell, gates, marker = bottoms
    pairs = [_unit(cell[0, n], gates[0, n], marker[0, n]) for n in range(cell.shape[1])]
    return [np.stack([c for c, _ in pairs])[None], np.stack([h for _, h in pairs])[None]]


def _inputs(
    param: Any, bottoms: list[Array], blobs: list[Array], states: int
) -> tuple[Array, list[Array], list[Array]]:
    """The contribution of x (and a static input) at each step and stream, the first states, and the other blobs."""
    x, given = bottoms[0], bottoms[2:]
    steps, streams = x.shape[:2]
    inputs = x.reshape(steps, streams, -1) @ blobs[0].T + blobs[1]
    exposed = states if param.recurrent_param.expose_hidden else 0
    rest = blobs[2:]
    if len(given) > exposed:
        inputs = inputs + given[0].reshape(streams, -1) @ blobs[2].T
        given, rest = given[1:], blobs[3:]
    size = param.recurrent_param.num_output
    first = [s[0] for s in given] if exposed else [np.zeros((streams, size)) for _ in range(states)]
    return inputs, first, rest


def rnn(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    inputs, (hidden,), (w_hh, w_ho, b_o) = _inputs(param, bottoms, blobs, 1)
    hidden = hidden.copy()
    y = np.empty(inputs.shape)
    for t, n in np.ndindex(*inputs.shape[:2]):
        hidden[n] = np.tanh(w_hh @ (bottoms[1][t, n] * hidden[n]) + inputs[t, n])
        y[t, n] = np.tanh(w_ho @ hidden[n] + b_o)
    return [y, hidden[None]][: len(param.top)]


def lstm(param: Any, bottoms: list[Array], blobs: list[Array], phase: int) -> list[Array]:
    inputs, (hidden, cell), (w_hc,) = _inputs(param, bottoms, blobs, 2)
    hidden, cell = hidden.copy(), cell.copy()
    y = np.empty((*inputs.shape[:2], hidden.shape[1]))
    for t, n in np.ndindex(*inputs.shape[:2]):
        marker = float(bottoms[1][t, n])
        cell[n], hidden[n] = _unit(cell[n], w_hc @ (marker * hidden[n]) + inputs[t, n], marker)
        y[t, n] = hidden[n]
    return [y, hidden[None], cell[None]][: len(param.top)]
