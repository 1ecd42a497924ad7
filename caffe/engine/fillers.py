"""Fillers: the initial values of a blob (`weight_filler { type: "xavier" }`).

Fans as Caffe defines them, for a blob of shape (num, channels, …): fan_in = count / num, fan_out = count / channels.
The random numbers come from PyTorch's generator, so they are not those that the original drew from the same seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from caffe.errors import NetError

Fill = Callable[[Tensor, Any], None]


def _fan(blob: Tensor, filler: Any) -> float:
    fan_in = blob.numel() / blob.shape[0]
    fan_out = blob.numel() / (blob.shape[1] if blob.dim() > 1 else 1)
    norm = filler.VarianceNorm.Name(filler.variance_norm)
    return {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[norm]


def _constant(blob: Tensor, filler: Any) -> None:
    blob.fill_(filler.value)


def _uniform(blob: Tensor, filler: Any) -> None:
    blob.uniform_(filler.min, filler.max)


def _gaussian(blob: Tensor, filler: Any) -> None:
    blob.normal_(filler.mean, filler.std)
    if filler.sparse >= 0:
        # `sparse` is the mean number of non-zero inputs of an output, in a matrix of shape[0] outputs
        blob.mul_(torch.bernoulli(torch.full_like(blob, min(1.0, filler.sparse / blob.shape[0]))))


def _positive_unitball(blob: Tensor, filler: Any) -> None:
    rows = blob.uniform_(0, 1).view(blob.shape[0], -1)
    rows.div_(rows.sum(dim=1, keepdim=True))


def _gaussian_unitball(blob: Tensor, filler: Any) -> None:
    """Of caffe-windows: a vector of length 1 for each output, in a random direction."""
    rows = blob.normal_().view(blob.shape[0], -1)
    rows.div_((rows.square().sum(dim=1, keepdim=True) + 1e-12).sqrt())


def _xavier(blob: Tensor, filler: Any) -> None:
    bound = math.sqrt(3 / _fan(blob, filler))
    blob.uniform_(-bound, bound)


def _msra(blob: Tensor, filler: Any) -> None:
    blob.normal_(0, math.sqrt(2 / _fan(blob, filler)))


def _bilinear(blob: Tensor, filler: Any) -> None:
    size = blob.shape[-1]
    half = math.ceil(size / 2)
    center = (2 * half - 1 - half % 2) / (2 * half)
    ramp = 1 - (torch.arange(size, dtype=torch.float32) / half - center).abs()
    blob.copy_(torch.outer(ramp, ramp).expand_as(blob))


_FILLERS: dict[str, Callable[[Tensor, Any], None]] = {
    "constant": _constant,
    "uniform": _uniform,
    "gaussian": _gaussian,
    "positive_unitball": _positive_unitball,
    "gaussian_unitball": _gaussian_unitball,
    "xavier": _xavier,
    "msra": _msra,
    "bilinear": _bilinear,
}


class Deferred:
    """Parameters that still have to be filled, each with its filler and the function that fills it."""

    def __init__(self) -> None:
        self._waiting: list[tuple[nn.Parameter, Any, Fill]] = []

    def add(self, blob: nn.Parameter, filler: Any, run: Fill) -> None:
        """`run` fills the blob when that is asked for."""
        self._waiting.append((blob, filler, run))

    def fill(self, wanted: Iterable[nn.Parameter]) -> None:
        """Fills the parameters `wanted`, which no file has set."""
        ids = set(map(id, wanted))
        for blob, filler, run in self._waiting:
            if id(blob) in ids:
                run(blob.data, filler)
        self._waiting.clear()

    def try_out(self) -> None:
        """Fills the first row of each parameter, which shows what is wrong with a filler in a fraction of the time."""
        for blob, filler, run in self._waiting:
            run(blob.data[:1] if blob.dim() else blob.data, filler)


_deferred: Deferred | None = None


@contextmanager
def deferred() -> Iterator[Deferred]:
    """Inside, new parameters stay zero, and the Deferred holds what would have filled them.

    For a net whose weights follow from a file: most random numbers would be overwritten.
    """
    global _deferred
    before, _deferred = _deferred, Deferred()
    try:
        yield _deferred
    finally:
        _deferred = before


def defer(blob: nn.Parameter, filler: Any, run: Fill) -> bool:
    """Whether `run` fills the blob later, because this is inside `deferred`."""
    if _deferred is None:
        return False
    _deferred.add(blob, filler, run)
    return True


def _check_range(filler: Any) -> None:
    """Raises NetError for numbers between or around which nothing can be drawn."""
    if filler.type == "gaussian" and not (math.isfinite(filler.mean) and 0 <= filler.std < math.inf):
        raise NetError(
            f"filler 'gaussian' needs a finite mean and a std of at least 0; found mean {filler.mean:g}, std {filler.std:g}"
        )
    if filler.type == "uniform" and not 0 <= filler.max - filler.min <= torch.finfo(torch.float32).max:
        raise NetError(
            f"filler 'uniform' needs min <= max, both finite and less than 3.4e38 apart; found min {filler.min:g}, "
            f"max {filler.max:g}"
        )


def fill(blob: Tensor, filler: Any) -> None:
    """Fills `blob` in place as the FillerParameter says. Raises NetError for an unknown or unsuitable filler."""
    if filler.type not in _FILLERS:
        raise NetError(f"unknown filler '{filler.type}'; known: {', '.join(_FILLERS)}")
    if filler.sparse != -1 and filler.type != "gaussian":
        raise NetError(f"filler '{filler.type}' has no sparse form; only gaussian does")
    if filler.type == "bilinear" and (blob.dim() != 4 or blob.shape[2] != blob.shape[3]):
        raise NetError(f"filler 'bilinear' needs a square filter of 4 axes, not {tuple(blob.shape)}")
    _check_range(filler)
    if blob.numel():
        with torch.no_grad():
            _FILLERS[filler.type](blob, filler)
