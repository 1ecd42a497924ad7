"""The snapshots on disk under a prefix: which are there, which of them are whole, and which may go."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caffe import log
from caffe.engine.weights import not_finite
from caffe.errors import CaffeError
from caffe.proto.solver_state import SolverState, read_solver_state
from caffe.proto.weights import read_weights
from caffe.solver import checksums

_STATE = re.compile(r"(.*)_iter_(\d+)\.solverstate(\.h5)?", re.DOTALL)


@dataclass(frozen=True)
class Snapshot:
    """A solver state, its iteration, and where its checksums are."""

    iteration: int
    state: str

    @property
    def stem(self) -> str:
        """The path without `.solverstate` or `.solverstate.h5`."""
        return self.state.rpartition(".solverstate")[0]

    @property
    def checksums(self) -> str:
        return checksums_name(self.stem)


def checksums_name(stem: str) -> str:
    """The file with the checksums of the snapshot `<prefix>_iter_<N>`."""
    return f"{stem}.sha256"


def best_name(param: Any, extension: str) -> str:
    """`<prefix>_best<extension>`."""
    return f"{param.snapshot_prefix}_best{extension}"


def snapshots_under(prefix: str) -> list[Snapshot]:
    """All solver states under a prefix, the newest first."""
    folder, name = os.path.split(prefix)
    found = []
    with suppress(OSError):
        for entry in os.listdir(folder or "."):
            match = _STATE.fullmatch(entry)
            if match and match[1] == name:
                found.append(Snapshot(int(match[2]), os.path.join(folder, entry)))
    return sorted(found, key=lambda each: (each.iteration, each.state), reverse=True)


def weights_of(state_path: str, learned_net: str) -> str:
    """The weights that a solver state goes with: where it says they are, else beside it.

    If the snapshot has checksums, they must match: the state's file, and the weights in one of the two places. Raises
    CaffeError if they do not, or if the weights are in neither place.
    """
    beside = os.path.join(os.path.dirname(state_path), os.path.basename(learned_net))
    places = [place for place in dict.fromkeys((learned_net, beside)) if os.path.exists(place)]
    known = checksums.read(checksums_name(state_path.rpartition(".solverstate")[0]))
    wanted_state, wanted = known.get(os.path.basename(state_path)), known.get(os.path.basename(learned_net))
    if wanted_state is not None and checksums.digest(state_path) != wanted_state:
        raise CaffeError(f"{state_path}: damaged or of another training: its checksum is not that of the snapshot")
    if not places:
        raise CaffeError(
            f"{state_path}: the weights it goes with, {learned_net}, are neither there nor beside it; "
            "put the .caffemodel of the same iteration beside the state"
        )
    if wanted is None:
        return places[0]
    for place in places:
        if checksums.digest(place) == wanted:
            return place
    raise CaffeError(
        f"{places[-1]}: damaged, or not the weights of {state_path}: its checksum is not that of the snapshot"
    )


def read_whole(state_path: str) -> tuple[SolverState, str]:
    """A solver state and the file of its weights, empty if it names none.

    Raises CaffeError for files that are missing, damaged, or not those of one snapshot, and for values that are nan or
    infinite.
    """
    state = read_solver_state(state_path)
    for index, array in enumerate(state.history):
        if not np.isfinite(array).all():
            raise CaffeError(f"{state_path}: history blob {index} holds values that are nan or infinite")
    if not state.learned_net:
        return state, ""
    weights = weights_of(state_path, state.learned_net)
    for layer in read_weights(weights):
        if found := not_finite(layer):
            raise CaffeError(f"{weights}: {found}")
    return state, weights


def problem(state_path: str) -> str:
    """Why a snapshot cannot be resumed from, in words; empty if it is whole."""
    try:
        read_whole(state_path)
    except CaffeError as error:
        return str(error)
    return ""


def newest_whole(prefix: str, *, other_than: str = "") -> str | None:
    """The newest snapshot under a prefix that is whole; logs a warning for each newer one that is not."""
    for snapshot in snapshots_under(prefix):
        if other_than and os.path.abspath(snapshot.state) == os.path.abspath(other_than):
            continue
        if not (why := problem(snapshot.state)):
            return snapshot.state
        log.warning(log.here(), f"Snapshot {snapshot.state} is not used: {why}")
    return None


def advice(state_path: str) -> str:
    """What to resume from instead of a snapshot that is refused, as a sentence."""
    match = _STATE.fullmatch(state_path)
    other = newest_whole(match[1], other_than=state_path) if match else None
    return f"The newest whole snapshot is {other}" if other else "There is no other whole snapshot beside it"


def remove_older(prefix: str, iteration: int, keep: int) -> None:
    """Removes the snapshots before `iteration`, apart from the newest `keep` - 1 of them."""
    older = sorted({each.iteration for each in snapshots_under(prefix) if each.iteration < iteration}, reverse=True)
    remove(prefix, older[keep - 1 :])


def remove(prefix: str, iterations: Iterable[int]) -> None:
    """Removes snapshots. One with a file that cannot be removed stays, from that file on, with a warning.

    The state goes first: without it nobody takes the rest for a snapshot.
    """
    for iteration in iterations:
        for extension in (".solverstate", ".solverstate.h5", ".caffemodel", ".caffemodel.h5", ".sha256"):
            path = Path(f"{prefix}_iter_{iteration}{extension}")
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning(log.here(), f"{path}: an old snapshot that cannot be removed: {error.strerror}")
                break


def check_start_stays(param: Any, weights: Iterable[str]) -> None:
    """Raises CaffeError if a run that overwrites another one starts from weights of that one, which would be removed."""
    prefix = re.escape(os.path.abspath(param.snapshot_prefix))
    for path in weights:
        if re.fullmatch(rf"{prefix}_(iter_\d+|best)\.caffemodel(\.h5)?", os.path.abspath(path)):
            raise CaffeError(
                f"-weights {path} is one of the snapshots that -overwrite removes: give another snapshot_prefix, or move it"
            )


def check_nothing_is_overwritten(param: Any) -> None:
    """Raises CaffeError if a new run's snapshots would overwrite, or be mixed with, those of another one."""
    prefix = param.snapshot_prefix
    if not param.snapshot and not param.snapshot_after_train:
        return
    folder, name = os.path.split(prefix)
    pattern = re.compile(re.escape(name) + r"_(?:iter_(\d+)|best)\.(solverstate|caffemodel)(\.h5)?")
    found: list[tuple[int, str]] = []
    with suppress(OSError):
        for entry in os.listdir(folder or "."):
            match = pattern.fullmatch(entry)
            # weights alone, beyond the last iteration, are what a training starts from
            if match and (match[2] == "solverstate" or int(match[1] or 0) <= param.max_iter):
                found.append((int(match[1] or 0), os.path.join(folder, entry)))
    if found:
        raise CaffeError(
            f"there are snapshots of another run under the prefix '{prefix}', such as {max(found)[1]}. Give -snapshot "
            "auto to go on from the newest, -overwrite to start again and overwrite them, or another snapshot_prefix"
        )
