"""How weights move: the update rules of Caffe's solvers, on lists of tensors.

Notation: w a weight blob, g its gradient, h (and k) the rule's history of it, r the learning rate times the blob's
lr_mult, m momentum, d delta. One step is `clip`, `normalize`, `regularize`, then the rule's own update; the order is
Caffe's (caffe/solvers/sgd_solver.cpp). Blobs with equal multipliers go through torch._foreach together.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from caffe import log
from caffe.errors import CaffeError
from caffe.solver.number_format import ostream_number

#: what torch's foreach functions take and return
Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass
class _Group:
    """Blobs that share both multipliers, so that one foreach call serves them all."""

    lr_mult: float
    decay_mult: float
    #: positions in the list of all blobs
    index: list[int]


def _one_minus(value: float) -> float:
    """1 - value in single precision, as the original computes it."""
    return float(np.float32(1) - np.float32(value))


class UpdateRule:
    """SGD with momentum, and the base of the other rules: h = m h + r g; w -= h.

    `history` is what a solver state stores, in Caffe's order: one blob per weight blob in the order of `params`. Rules
    that keep two append all the second ones after the first.
    """

    type_name: ClassVar[str] = "SGD"
    histories: ClassVar[int] = 1

    def __init__(
        self, param: Any, params: Sequence[Tensor], lr_mults: Sequence[float], decay_mults: Sequence[float]
    ) -> None:
        """`param` is the SolverParameter; `params` the weight blobs with their lr_mult and decay_mult."""
        assert len(params) == len(lr_mults) == len(decay_mults)
        self.param = param
        self.params = list(params)
        self.history = [torch.zeros_like(p) for _ in range(self.histories) for p in params]
        by_multipliers: dict[tuple[float, float], list[int]] = defaultdict(list)
        for i, multipliers in enumerate(zip(lr_mults, decay_mults, strict=True)):
            if multipliers[0]:  # a frozen blob has no gradient and never changes
                by_multipliers[multipliers].append(i)
        self._groups = [_Group(lr, decay, index) for (lr, decay), index in by_multipliers.items()]
        if param.weight_decay and param.regularization_type not in ("L2", "L1"):
            raise CaffeError(f"solver: unknown regularization_type '{param.regularization_type}'; known: L2, L1")
        self.check()

    def check(self) -> None:
        """Raises a CaffeError for settings that the rule cannot work with."""

    def rates(self, rate: float, iteration: int) -> list[float]:
        """The factor of each group's step, given the learning rate."""
        return [rate * group.lr_mult for group in self._groups]

    def apply(self, rate: float, iteration: int, keep_updates: bool = False) -> None:
        """Updates the weights by one step from their `.grad`, summed over iter_size passes.

        Gradients are overwritten; with `keep_updates` they then hold what was subtracted, as Caffe's diffs do.
        """
        norm = self.apply_rates(self.rates(rate, iteration), keep_updates)
        if norm is not None:
            self.log_clipping(float(norm))

    @torch.no_grad()
    def apply_rates(self, rates: Sequence[float | Tensor], keep_updates: bool = False) -> Tensor | None:
        """Like `apply`, given each group's rate. Rates that are tensors (scalars on the weights' device) stay there.

        With such rates nothing waits for the device or depends on values, so a CUDA graph can record it.
        Returns the norm of all gradients before they were scaled down; None without clip_gradients.
        """
        for group in self._groups:
            for i in group.index:
                if self.params[i].grad is None:  # a blob that the loss does not reach: regularization still applies
                    self.params[i].grad = torch.zeros_like(self.params[i])
        norm = self._clip(on_device=any(isinstance(rate, Tensor) for rate in rates))
        for group, rate in zip(self._groups, rates, strict=True):
            params = [self.params[i] for i in group.index]
            grads = _grads(params)
            if self.param.iter_size > 1:
                torch._foreach_mul_(grads, 1.0 / self.param.iter_size)
            self._regularize(params, grads, self.param.weight_decay * group.decay_mult)
            histories = [[self.history[n * len(self.params) + i] for i in group.index] for n in range(self.histories)]
            updates = self.update(grads, histories, rate)
            torch._foreach_sub_(params, updates)
            if keep_updates:
                torch._foreach_copy_(grads, updates)
        return norm

    def update(self, grads: list[Tensor], histories: list[list[Tensor]], rate: float | Tensor) -> Tensors:
        """Updates the histories and returns what to subtract from the weights; may reuse `grads`."""
        (h,) = histories
        torch._foreach_mul_(h, self.param.momentum)
        _add_scaled(h, grads, rate)
        return h

    def _clip(self, on_device: bool) -> Tensor | None:
        """Scales all gradients so that their norm, taken over all blobs together, is at most clip_gradients."""
        limit = self.param.clip_gradients
        grads = _grads([self.params[i] for group in self._groups for i in group.index])
        if limit < 0 or not grads:
            return None
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        if on_device:
            torch._foreach_mul_(grads, torch.where(norm > limit, limit / norm, 1.0))
        elif float(norm) > limit:
            torch._foreach_mul_(grads, limit / float(norm))
        return norm

    def log_clipping(self, norm: float) -> None:
        """Logs that gradients of this norm were scaled down, if they were."""
        limit = self.param.clip_gradients
        if norm > limit:
            log.info(
                "sgd_solver.cpp:124",
                f"Gradient clipping: scaling down gradients (L2 norm {ostream_number(norm)} > {ostream_number(limit)}) "
                f"by scale factor {ostream_number(limit / norm)}",
            )

    def _regularize(self, params: list[Tensor], grads: list[Tensor], decay: float) -> None:
        if not decay:
            return
        if self.param.regularization_type == "L2":
            torch._foreach_add_(grads, params, alpha=decay)
        else:
            torch._foreach_add_(grads, torch._foreach_sign(params), alpha=decay)


class Nesterov(UpdateRule):
    """h' = m h + r g; w -= (1 + m) h' - m h (nesterov_solver.cpp)."""

    type_name = "Nesterov"

    def update(self, grads: list[Tensor], histories: list[list[Tensor]], rate: float | Tensor) -> Tensors:
        (h,) = histories
        momentum = self.param.momentum
        before = torch._foreach_mul(h, -momentum)
        torch._foreach_mul_(h, momentum)
        _add_scaled(h, grads, rate)
        torch._foreach_add_(before, h, alpha=1 + momentum)
        return before


class AdaGrad(UpdateRule):
    """h += g²; w -= r g / (√h + d) (adagrad_solver.cpp)."""

    type_name = "AdaGrad"

    def check(self) -> None:
        _no_momentum(self)

    def update(self, grads: list[Tensor], histories: list[list[Tensor]], rate: float | Tensor) -> Tensors:
        (h,) = histories
        torch._foreach_addcmul_(h, grads, grads)
        return _over_root(grads, h, self.param.delta, rate)


class RMSProp(UpdateRule):
    """h = p h + (1 - p) g², p being rms_decay; w -= r g / (√h + d) (rmsprop_solver.cpp)."""

    type_name = "RMSProp"

    def check(self) -> None:
        _no_momentum(self)
        if not 0 <= self.param.rms_decay < 1:
            raise CaffeError(f"solver: rms_decay is {self.param.rms_decay:g}; it must be at least 0 and below 1")

    def update(self, grads: list[Tensor], histories: list[list[Tensor]], rate: float | Tensor) -> Tensors:
        (h,) = histories
        decay = self.param.rms_decay
        torch._foreach_mul_(h, decay)
        torch._foreach_addcmul_(h, grads, grads, value=_one_minus(decay))
        return _over_root(grads, h, self.param.delta, rate)


class AdaDelta(UpdateRule):
    """h = m h + (1 - m) g²; u = g √((k + d) / (h + d)); k = m k + (1 - m) u²; w -= r u (adadelta_solver.cpp)."""

    type_name = "AdaDelta"
    histories = 2

    def update(self, grads: list[Tensor], histories: list[list[Tensor]], rate: float | Tensor) -> Tensors:
        h, k = histories
        momentum, delta = self.param.momentum, self.param.delta
        torch._foreach_mul_(h, momentum)
        torch._foreach_addcmul_(h, grads, grads, value=_one_minus(momentum))
        ratio = torch._foreach_add(k, delta)
        torch._foreach_div_(ratio, torch._foreach_add(h, delta))
        torch._foreach_sqrt_(ratio)
        torch._foreach_mul_(grads, ratio)
        torch._foreach_mul_(k, momentum)
        torch._foreach_addcmul_(k, grads, grads, value=_one_minus(momentum))
        torch._foreach_mul_(grads, rate)
        return grads


class Adam(UpdateRule):
    """h = m h + (1 - m) g; k = n k + (1 - n) g², n being momentum2; w -= r c h / (√k + d) (adam_solver.cpp).

    c = √(1 - n^t) / (1 - m^t) corrects the bias of the first steps towards zero; t counts steps from 1.
    """

    type_name = "Adam"
    histories = 2

    def rates(self, rate: float, iteration: int) -> list[float]:
        step = iteration + 1
        correction = math.sqrt(1 - self.param.momentum2**step) / (1 - self.param.momentum**step)
        return [group_rate * correction for group_rate in super().rates(rate, iteration)]

    def update(self, grads: list[Tensor], histories: list[list[Tensor]], rate: float | Tensor) -> Tensors:
        h, k = histories
        beta1, beta2 = self.param.momentum, self.param.momentum2
        torch._foreach_mul_(h, beta1)
        torch._foreach_add_(h, grads, alpha=_one_minus(beta1))
        torch._foreach_mul_(k, beta2)
        torch._foreach_addcmul_(k, grads, grads, value=_one_minus(beta2))
        return _over_root(h, k, self.param.delta, rate)


def _grads(params: Sequence[Tensor]) -> list[Tensor]:
    return [p.grad for p in params if p.grad is not None]


def _add_scaled(sums: list[Tensor], terms: list[Tensor], scale: float | Tensor) -> None:
    """sums += scale · terms. A scale on the device leaves the terms scaled."""
    if isinstance(scale, Tensor):
        torch._foreach_mul_(terms, scale)
        torch._foreach_add_(sums, terms)
    else:
        torch._foreach_add_(sums, terms, alpha=scale)


def _over_root(numerator: list[Tensor], squares: list[Tensor], delta: float, rate: float | Tensor) -> Tensors:
    """rate · numerator / (√squares + delta), as new tensors."""
    root = torch._foreach_sqrt(squares)
    torch._foreach_add_(root, delta)
    quotient: Tensors = torch._foreach_div(numerator, root)
    torch._foreach_mul_(quotient, rate)
    return quotient


def _no_momentum(rule: UpdateRule) -> None:
    if rule.param.momentum:
        raise CaffeError(
            f"solver: {rule.type_name} has no momentum, but momentum is {rule.param.momentum:g}; remove it"
        )


RULES: dict[str, type[UpdateRule]] = {
    rule.type_name: rule for rule in (UpdateRule, Nesterov, AdaGrad, RMSProp, AdaDelta, Adam)
}


def rule_for(type_name: str) -> type[UpdateRule]:
    """The rule that a solver prototxt's `type` names; a CaffeError with the known ones otherwise."""
    if type_name not in RULES:
        raise CaffeError(f"solver: unknown type '{type_name}'; known: {', '.join(sorted(RULES))}")
    return RULES[type_name]
