"""LSTM, RNN and LSTMUnit, one step after another: ONNX's own recurrences cannot clear the state at a marker.

The number of steps and streams is fixed. A layer without `expose_hidden` starts every run with cleared states; here it
would go on from the last run's.
"""

from __future__ import annotations

from typing import Any

from caffe.engine.layer import Shape
from caffe.export.graph import Graph
from caffe.export.registry import blob, converts, needs_fixed_batch


def _cell(g: Graph, cell: str, gates: str, marker: str, size: int) -> tuple[str, str]:
    """The next cell and hidden state, N × D, from gates N × 4D (input, forget, output, new value) and markers N × 1."""
    i, f, o, new = g.add_many("Split", gates, g.constant([size] * 4, "sizes"), outputs=4, axis=1)
    kept = g.add("Mul", g.add("Mul", marker, g.add("Sigmoid", f)), cell)
    cell = g.add("Add", kept, g.add("Mul", g.add("Sigmoid", i), g.add("Tanh", new)))
    return cell, g.add("Mul", g.add("Sigmoid", o), g.add("Tanh", cell))


@converts("LSTMUnit")
def _lstm_unit(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    _, streams, size = shapes[0]
    if not g.fixed:
        raise needs_fixed_batch(layer, "has streams, not images, in its batch")
    cell = g.add("Reshape", bottoms[0], g.constant([streams, size], "shape"))
    gates = g.add("Reshape", bottoms[1], g.constant([streams, 4 * size], "shape"))
    marker = g.add("Reshape", bottoms[2], g.constant([streams, 1], "shape"))
    made = _cell(g, cell, gates, marker, size)
    return [g.add("Unsqueeze", value, g.constant([0])) for value in made]


@converts("LSTM", "RNN")
def _recurrence(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    if not g.fixed:
        raise needs_fixed_batch(layer, "runs over a fixed number of steps and streams")
    steps, streams = shapes[0][:2]
    width = layer.blobs[0].shape[0]
    flat = g.add("Reshape", bottoms[0], g.constant([steps * streams, layer.blobs[0].shape[1]], "shape"))
    inputs = g.add("Gemm", flat, g.constant(blob(layer, 0), "weights"), g.constant(blob(layer, 1), "bias"), transB=1)
    inputs = g.add("Reshape", inputs, g.constant([steps, streams, width], "shape"))
    if layer.static:
        fixed = g.add("Reshape", bottoms[2], g.constant([streams, layer.blobs[2].shape[1]], "shape"))
        inputs = g.add("Add", inputs, g.add("Gemm", fixed, g.constant(blob(layer, 2), "weights"), transB=1))
    markers = g.add("Reshape", bottoms[1], g.constant([steps, streams, 1], "shape"))
    exposed = layer.param.recurrent_param.expose_hidden
    shape = g.constant([streams, layer.size], "shape")
    states = [
        g.add("Reshape", bottoms[i - layer.states], shape) if exposed else g.constant([[0.0] * layer.size] * streams)
        for i in range(layer.states)
    ]
    each = _each(g, inputs, steps), _each(g, markers, steps)
    parameters = {
        name: g.constant(blob(layer, index), name)
        for name, index in (("hidden", -1 if layer.type_name == "LSTM" else -3), ("out", -2), ("out_bias", -1))
    }
    outputs = []
    for gates, marker in zip(*each, strict=True):
        kept = g.add("Mul", states[0], marker)
        gates = g.add("Add", gates, g.add("Gemm", kept, parameters["hidden"], transB=1))
        if layer.type_name == "LSTM":
            cell, hidden = _cell(g, states[1], gates, marker, layer.size)
            states, output = [hidden, cell], hidden
        else:
            states = [g.add("Tanh", gates)]
            output = g.add("Tanh", g.add("Gemm", states[0], parameters["out"], parameters["out_bias"], transB=1))
        outputs.append(g.add("Unsqueeze", output, g.constant([0])))
    top = g.add("Concat", *outputs, axis=0)
    return [top, *(g.add("Unsqueeze", state, g.constant([0])) for state in states)] if exposed else [top]


def _each(g: Graph, values: str, steps: int) -> list[str]:
    """The steps of a value, steps × streams × width, one by one."""
    parts = [values] if steps == 1 else g.add_many("Split", values, g.constant([1] * steps), outputs=steps, axis=0)
    return [g.add("Squeeze", part, g.constant([0])) for part in parts]
