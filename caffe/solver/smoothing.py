"""The loss as displayed: its average over the last average_loss iterations (Solver::UpdateSmoothedLoss)."""

from __future__ import annotations

import numpy as np


class SmoothedLoss:
    """A running mean over a window, in single precision as the original keeps it."""

    def __init__(self, window: int) -> None:
        self._window = window
        self.clear()

    def clear(self) -> None:
        """Forgets all losses."""
        self._losses: list[np.float32] = []
        self._next = 0
        self._value = np.float32(0)

    def add(self, loss: float) -> None:
        """Takes the loss of one more iteration."""
        new = np.float32(loss)
        if len(self._losses) < self._window:
            self._losses.append(new)
            n = np.float32(len(self._losses))
            self._value = (self._value * (n - np.float32(1)) + new) / n
        else:
            self._value += (new - self._losses[self._next]) / np.float32(self._window)
            self._losses[self._next] = new
            self._next = (self._next + 1) % self._window

    @property
    def value(self) -> float:
        return float(self._value)
