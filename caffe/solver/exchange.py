"""How the training loop sees the averaging of gradients over ranks; `Alone` is the case of a single rank."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torch import Tensor

from caffe.solver.requests import Action


class Divergence(NamedTuple):
    """A loss that is not finite, of the last `batches` batches, and their records."""

    loss: float
    records: list[str]
    batches: int


class Exchange(ABC):
    """What the training loop tells the other ranks, and asks of them."""

    @abstractmethod
    def watch(self, params: Sequence[Tensor]) -> None:
        """Registers the parameters whose gradients are to be averaged."""

    @abstractmethod
    def begin(self, iteration: int) -> None:
        """An iteration begins."""

    @abstractmethod
    def accumulating(self, more: bool) -> None:
        """The next backward pass only adds to the gradients (`more`), or completes them."""

    @abstractmethod
    def finish(self) -> None:
        """Returns once every gradient is the average over the ranks, all of which had a finite loss."""

    @abstractmethod
    def divergence(self) -> Divergence | None:
        """The loss of another rank that has ended because it was not finite."""

    @abstractmethod
    def agree(self, request: Action, iteration: int) -> Action:
        """What all ranks do after `iteration` iterations, given what this rank was asked for."""

    @abstractmethod
    def wait_for_root(self, request: Action = Action.NONE) -> Action:
        """Waits until rank 0 comes here too, without a limit while rank 0 is alive. Returns rank 0's `request`."""

    @abstractmethod
    def from_root(self, key: str, value: str) -> str:
        """Rank 0's `value`, on every rank. Each `key` can be used once."""

    @abstractmethod
    def alive(self) -> None:
        """Rank 0 reports that it is alive, within a long piece of work."""

    @abstractmethod
    def share(self, tensors: Iterable[Tensor]) -> None:
        """Copies rank 0's values of these tensors to all ranks."""


class Alone(Exchange):
    """One rank: nothing to exchange."""

    def watch(self, params: Sequence[Tensor]) -> None: ...

    def begin(self, iteration: int) -> None: ...

    def accumulating(self, more: bool) -> None: ...

    def finish(self) -> None: ...

    def divergence(self) -> Divergence | None:
        return None

    def agree(self, request: Action, iteration: int) -> Action:
        return request

    def wait_for_root(self, request: Action = Action.NONE) -> Action:
        return request

    def from_root(self, key: str, value: str) -> str:
        return value

    def alive(self) -> None: ...

    def share(self, tensors: Iterable[Tensor]) -> None: ...
