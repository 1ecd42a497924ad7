"""The layer contract, and the registry of layer types by their names in prototxts.

A layer is set up once with the shapes of its bottoms, then run with tensors. Its shapes may change from one run to the
next (an image of another size, a batch with more boxes), so `forward` takes sizes from its inputs, never from set-up.
Gradients come from autograd: a layer whose gradient in Caffe is not the derivative of its forward (ties, kinks, labels)
uses a `torch.autograd.Function` that says so.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn, Self, TypeVar

import torch
from torch import Tensor, nn

from caffe.engine.fillers import defer, fill
from caffe.engine.memory import Memory
from caffe.errors import CaffeError, NetError, shown
from caffe.proto.forks import FORK_OF_TYPE

Shape = tuple[int, ...]
TRAIN, TEST = 0, 1


@dataclass(frozen=True)
class ConvolutionWindow:
    """How a plain 2-D convolution slides over N × C × H × W: (height, width) each, in pixels."""

    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]
    group: int


class Layer(nn.Module):
    """One layer of a net.

    `param` is the LayerParameter, `blobs` the learned parameters in Caffe's order (weights, then bias, …). A subclass
    sets the class attributes, creates its blobs in `setup`, returns its tops' shapes in `reshape`, and computes in
    `forward`.

    What the rest of the engine has to know about a type is an attribute or a method here, with a default that is safe
    for a layer that says nothing.
    """

    type_name: ClassVar[str]
    #: how many bottoms and tops it takes: (minimum, maximum), None for no limit
    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    #: the fewest axes of its bottoms
    least_axes: ClassVar[int] = 0
    #: as many tops as bottoms
    same_count: ClassVar[bool] = False
    #: tops that the prototxt does not name are added (loss layers may leave theirs out)
    auto_tops: ClassVar[bool] = False
    #: a loss layer's first top has loss_weight 1 unless the prototxt says otherwise
    is_loss: ClassVar[bool] = False
    #: each top is memory of its own, which no other blob shares: a layer that works in place on it may really
    #: overwrite it, in passes without gradients
    fresh_tops: ClassVar[bool] = False
    #: with gradients, every bottom that needs one is kept as it is until the layer's backward, which computes the
    #: weights' gradients from it
    keeps_bottoms: ClassVar[bool] = False
    #: each top is its only bottom, unchanged
    passes_through: ClassVar[bool] = False
    #: the tops depend on the bottoms' shapes alone, so export computes them once
    constant_tops: ClassVar[bool] = False
    #: the axes of its tops whose sizes depend on the bottoms' values, with names for them; see `static_shape`
    dynamic_axes: ClassVar[Mapping[int, str]] = MappingProxyType({})
    #: the blobs are learned. False: they are statistics that `forward` keeps, and never get a gradient
    learns: ClassVar[bool] = True
    #: at lower precision `forward` rounds all its blobs before use, so they may be rounded in advance
    rounds_blobs: ClassVar[bool] = False
    #: the top has the rows of a DetectionEvaluate layer, which are scored as mean average precision, not averaged
    evaluates_detections: ClassVar[bool] = False

    #: set from outside on a layer with `dynamic_axes`: `forward` then gives tops with room for all that could be found,
    #: whose shapes follow from the bottoms' shapes, and `trimmed` cuts them. A layer that cannot has a `graph_obstacle`
    static_shape: bool = False

    def __init__(self, param: Any, phase: int) -> None:
        super().__init__()
        self.param = param
        self.name: str = param.name
        self.phase = phase
        self.blobs = nn.ParameterList()
        self.num_tops = len(param.top)
        #: what the net needs so far; set by the net
        self.memory: Memory | None = None
        #: set by the net: what the layer reads is not read again, so it may be overwritten
        self.in_place = len(param.bottom) > 0 and len(param.top) > 0 and param.top[0] == param.bottom[0]

    # ---- what a subclass writes

    def setup(self, bottom: Sequence[Shape]) -> None:
        """Checks the parameters and makes the blobs. Called once, before `reshape`."""

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        """The shapes of the tops for bottoms of these shapes; raises NetError if they do not fit."""
        raise NotImplementedError

    def forward(self, *bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The tops. Differentiable by autograd in every bottom for which `takes_gradient` is true."""
        raise NotImplementedError

    def check_data(self, sources: Sequence[SourceLayer]) -> None:
        """Called once when the net is complete: raises NetError if the data contradicts the layer's settings."""

    def takes_gradient(self, index: int) -> bool:
        """Whether bottom `index` can receive a gradient (labels and priors cannot), even with `force_backward`."""
        return not (self.is_loss and index == 1)

    def takes_padding(self, index: int) -> bool:
        """Whether rows of −1 at the end of bottom `index` (1 × 1 × rows × values) leave the tops as they are."""
        return False

    def trimmed(self, index: int, top: Tensor) -> Tensor:
        """Top `index` as it is without `static_shape`, from what `forward` gave with it."""
        return top

    def graph_obstacle(self) -> str | None:
        """Why no CUDA graph can hold the layer, in words that follow its name ("writes a file"); None where one can.

        A graph replays the work that one `forward` queued on the GPU. It can hold a layer that queues the same work for
        all values of its bottoms: one that neither looks at values on the host, nor reads or writes files, nor has tops
        whose sizes depend on values (but see `static_shape`), nor keeps state in Python.
        """
        return None

    def compile_obstacle(self) -> str | None:
        """Why torch.compile cannot trace the layer, in the same words: it and what follows then run as they are."""
        return self.graph_obstacle()

    def as_convolution(self) -> ConvolutionWindow | None:
        """The window of a layer that is a 2-D convolution of its only bottom with blobs[0] plus blobs[1], if any.

        None for all others. Such a layer may be replaced by a faster convolution in passes without gradients.
        """
        return None

    def as_deconvolution(self) -> ConvolutionWindow | None:
        """The same for a layer that is a 2-D transposed convolution, whose weights are channels × outputs/group × … .

        Its window is that of the convolution that it transposes.
        """
        return None

    def is_rectifier(self) -> bool:
        """Whether the top is max(0, bottom): the convolution before may do that in the same pass."""
        return False

    def makes_rows(self) -> bool:
        """Whether the top is the bottom with one row for each image: all its axes but the first as one."""
        return False

    def joins_rows(self) -> bool:
        """Whether the top, if its bottoms have two axes, is these side by side: joined along axis 1."""
        return False

    # ---- what the base class provides

    def add_blob(self, shape: Sequence[int], filler: Any = None) -> nn.Parameter:
        """Appends a learned blob of `shape`, filled as the FillerParameter says (None: zeros).

        Raises NetError if the machine does not have the memory.
        """
        if min(shape, default=1) < 0:
            self.fail(f"would have a parameter of shape {tuple(shape)}")
        if self.memory is not None:
            self.memory.parameter(self, shape)
        blob = nn.Parameter(torch.zeros(tuple(shape)))
        if filler is not None and not defer(blob, filler, self.fill):
            self.fill(blob.data, filler)
        self.blobs.append(blob)
        return blob

    def fill(self, blob: Tensor, filler: Any) -> None:
        """Fills `blob` in place as the FillerParameter says; errors name this layer."""
        try:
            fill(blob, filler)
        except NetError as error:
            self.fail(str(error))

    def with_blobs(self, blobs: Iterable[Tensor]) -> Self:
        """A copy of the layer with these blobs, which get no gradient; the layer itself keeps its own."""
        other = copy.copy(self)
        other._modules = dict(self._modules)
        other.blobs = nn.ParameterList(nn.Parameter(blob, requires_grad=False) for blob in blobs)
        return other

    @property
    def where(self) -> str:
        """The layer as errors name it."""
        return f"layer '{shown(self.name)}' ({self.type_name})"

    def fail(self, message: str) -> NoReturn:
        """Raises a NetError that names this layer."""
        raise NetError(f"{self.where}: {message}")

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """A CaffeError that is raised within names this layer."""
        try:
            yield
        except CaffeError as error:
            raise type(error)(f"{self.where}: {error}") from None

    def canonical_axis(self, axis: int, num_axes: int, what: str = "axis") -> int:
        """`axis` counted from the front; negative ones count from the end, as in NumPy."""
        if not -num_axes <= axis < num_axes:
            self.fail(f"{what} {axis} is out of range for a blob with {num_axes} axes ({-num_axes} to {num_axes - 1})")
        return axis % num_axes

    def extra_repr(self) -> str:
        return f"{self.name!r}"


class SourceLayer(Layer):
    """A layer with no bottoms that brings data into the net. `forward()` returns the next batch, on the CPU."""

    bottoms = (0, 0)
    #: the tops are the net's inputs: what the user wrote to the blobs stays there, and `forward` is not called
    is_input: ClassVar[bool] = False

    def start_at(self, batch: int) -> None:
        """Continue as if `batch` batches had been read (a resumed run sees what the uninterrupted one would)."""

    def record_keys(self, batches: int = 1) -> list[str]:
        """The names of the records of the last `batches` batches that `forward` returned, in order.

        Before the first batch: the names of its records. Empty where records have no names.
        """
        return []

    def records(self) -> list[str] | None:
        """The keys of all records in the order in which they are read, repeatedly; None if that is not known."""
        return None

    def check_sizes(self, path: str, sizes: Sequence[tuple[int, int]]) -> None:
        """Warns, once, if the (height, width) of the images in the list `path` contradict the records."""

    def close(self) -> None:
        """Ends worker processes and closes files. Safe to call twice."""


_registry: dict[str, type[Layer]] = {}
_L = TypeVar("_L", bound=type[Layer])


def register(kind: _L) -> _L:
    """Class decorator: registers a layer type under its `type_name`."""
    name = kind.type_name
    assert name not in _registry, f"layer type {name} is registered twice"
    _registry[name] = kind
    return kind


def layer_types() -> list[str]:
    """The known layer types, sorted."""
    return sorted(_registry)


def layer_class(type_name: str, layer_name: str) -> type[Layer]:
    """The class for a type named in a prototxt; a NetError as from `check_types` if it is unknown."""
    check_types([(layer_name, type_name)])
    return _registry[type_name]


_MOST_TYPES = 20
"""How many unknown types one error names."""


def check_types(layers: Iterable[tuple[str, str]]) -> None:
    """Raises NetError if types of layers, given as (name, type), are unknown: all of them at once.

    It says where a type comes from, or the nearest name; then how to add one, and all known names.
    """
    unknown: dict[str, list[str]] = {}
    for layer_name, type_name in layers:
        if type_name not in _registry:
            unknown.setdefault(type_name, []).append(layer_name)
    if not unknown:
        return
    lines = []
    for type_name, names in unknown.items():
        more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        lines.append(f"layer '{shown(names[0])}'{more}: unknown layer type '{shown(type_name)}'.{_origin(type_name)}")
    if len(lines) > _MOST_TYPES:
        lines[_MOST_TYPES:] = [f"and {len(lines) - _MOST_TYPES} more"]
    lines.append(f"docs/add_a_layer.md tells how to add a type. Known types: {', '.join(layer_types())}")
    raise NetError(("\n" if len(unknown) > 1 else " ").join(lines))


def _origin(type_name: str) -> str:
    if fork := FORK_OF_TYPE.get(type_name):
        return f" It comes from {fork}."
    near = difflib.get_close_matches(type_name[:80], _registry, n=3, cutoff=0.75)
    if re.search("depth|dw", type_name, re.IGNORECASE):  # nothing like a Deconvolution, in spite of the letters
        near = [name for name in near if name != "Deconvolution"]
    return f" Did you mean '{near[0]}'?" if near else ""
