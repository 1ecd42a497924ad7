"""Reading a scalar from the device without holding up what is queued after it."""

from __future__ import annotations

import torch
from torch import Tensor


class ScalarOnItsWay:
    """A scalar on its way from the device: asked for before the backward pass is queued, read while that one runs."""

    def __init__(self, value: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._host = value
        if value.is_cuda:
            self._host = torch.empty((), dtype=value.dtype, pin_memory=True)
            self._host.copy_(value, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> float:
        """The value; waits until it has arrived."""
        if self._event is not None:
            self._event.synchronize()
        return float(self._host)
