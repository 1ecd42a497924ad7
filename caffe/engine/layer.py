"""The layer contract: what every layer type is, and the registry that prototxts name them by.

A layer is set up once with the shapes of its bottoms, then run with tensors. Its shapes may change from one run to the
next (an image of another size, a batch with more boxes), so `forward` takes sizes from its inputs, never from set-up.
Gradients come from autograd: a layer whose gradient in Caffe is not the derivative of its forward (ties, kinks, labels)
uses a `torch.autograd.Function` that says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn, TypeVar

import torch
from torch import Tensor, nn

from caffe.engine.fillers import fill
from caffe.errors import NetError

Shape = tuple[int, ...]
TRAIN, TEST = 0, 1


class Layer(nn.Module):
    """One layer of a net.

    `param` is the LayerParameter, `blobs` the learned parameters in Caffe's order (weights, then bias, …). A subclass
    sets the class attributes, creates its blobs in `setup`, gives its tops' shapes in `reshape`, computes in `forward`.
    """

    type_name: ClassVar[str]
    #: how many bottoms and tops it takes: (fewest, most), None for no limit
    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    #: as many tops as bottoms
    same_count: ClassVar[bool] = False
    #: tops that the prototxt does not name are made up (loss layers may leave theirs out)
    auto_tops: ClassVar[bool] = False
    #: a loss layer's first top has loss_weight 1 unless the prototxt says otherwise
    is_loss: ClassVar[bool] = False

    def __init__(self, param: Any, phase: int) -> None:
        super().__init__()
        self.param = param
        self.name: str = param.name
        self.phase = phase
        self.blobs = nn.ParameterList()
        self.num_tops = len(param.top)
        #: set by the net: what the layer reads is not read again, so it may be overwritten
        self.in_place = len(param.bottom) > 0 and len(param.top) > 0 and param.top[0] == param.bottom[0]

    # ---- what a subclass writes

    def setup(self, bottom: Sequence[Shape]) -> None:
        """Checks the parameters and makes the blobs. Called once, before `reshape`."""

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        """The shapes of the tops for bottoms of these shapes; raises NetError where they do not fit."""
        raise NotImplementedError

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The tops. Differentiable by autograd in every bottom for which `takes_gradient` is true."""
        raise NotImplementedError

    def check_data(self, sources: Sequence[SourceLayer]) -> None:
        """Called once when the net is whole: raises NetError where the data is not what the layer was told of it."""

    def takes_gradient(self, index: int) -> bool:
        """Whether bottom `index` can receive a gradient (labels and priors cannot), under `force_backward` too."""
        return not (self.is_loss and index == 1)

    # ---- what it is given

    def add_blob(self, shape: Sequence[int], filler: Any = None) -> nn.Parameter:
        """Appends a learned blob of `shape`, filled as the FillerParameter says (None: zeros)."""
        blob = nn.Parameter(torch.zeros(tuple(shape)))
        if filler is not None:
            self.fill(blob.data, filler)
        self.blobs.append(blob)
        return blob

    def fill(self, blob: Tensor, filler: Any) -> None:
        """Fills `blob` in place as the FillerParameter says; errors name this layer."""
        try:
            fill(blob, filler)
        except NetError as error:
            self.fail(str(error))

    def fail(self, message: str) -> NoReturn:
        """Raises a NetError that names this layer."""
        raise NetError(f"layer '{self.name}' ({self.type_name}): {message}")

    def canonical_axis(self, axis: int, num_axes: int, what: str = "axis") -> int:
        """`axis` counted from the front; negative ones count from the end, as in numpy."""
        if not -num_axes <= axis < num_axes:
            self.fail(f"{what} {axis} is out of range for a blob of {num_axes} axes ({-num_axes} to {num_axes - 1})")
        return axis % num_axes

    def extra_repr(self) -> str:
        return f"{self.name!r}"


class SourceLayer(Layer):
    """A layer with no bottoms that brings data into the net. `forward()` returns the next batch, on the CPU."""

    bottoms = (0, 0)

    def start_at(self, batch: int) -> None:
        """Continue as if `batch` batches had been read (a resumed run sees what the uninterrupted one would)."""

    def records(self) -> list[str] | None:
        """The keys of all records in the order in which they are read, over and over; None where that is not known."""
        return None

    def close(self) -> None:
        """Ends worker processes and closes files. Safe to call twice."""


_registry: dict[str, type[Layer]] = {}
_L = TypeVar("_L", bound=type[Layer])


def register(layer_class: _L) -> _L:
    """Class decorator: makes a layer type known by its `type_name`."""
    name = layer_class.type_name
    assert name not in _registry, f"layer type {name} is registered twice"
    _registry[name] = layer_class
    return layer_class


def layer_types() -> list[str]:
    """The known layer types, sorted."""
    return sorted(_registry)


def layer_class(type_name: str, layer_name: str) -> type[Layer]:
    """The class for a type named in a prototxt; a NetError with the nearest and all known names otherwise."""
    if type_name not in _registry:
        import difflib

        near = difflib.get_close_matches(type_name, _registry, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise NetError(
            f"layer '{layer_name}': unknown layer type '{type_name}'.{hint} Known types: {', '.join(layer_types())}"
        )
    return _registry[type_name]
