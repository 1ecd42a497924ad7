"""pycaffe's solvers: `caffe.SGDSolver('solver.prototxt')`, `caffe.get_solver(...)`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from caffe.errors import CaffeError
from caffe.proto.text import read_solver
from caffe.pycaffe import Net
from caffe.solver.solver import Solver as EngineSolver


class Solver:
    """A solver for Python. After `step`, `net.blobs` and `net.params` have all data and diffs of the last iteration."""

    _type: str | None = None

    def __init__(self, solver_file: str | Path) -> None:
        param = read_solver(solver_file)
        if self._type is not None:
            param.type = self._type
        self._solver = EngineSolver(param, layerwise=True)
        self._net_view = Net(self._solver.net)
        self._test_views = [Net(net) for net in self._solver.test_nets]

    @property
    def net(self) -> Net:
        return self._net_view

    @property
    def test_nets(self) -> list[Net]:
        return list(self._test_views)

    @property
    def iter(self) -> int:
        return self._solver.iter

    def step(self, iterations: int) -> None:
        """Runs that many iterations, with tests, display and snapshots as the solver's text says."""
        self._solver.step(iterations)

    def solve(self, resume_file: str | Path | None = None) -> None:
        """Trains to max_iter."""
        self._solver.solve(None if resume_file is None else str(resume_file))

    def restore(self, path: str | Path) -> None:
        """Resumes from a .solverstate."""
        self._solver.restore(str(path))

    def snapshot(self) -> None:
        """Writes weights and solver state now."""
        self._solver.snapshot()

    def add_callback(self, on_start: Callable[[], Any], on_gradients_ready: Callable[[], Any]) -> None:
        """Calls the first before each iteration, the second when its gradients are ready."""
        self._solver.add_callback(on_start, on_gradients_ready)


class SGDSolver(Solver):
    _type = "SGD"


class NesterovSolver(Solver):
    _type = "Nesterov"


class AdaGradSolver(Solver):
    _type = "AdaGrad"


class RMSPropSolver(Solver):
    _type = "RMSProp"


class AdaDeltaSolver(Solver):
    _type = "AdaDelta"


class AdamSolver(Solver):
    _type = "Adam"


_SOLVERS = {c._type: c for c in (SGDSolver, NesterovSolver, AdaGradSolver, RMSPropSolver, AdaDeltaSolver, AdamSolver)}


def get_solver(solver_file: str | Path) -> Solver:
    """The solver of the type that the file names."""
    kind = read_solver(solver_file).type
    if kind not in _SOLVERS:
        raise CaffeError(f"{solver_file}: unknown solver type '{kind}'; known: {', '.join(map(str, _SOLVERS))}")
    return _SOLVERS[kind](solver_file)
