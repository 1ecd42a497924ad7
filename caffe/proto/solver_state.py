"""Solver states: `.solverstate` (a binary SolverState) and `.solverstate.h5`, as Caffe's SGDSolver writes them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from caffe.errors import ProtoError
from caffe.files import replacing
from caffe.proto import caffe_pb2, hdf5
from caffe.proto.mapped import describe, map_file
from caffe.proto.sniff import HDF5_SIGNATURE, looks_like
from caffe.proto.wire import (
    FIXED32,
    LENGTH,
    VARINT,
    BlobWriter,
    Budget,
    FloatArray,
    WireError,
    blobs_size,
    fields,
    read_blob,
    signed,
    split_fields,
    write_blobs,
)

_HISTORY = 3
_FLT_MAX = float(np.finfo(np.float32).max)


@dataclass
class SolverState:
    """Where a training stopped.

    `iter` iterations are done. `learned_net` names the weights file, empty if the state names none. `history` holds the
    solver's arrays in the order of the net's learnable parameters (momentum for SGD; Adam and AdaDelta keep two sets,
    one after the other). `current_step` counts the steps of the learning rate so far; `iter_last_event` and
    `minimum_loss` belong to the policy `plateau`.
    """

    iter: int
    learned_net: str
    history: list[FloatArray]
    current_step: int = 0
    minimum_loss: float = _FLT_MAX
    iter_last_event: int = 0
    path: Path | None = field(default=None, compare=False)


def read_solver_state(path: str | os.PathLike[str]) -> SolverState:
    """Reads either format, detected from the content. `history` may be read-only views of the file, as with
    `read_weights`.

    Raises ProtoError for missing, empty, truncated or damaged files, and for files that are not solver states; for
    weights it names the flag that takes them.
    """
    path = Path(path)
    buffer = map_file(path, "a solver state")
    if buffer[:8] == HDF5_SIGNATURE:
        return _read_hdf5(path)
    kind = looks_like(bytes(buffer[:512]))
    if kind is not None and "NetParameter" in kind:
        raise ProtoError(_weights_given(path))
    state = SolverState(0, "", [], path=path)
    seen_iter, budget = False, Budget()
    try:
        for part in fields(buffer, 0, len(buffer), budget):
            key = (part.number, part.wire_type)
            if key == (1, VARINT):
                state.iter, seen_iter = signed(part.value), True
            elif key == (2, LENGTH):
                state.learned_net = bytes(buffer[part.start : part.end][:4096]).decode("utf-8", "surrogateescape")
            elif key == (_HISTORY, LENGTH):
                state.history.append(read_blob(buffer, part.start, part.end, budget).data)
            elif key == (4, VARINT):
                state.current_step = signed(part.value)
            elif key == (5, FIXED32):
                state.minimum_loss = float(np.frombuffer(buffer, "<f4", 1, part.start)[0])
            elif key == (6, VARINT):
                state.iter_last_event = signed(part.value)
    except WireError as error:
        if kind is not None and "SolverState" not in kind:
            raise ProtoError(f"{path}: not a solver state, it looks like {kind}; {_WANTED}") from error
        if not seen_iter:
            raise ProtoError(
                f"{path}: not a solver state or any other file that Caffe writes ({error}); {_WANTED}"
            ) from error
        what = "truncated" if error.truncated else "damaged"
        count = len(state.history)
        raise ProtoError(
            f"{path}: {what} after {count} history arrays, {error}; resume from an earlier .solverstate, "
            f"or copy this one again ({len(buffer):,} bytes here)"
        ) from error
    if not seen_iter:
        raise ProtoError(f"{path}: not a solver state: {describe(buffer)}; {_WANTED}")
    _check(path, state)
    return state


_WANTED = "-snapshot takes a .solverstate or .solverstate.h5"


def _weights_given(path: Path) -> str:
    return (
        f"{path}: weights, not a solver state: -snapshot resumes a training from its .solverstate; "
        f"to start from these weights use -weights {path}"
    )


def _check(path: Path, state: SolverState) -> None:
    if not 0 <= state.iter < 1 << 31 or not 0 <= state.current_step < 1 << 31:
        raise ProtoError(f"{path}: damaged: iteration {state.iter}, step {state.current_step}")


def _read_hdf5(path: Path) -> SolverState:
    asked_for = "a solver state"
    with hdf5.open_hdf5(path, asked_for) as file:
        if "iter" not in file and "data" in file:
            raise ProtoError(_weights_given(path))
        group = hdf5.required(file, "history", h5py.Group, asked_for)
        count = len(hdf5.names(group))
        state = SolverState(
            iter=hdf5.read_integer(file, "iter", asked_for),
            learned_net=hdf5.read_string(file, "learned_net"),
            history=[hdf5.read_floats(hdf5.required(group, str(i), h5py.Dataset, asked_for)) for i in range(count)],
            current_step=hdf5.read_integer(file, "current_step", asked_for, default=0),
            minimum_loss=hdf5.read_scalar(file, "minimum_loss", _FLT_MAX, asked_for),
            iter_last_event=hdf5.read_integer(file, "iter_last_event", asked_for, default=0),
            path=path,
        )
    _check(path, state)
    return state


def write_solver_state(path: str | os.PathLike[str], state: SolverState) -> None:
    """Writes `state`, as HDF5 if the name ends in `.h5`; the file appears only when it is complete.

    Raises CaffeError if it cannot be written.
    """
    path = Path(path)
    size = sum(4 * int(array.size) for array in state.history)
    if path.name.endswith(".h5"):
        with hdf5.new_hdf5(path, size) as file:
            file.create_dataset("iter", data=np.array([state.iter], np.int32))
            hdf5.write_string(file, "learned_net", state.learned_net)
            file.create_dataset("current_step", data=np.array([state.current_step], np.int32))
            file.create_dataset("iter_last_event", data=np.array([state.iter_last_event], np.int32))
            file.create_dataset("minimum_loss", data=np.array([state.minimum_loss], np.float32))
            hdf5.write_arrays(file.create_group("history"), state.history, skip=lambda _: False)
        return
    message = caffe_pb2.SolverState(
        iter=state.iter,
        learned_net=state.learned_net,
        current_step=state.current_step,
        minimum_loss=state.minimum_loss,
        iter_last_event=state.iter_last_event,
    )
    parts = split_fields(message.SerializeToString(deterministic=True))
    blobs = [BlobWriter(array) for array in state.history]
    with replacing(path, blobs_size(_HISTORY, blobs)) as temporary, open(temporary, "wb") as file:
        file.writelines(part for number, part in parts if number < _HISTORY)
        write_blobs(file, _HISTORY, blobs)
        file.writelines(part for number, part in parts if number > _HISTORY)
