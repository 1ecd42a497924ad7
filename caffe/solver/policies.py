"""How the learning rate falls: Caffe's lr_policy (SGDSolver::GetLearningRate in sgd_solver.cpp)."""

from __future__ import annotations

import math
from typing import Any

from caffe import log
from caffe.errors import CaffeError
from caffe.solver.number_format import ostream_number

KNOWN = ("fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid", "plateau")
#: what each policy reads besides base_lr; a missing field would divide by zero or keep the rate at zero
_NEEDS = {"step": ("gamma", "stepsize"), "exp": ("gamma",), "inv": ("gamma", "power"), "multistep": ("gamma",),
          "poly": ("power", "max_iter"), "sigmoid": ("gamma", "stepsize"), "plateau": ("gamma",)}  # fmt: skip
_NO_LOSS_YET = 3.4028234663852886e38  # the largest float, as the original starts with


class LearningRatePolicy:
    """The rate of each iteration, and the state that a solver state stores.

    For a policy of another fork there is only a warning at first, because the solver may be read for its nets alone.
    Asking for a rate is then an error.
    """

    def __init__(self, param: Any) -> None:
        """`param` is the SolverParameter."""
        self.param = param
        self.name: str = param.lr_policy or "fixed"
        self.current_step = 0
        self.iter_last_event = 0
        self.minimum_loss = _NO_LOSS_YET
        if self.name not in KNOWN:
            log.warning(log.here(), f"{self._unknown()}. The nets can be used, but not trained.")

    @property
    def state(self) -> list[float]:
        """current_step, iter_last_event and minimum_loss, to be handed to another process."""
        return [self.current_step, self.iter_last_event, self.minimum_loss]

    @state.setter
    def state(self, values: list[float]) -> None:
        self.current_step, self.iter_last_event, self.minimum_loss = int(values[0]), int(values[1]), values[2]

    def check(self) -> None:
        """Raises a CaffeError if these settings do not define a rate."""
        if self.name not in KNOWN:
            raise CaffeError(f"solver: {self._unknown()}. Choose one of these to train.")
        missing = [field for field in _NEEDS.get(self.name, ()) if not self.param.HasField(field)]
        if missing:
            raise CaffeError(f'solver: lr_policy "{self.name}" needs {" and ".join(missing)}')
        if self.name == "step" and self.param.stepsize < 1:
            raise CaffeError(f"solver: stepsize is {self.param.stepsize}; it must be at least 1")

    def rate(self, iteration: int, smoothed_loss: float) -> float:
        """The learning rate of `iteration`, before any lr_mult. Must be called once per iteration, in order."""
        self.check()
        p = self.param
        base, gamma = p.base_lr, p.gamma
        if self.name == "step":
            self.current_step = iteration // p.stepsize
        elif self.name == "multistep":
            self._multistep(iteration)
        elif self.name == "plateau":
            self._plateau(iteration, smoothed_loss)
        if self.name in ("step", "multistep", "plateau"):
            return float(base * gamma**self.current_step)
        if self.name == "exp":
            return float(base * gamma**iteration)
        if self.name == "inv":
            return float(base * (1 + gamma * iteration) ** -p.power)
        if self.name == "poly":
            # Past max_iter a fractional power would be complex; the rate has reached 0 there.
            return float(base * max(0.0, 1 - iteration / p.max_iter) ** p.power)
        if self.name == "sigmoid":
            return float(base * _sigmoid(gamma * (iteration - p.stepsize)))
        return float(base)

    def log_resumed(self, iteration: int) -> None:
        """Says which rate a run goes on with from a snapshot of `iteration`, and why.

        A solver state has the number of steps that its run had taken. Where these settings say another number, the
        schedule has changed since then, and a warning says what follows; the rate is the original's in any case.
        """
        if self.name not in KNOWN:
            return
        if self.name == "multistep":
            return self._log_resumed_multistep(iteration)
        if self.name == "plateau":
            rate = self.param.base_lr * self.param.gamma**self.current_step
        else:
            rate = LearningRatePolicy(self.param).rate(iteration, _NO_LOSS_YET)
        p, base = self.param, f"base_lr {ostream_number(self.param.base_lr)}"
        why = {
            "fixed": base,
            "step": f"{base} x gamma {ostream_number(p.gamma)}^{iteration // max(p.stepsize, 1)}, stepsize {p.stepsize}",
            "poly": f"{base}, poly to 0 at max_iter {p.max_iter}",
            "plateau": f"{base} x gamma {ostream_number(p.gamma)}^{self.current_step}, as the snapshot has taken "
            f"{self.current_step} steps",
        }.get(self.name, f"{base}, {self.name}")
        log.info(log.here(), f"Learning rate {ostream_number(rate)} from iteration {iteration} on: {why}")

    def _log_resumed_multistep(self, iteration: int) -> None:
        p, taken = self.param, self.current_step
        values = list(p.stepvalue)
        due = sum(value <= iteration for value in values)
        base, gamma = ostream_number(p.base_lr), ostream_number(p.gamma)

        def rate(steps: int) -> str:
            return ostream_number(p.base_lr * p.gamma**steps)

        why = f"base_lr {base} x gamma {gamma}^{max(taken, due)}"
        tell = log.info
        if due > taken:
            if values[taken] < iteration:
                tell = log.warning
            text = (
                f"Resuming at iteration {iteration}, which has reached stepvalue {values[due - 1]}, where the snapshot's "
                f"run had not taken this step: the learning rate falls from {rate(taken)} to {rate(due)} ({why}) from here"
                + (", by one step in each iteration" if due - taken > 1 else "")
            )
        elif due < taken:
            tell = log.warning
            steps = "1 step" if taken == 1 else f"{taken} steps"
            ahead = f"its stepvalue {values[due]} is still ahead" if due < len(values) else "it has no more stepvalue"
            text = (
                f"The snapshot's run has taken {steps} of the learning rate, this solver only {due} by iteration "
                f"{iteration}; {ahead}. As in the original, the rate stays {rate(taken)} ({why})"
            )
            if p.gamma > 0:
                text += f"; -base_lr {ostream_number(p.base_lr / p.gamma ** (taken - due))} makes it {rate(due)}"
        else:
            after = f"past stepvalue {values[taken - 1]}" if taken else "before the first stepvalue"
            ahead = f"; the next stepvalue is {values[taken]}" if taken < len(values) else ""
            text = f"Learning rate {rate(taken)} from iteration {iteration} on: {why}, {after}{ahead}"
        tell(log.here(), text)

    def _multistep(self, iteration: int) -> None:
        if self.current_step < len(self.param.stepvalue) and iteration >= self.param.stepvalue[self.current_step]:
            self.current_step += 1
            log.info("sgd_solver.cpp:47", f"MultiStep Status: Iteration {iteration}, step = {self.current_step}")

    def _plateau(self, iteration: int, smoothed_loss: float) -> None:
        """A step down when the smoothed loss has not reached a new minimum for plateau_winsize[step] iterations."""
        if smoothed_loss < self.minimum_loss:
            self.minimum_loss = smoothed_loss
            self.iter_last_event = iteration
        windows = self.param.plateau_winsize
        if self.current_step < len(windows) and iteration >= self.iter_last_event + windows[self.current_step]:
            self.current_step += 1
            self.iter_last_event = iteration
            log.info("sgd_solver.cpp:76", f"Plateau Status: Iteration {iteration}, step = {self.current_step}")
        display = self.param.display
        if display and iteration % display == 0 and self.iter_last_event > iteration - display:
            minimum = ostream_number(self.minimum_loss)
            log.info("sgd_solver.cpp:83", f"Plateau Status: Iteration {iteration}, current minimum_loss = {minimum}")

    def _unknown(self) -> str:
        return f"unknown lr_policy '{self.name}'; known: {', '.join(KNOWN)}"


def _sigmoid(x: float) -> float:
    """1 / (1 + e^-x) without overflow for large negative x."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
