"""Which nets a solver prototxt asks for, and in which state each is set up (Solver::InitTrainNet and InitTestNets)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from caffe.engine.layer import TEST, TRAIN
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from caffe.proto.text import read_net

_TRAIN_FIELDS = ("net", "net_param", "train_net", "train_net_param")


@dataclass
class NetChoice:
    """A net to build: its parameters with their state filled in, and what the log says about their source."""

    param: Any
    source: str


def training_net(solver: Any) -> NetChoice:
    """The net to train. Exactly one of net, net_param, train_net and train_net_param must be given."""
    given = [field for field in _TRAIN_FIELDS if solver.HasField(field)]
    if len(given) != 1:
        found = f"it gives {' and '.join(given)}" if given else "it gives none"
        raise CaffeError(
            f"solver: the net to train must be given by exactly one of {', '.join(_TRAIN_FIELDS)}; {found}"
        )
    (field,) = given
    value = getattr(solver, field)
    if field.endswith("_param"):
        net, source = value, f"training net specified in {field}."
    else:
        net, source = read_net(value), f"training net from {field} file: {value}"
    return NetChoice(_with_state(net, TRAIN, [solver.train_state]), source)


def test_nets(solver: Any) -> list[NetChoice]:
    """The nets to test with, one for each test_iter: test_net_param, then test_net, then `net` for the rest."""
    count, named = len(solver.test_iter), len(solver.test_net_param) + len(solver.test_net)
    generic = "net_param" if solver.HasField("net_param") else "net" if solver.HasField("net") else None
    if count < named or (count > named and generic is None):
        raise CaffeError(
            f"solver: test_iter must be given once for each test net; there are {count} test_iter and {named} test nets"
        )
    if solver.test_state and len(solver.test_state) != count:
        raise CaffeError(
            f"solver: test_state must be left out or given once for each of the {count} test nets, "
            f"not {len(solver.test_state)} times"
        )
    if count and solver.test_interval < 1:
        raise CaffeError(f"solver: test_interval is {solver.test_interval}; with test nets it must be at least 1")
    if any(n < 1 for n in solver.test_iter):
        raise CaffeError(f"solver: test_iter is {list(solver.test_iter)}; each must be at least 1")
    found = [(net, "test_net_param") for net in solver.test_net_param]
    found += [(read_net(path), f"test_net file: {path}") for path in solver.test_net]
    if generic == "net_param":
        found += [(solver.net_param, "net_param")] * (count - named)
    elif generic == "net":
        found += [(read_net(solver.net), f"net file: {solver.net}") for _ in range(count - named)]
    return [
        NetChoice(_with_state(net, TEST, [solver.test_state[i]] if solver.test_state else []), source)
        for i, (net, source) in enumerate(found)
    ]


def _with_state(net: Any, phase: int, states: list[Any]) -> Any:
    """A copy of `net` whose state is the phase, overridden by the net's own state, overridden by the solver's."""
    result = caffe_pb2.NetParameter()
    result.CopyFrom(net)
    result.state.Clear()
    result.state.phase = phase  # type: ignore[assignment]  # an enum's number
    for state in (net.state, *states):
        result.state.MergeFrom(state)
    return result
