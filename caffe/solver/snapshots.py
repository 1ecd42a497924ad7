"""Snapshots: names, the check that they can be written, writing weights and solver state, reading them back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe import log
from caffe.engine.weights import copy_trained_from
from caffe.engine.weights import save as save_weights
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from caffe.proto.solver_state import SolverState, write_solver_state
from caffe.solver import checksums
from caffe.solver.snapshot_files import advice, checksums_name, read_whole


def snapshot_name(param: Any, iteration: int, extension: str) -> str:
    """`<prefix>_iter_<N><extension>`, with `.h5` after it when the solver asks for HDF5."""
    hdf5 = ".h5" if param.snapshot_format == caffe_pb2.SolverParameter.HDF5 else ""
    return f"{param.snapshot_prefix}_iter_{iteration}{extension}{hdf5}"


def check_writable(param: Any, at_end: bool = False) -> None:
    """Raises a CaffeError now if a snapshot could not be written later; `at_end`: even if only the last one is due."""
    if param.snapshot < 0:
        raise CaffeError(f"solver: snapshot is {param.snapshot}; it must be 0 (none) or a number of iterations")
    if not param.snapshot and not (at_end and param.snapshot_after_train):
        return
    if param.snapshot and not param.HasField("snapshot_prefix"):
        raise CaffeError('solver: snapshot is given but snapshot_prefix is not; give the path, such as "models/ssd"')
    folder = Path(snapshot_name(param, 0, "")).parent
    if not folder.is_dir():
        raise CaffeError(
            f"solver: snapshot_prefix '{param.snapshot_prefix}' is in {folder}, which is not a directory; "
            f"create it (mkdir -p {folder}) or change the prefix"
        )
    if not os.access(folder, os.W_OK):
        raise CaffeError(f"solver: snapshot_prefix '{param.snapshot_prefix}' is in {folder}, which is not writable")


def check_is_solver_state(path: str) -> None:
    """Raises a CaffeError for a missing file, and for weights given where a solver state belongs."""
    if path.endswith((".caffemodel", ".caffemodel.h5")):
        state = path.replace(".caffemodel", ".solverstate")
        there = f" (there is {state})" if os.path.exists(state) else ""
        raise CaffeError(
            f"{path} holds weights, not a solver state: to resume training give -snapshot its .solverstate{there}; "
            f"to start from these weights use -weights {path}"
        )
    if not os.path.isfile(path):
        raise CaffeError(f"-snapshot {path}: no such file")


def save(param: Any, net: Any, iteration: int, policy: Any, history: list[Tensor]) -> tuple[str, str]:
    """Writes weights, the solver state that names them, and the checksums of both. Returns the first two names."""
    check_finite(net)
    weights = snapshot_name(param, iteration, ".caffemodel")
    state = snapshot_name(param, iteration, ".solverstate")
    hdf5 = param.snapshot_format == caffe_pb2.SolverParameter.HDF5
    form = "HDF5" if hdf5 else "binary proto"
    log.info("solver.cpp:606" if hdf5 else "solver.cpp:596", f"Snapshotting to {form} file {weights}")
    save_weights(net, weights, param.snapshot_diff)
    log.info(
        "sgd_solver.cpp:317" if hdf5 else "sgd_solver.cpp:307", f"Snapshotting solver state to {form} file {state}"
    )
    write_solver_state(
        state,
        SolverState(
            iter=iteration,
            learned_net=weights,
            history=[h.detach().cpu().numpy() for h in history],
            current_step=policy.current_step,
            minimum_loss=policy.minimum_loss,
            iter_last_event=policy.iter_last_event,
        ),
    )
    checksums.write(checksums_name(f"{param.snapshot_prefix}_iter_{iteration}"), [weights, state])
    return weights, state


def check_finite(net: Any) -> None:
    """Raises a CaffeError, so that a ruined net does not replace a good snapshot."""
    norms = torch._foreach_norm(net.learnable_params)
    if norms and not bool(torch.isfinite(torch.stack(list(norms))).all()):
        raise CaffeError("no snapshot written: the weights are no longer finite; base_lr is probably too high")


def load(path: str, net: Any, policy: Any, history: list[Tensor], histories: int) -> int:
    """Restores weights, history and policy from a solver state. Returns the iteration to continue from.

    The weights are looked for where the state says they are, then beside the state itself. Files that are damaged, or
    are not those that were written together, are a CaffeError that names the newest whole snapshot.
    """
    check_is_solver_state(path)
    try:
        state, weights = read_whole(path)
    except CaffeError as error:
        raise CaffeError(f"{error}. {advice(path)}") from error
    if not os.path.exists(checksums_name(path.rpartition(".solverstate")[0])):
        log.info(log.here(), f"{path} has no checksums beside it: its files are taken as they are")
    if weights:
        copy_trained_from(net, weights)
    if len(state.history) != len(history):
        raise CaffeError(
            f"{path}: holds {len(state.history)} history blobs, this solver has {len(history)} "
            f"({len(history) // histories} parameters, {histories} each). It was written for another net or solver type"
        )
    for i, (mine, stored) in enumerate(zip(history, state.history, strict=True)):
        if mine.numel() != stored.size:
            raise CaffeError(
                f"{path}: history blob {i} has shape {stored.shape}, the net's parameter has {tuple(mine.shape)}. "
                "The state was written for another net"
            )
        mine.copy_(torch.from_numpy(np.array(stored, np.float32)).reshape(mine.shape))
    log.info("sgd_solver.cpp:356", "SGDSolver: restoring history")
    policy.current_step = state.current_step
    policy.iter_last_event = state.iter_last_event
    policy.minimum_loss = state.minimum_loss
    return int(state.iter)
