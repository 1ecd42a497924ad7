"""What looks on while a net is trained: files of numbers, events and pictures. None of it can end the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from caffe import log
from caffe.engine.net import Net
from caffe.errors import shown


@dataclass(frozen=True)
class Displayed:
    """What is displayed of an iteration: its smoothed loss, learning rate, and the training net's scalar outputs."""

    iteration: int
    loss: float
    rate: float
    outputs: Mapping[str, float]


@dataclass(frozen=True)
class Tested:
    """The scores of a test, from 0 to 1 where they are average precision: one per output, and one per class."""

    iteration: int
    index: int
    scores: Mapping[str, float]
    #: by the name of the class, or `class3` where no label map is known
    classes: Mapping[str, float] = field(default_factory=dict)
    #: how long the test took
    seconds: float = 0.0


class Watcher:
    """Is told what happens during training. Each method does nothing unless a subclass overrides it."""

    #: what the warning calls it
    name = "watcher"

    def begins(self, iteration: int, images_per_update: int) -> None:
        """Training begins after `iteration` iterations."""

    def earlier_tests(self) -> Sequence[Tested]:
        """The tests before the iteration at which training began, oldest first, if they are known; asked after `begins`."""
        return ()

    def displayed(self, row: Displayed) -> None:
        """An iteration has been displayed and its update made."""

    def wanted_blobs(self, net: Net, index: int) -> Sequence[str]:
        """The blobs of the next batch of test net `index` that `test_batch` needs."""
        return ()

    def test_batch(self, net: Net, index: int, blobs: Mapping[str, Tensor]) -> None:
        """A batch of a test has been computed; `blobs` has at least the outputs and the wanted ones."""

    def tested(self, result: Tested) -> None:
        """A test has ended."""

    def ends(self) -> None:
        """Training has ended, in whatever way."""


class Watchers:
    """Tells all of `watchers`. One that raises an error is left out from then on, with a warning."""

    def __init__(self, watchers: Iterable[Watcher] = ()) -> None:
        self._watchers = list(watchers)

    def __bool__(self) -> bool:
        return bool(self._watchers)

    def tell(self, what: Callable[[Watcher], object]) -> None:
        """Calls `what` with each watcher."""
        for watcher in list(self._watchers):
            try:
                what(watcher)
            except Exception as error:
                self._watchers.remove(watcher)
                reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                reason = shown(reason or type(error).__name__)
                log.warning(log.here(), f"{watcher.name}: {reason}. Training goes on without it")

    def earlier_tests(self) -> list[Tested]:
        """The tests of the run before it was resumed, from all of them."""
        tests: list[Tested] = []
        self.tell(lambda watcher: tests.extend(watcher.earlier_tests()))
        return tests

    def wanted_blobs(self, net: Net, index: int) -> list[str]:
        """The blobs that any of them wants of the next batch of a test."""
        names: dict[str, None] = {}
        self.tell(lambda watcher: names.update(dict.fromkeys(watcher.wanted_blobs(net, index))))
        return list(names)

    def test_batch(self, net: Net, index: int, blobs: Mapping[str, Tensor]) -> None:
        """Tells all that a batch of a test has been computed; arguments as of `Watcher.test_batch`."""
        self.tell(lambda watcher: watcher.test_batch(net, index, blobs))
