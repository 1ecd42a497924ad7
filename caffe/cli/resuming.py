"""`caffe train -snapshot`: which snapshot `auto` means, and the command that goes on after a loss that is not finite."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from caffe import log
from caffe.cli.flags import WEIGHTS

if TYPE_CHECKING:  # this needs PyTorch, which takes a while to import
    from caffe.solver.divergence import LossNotFiniteError

#: -snapshot auto
AUTO = "auto"
#: what `how_to_go_on` says anew
_REPLACED = ("snapshot", *WEIGHTS, "overwrite", "nooverwrite", "base_lr", "skip_iterations")


def newest(param: Any) -> str:
    """The newest whole snapshot under the solver's prefix; empty, with a line in the log, if there is none."""
    from caffe.solver.snapshot_files import newest_whole

    found = newest_whole(param.snapshot_prefix)
    if found is None:
        log.info(log.here(), f"No whole snapshot under '{param.snapshot_prefix}': starting from the beginning.")
    return found or ""


def warn_of_later(param: Any, iteration: int) -> None:
    """Warns, before a run goes on from `iteration`, of snapshots that `auto` would prefer to the first of this run."""
    from caffe.solver.snapshot_files import snapshots_under

    found = snapshots_under(param.snapshot_prefix)
    if found and found[0].iteration > iteration:
        log.warning(
            log.here(),
            f"{found[0].state} is of a later iteration than {iteration}, and stays until this run gets there: remove it "
            "if -snapshot auto should not take it",
        )


def how_to_go_on(
    words: Sequence[str], weights: str, param: Any, error: LossNotFiniteError, start: tuple[str, int], skipped: int
) -> str:
    """The command that goes on with a tenth of the rate, with the records behind those that led to the error.

    Another one, if the weights before the error were set aside, goes on from these, without its records.

    `words` and `weights` are the command line and its -weights, `start` the solver state that the run began with, empty
    for none, and its iteration, `skipped` its -skip_iterations.
    """
    from caffe.solver.number_format import ostream_number

    state, first = start
    if error.newest:
        first, newest_weights = error.newest
        state = newest_weights.replace(".caffemodel", ".solverstate")
    command = ["caffe", "train", *_without(words, _REPLACED)]
    if state:
        command += ["-snapshot", state]
    else:
        command += [*(["-weights", weights] if weights else []), "-overwrite"]
    command += ["-base_lr", ostream_number(param.base_lr / 10)]
    command += ["-skip_iterations", str(skipped + error.iteration + 1 - first)]
    text = f"To go on with a tenth of the rate, over other records:\n  {shlex.join(command)}"
    if error.aside:
        other = [
            "caffe",
            "train",
            *_without(words, ("snapshot", "weights", "overwrite", "nooverwrite", "skip_iterations")),
        ]
        other += ["-snapshot", error.aside, "-skip_iterations", str(skipped + 1)]
        text += f"\nIf these records are at fault, to go on from the weights before them:\n  {shlex.join(other)}"
    return text


def _without(words: Sequence[str], names: Collection[str]) -> list[str]:
    """A command line's words without some of its flags and their values."""
    kept, drop_value = [], False
    for word in words:
        name, equals, _ = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        if word.startswith("-"):
            drop_value = name in names and not equals
            if name in names:
                continue
        elif drop_value:
            drop_value = False
            continue
        kept.append(word)
    return kept
