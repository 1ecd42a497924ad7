"""An ONNX graph under construction: nodes, constants and fresh names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
#: runtimes of recent years read 17; nothing newer is needed
OPSET = 17


class Graph:
    """Collects nodes. Values are identified by name; every method that adds a node returns the name of its result."""

    def __init__(self, name: str, *, fixed: bool = False) -> None:
        self.name = name
        #: the batch has one size, which converters may use
        self.fixed = fixed
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._known: dict[str, Array] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self._scope = ""
        self._taken: set[str] = set()

    def reserve(self, names: Iterable[str]) -> None:
        """Keeps these names for the graph's inputs and outputs: a layer's name and a hint could make the same."""
        self._taken.update(names)

    def enter(self, layer: str) -> None:
        """Prefixes the names of the following values with the layer's."""
        self._scope = layer

    def fresh(self, hint: str) -> str:
        """A name that no other value has."""
        name, number = f"{self._scope}/{hint}", 1
        while name in self._taken:
            number += 1
            name = f"{self._scope}/{hint}_{number}"
        self._taken.add(name)
        return name

    def constant(self, value: Any, hint: str = "constant", dtype: Any = None) -> str:
        """A constant tensor: floats in single precision and integers in 64 bits unless `dtype` is given."""
        array = np.asarray(value)
        if dtype is None:
            dtype = np.float32 if np.issubdtype(array.dtype, np.floating) else np.int64
        name = self.fresh(hint)
        # ascontiguousarray would make a scalar one-dimensional
        self.constants[name] = numpy_helper.from_array(np.asarray(array, dtype=dtype, order="C"), name)
        return name

    def known_value(self, name: str) -> Array | None:
        """The array behind a name that `know` gave; None for what the graph computes."""
        return self._known.get(name)

    def know(self, value: Array, hint: str) -> str:
        """A name for a value that is known already; it becomes a constant only if a node reads it."""
        name = self.fresh(hint)
        self._known[name] = value
        return name

    @staticmethod
    def scalar(value: float) -> Any:
        """A float as the value of an attribute."""
        return numpy_helper.from_array(np.array([value], dtype=np.float32))

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """A node with one output."""
        return self.add_many(operator, *inputs, outputs=[output or self.fresh(operator)], **attributes)[0]

    def add_many(self, operator: str, *inputs: str, outputs: Sequence[str] | int, **attributes: Any) -> list[str]:
        """A node with several outputs, named or counted. An empty input name leaves out an optional input."""
        names = [self.fresh(operator) for _ in range(outputs)] if isinstance(outputs, int) else list(outputs)
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=self.fresh("node"), **attributes))
        return names

    def input(self, name: str, shape: Sequence[int | str]) -> None:
        """A float input; a dimension that is a string may have any size."""
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))

    def output(self, name: str, shape: Sequence[int | str]) -> None:
        """Makes the float value `name` an output."""
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))

    def model(self, notes: str) -> Any:
        """The graph as a ModelProto."""
        read = {name for node in self.nodes for name in node.input}
        known = [
            numpy_helper.from_array(np.asarray(value, np.float32, order="C"), name)
            for name, value in self._known.items()
            if name in read
        ]
        constants = [*self.constants.values(), *known]
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="mdssd-caffe")
        # The IR version of opset 17; runtimes refuse files with a higher one.
        model.ir_version = 8
        model.doc_string = notes
        return model
