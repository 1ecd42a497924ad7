"""A loss that is not finite: what is said about it, and how training may go on."""

from __future__ import annotations

from collections.abc import Sequence

from caffe.errors import CaffeError
from caffe.solver.number_format import ostream_number


class LossNotFiniteError(CaffeError):
    """Training has diverged or met bad data; the weights may be ruined already.

    `loss` is that of the last `batches` batches, which had these `records`. `iteration` is the one that was not
    completed, `newest` iteration and weights of the last snapshot of this run, `aside` the solver state before that
    iteration, which was written after the error; empty if it was not.
    """

    def __init__(
        self,
        loss: float,
        iteration: int,
        rate: float,
        records: Sequence[str],
        batches: int,
        newest: tuple[int, str] | None,
        *,
        updated: bool,
    ) -> None:
        """`rate`: the learning rate. `updated`: the weights have been changed by this loss's gradients already."""
        self.loss, self.records, self.batches = loss, records, batches
        self.iteration, self.newest, self.aside = iteration, newest, ""
        kept = f"the last snapshot is {newest[1]}" if newest else "no snapshot has been written yet"
        whose = "the batch" if batches == 1 else f"its {batches} batches"
        seen = f"; records of {whose}: {', '.join(records)}" if records else ""
        weights = "weights were updated with it" if updated else "weights were not updated with it"
        super().__init__(
            f"training stopped: the loss is {ostream_number(loss)} at iteration {iteration}, learning rate "
            f"{ostream_number(rate)}{seen}. The {weights}; {kept}. Usual causes: a base_lr that is "
            "too high (try a tenth of it, or clip_gradients: 10), weights that were not loaded, boxes outside the image"
        )
