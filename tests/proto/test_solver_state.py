"""Solver states: the original's bytes, both formats, and other files in their place."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from caffe.errors import ProtoError
from caffe.proto import caffe_pb2
from caffe.proto.solver_state import SolverState, read_solver_state, write_solver_state
from caffe.proto.weights import read_weights, write_weights


def a_state() -> SolverState:
    history = [np.arange(6, dtype="f4").reshape(2, 3), np.array([np.nan, 1e30], "f4")]
    return SolverState(16_777_217, "snap/net_iter_16777217.caffemodel", history, 4, 0.25, 7)


def assert_equal(one: SolverState, other: SolverState) -> None:
    assert (one.iter, one.learned_net, one.current_step) == (other.iter, other.learned_net, other.current_step)
    assert (one.minimum_loss, one.iter_last_event) == (other.minimum_loss, other.iter_last_event)
    for mine, theirs in zip(one.history, other.history, strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("name", ["tiny_iter_120.solverstate", "tiny_iter_240.solverstate"])
def test_the_originals_file_is_read_and_written_byte_for_byte(shared: Path, tmp_path: Path, name: str) -> None:
    source = shared / "golden/train_run" / name
    state = read_solver_state(source)
    message = caffe_pb2.SolverState.FromString(source.read_bytes())
    assert state.iter == message.iter == int(name.split("_")[2].split(".")[0])
    assert state.learned_net == message.learned_net
    assert state.current_step == message.current_step
    for array, blob in zip(state.history, message.history, strict=True):
        np.testing.assert_array_equal(array.reshape(-1), np.array(blob.data, "f4"))
    write_solver_state(tmp_path / "copy.solverstate", state)
    assert (tmp_path / "copy.solverstate").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", ["s.solverstate", "s.solverstate.h5"])
def test_both_forms_come_back(tmp_path: Path, name: str) -> None:
    write_solver_state(tmp_path / name, a_state())
    assert_equal(read_solver_state(tmp_path / name), a_state())


def test_the_hdf5_form_is_laid_out_as_the_original_reads_it(tmp_path: Path) -> None:
    write_solver_state(tmp_path / "s.h5", a_state())
    with h5py.File(tmp_path / "s.h5") as file:
        assert sorted(file) == ["current_step", "history", "iter", "iter_last_event", "learned_net", "minimum_loss"]
        assert (file["iter"].shape, file["iter"].dtype) == ((1,), np.int32)
        text = file["learned_net"].id.get_type()
        assert file["learned_net"].shape == ()
        assert not text.is_variable_str()
        assert text.get_size() == len(a_state().learned_net) + 1
        assert text.get_strpad() == h5py.h5t.STR_NULLTERM
        assert list(file["history"]) == ["0", "1"]


def test_a_state_of_before_the_ssd_branch_has_defaults(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        file["iter"] = np.array([5], np.int32)
        file["current_step"] = np.array([1], np.int32)
        file.create_group("history")
    state = read_solver_state(path)
    assert (state.iter, state.learned_net, state.history, state.iter_last_event) == (5, "", [], 0)


@pytest.mark.parametrize("name", ["net.caffemodel", "net.caffemodel.h5"])
def test_weights_given_as_a_state_name_the_flag_that_takes_them(tmp_path: Path, name: str) -> None:
    net = caffe_pb2.NetParameter(name="a net")
    net.layer.add(name="ip", type="InnerProduct")
    write_weights(tmp_path / name, net, [[np.zeros(3, "f4")]])
    with pytest.raises(ProtoError, match=rf"-weights .*{name}"):
        read_solver_state(tmp_path / name)


@pytest.mark.parametrize("name", ["s.solverstate", "s.solverstate.h5"])
def test_a_state_given_as_weights_says_so(tmp_path: Path, name: str) -> None:
    write_solver_state(tmp_path / name, a_state())
    with pytest.raises(ProtoError, match=r"(?i)solver ?state"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("cut", [1, 30, 60, -1, -20])
def test_a_truncated_state_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "s.solverstate"
    write_solver_state(path, a_state())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ProtoError, match=r"s\.solverstate: (truncated|not a solver state)"):
        read_solver_state(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "an empty file"),
        (b"net: 'train.prototxt'\n", "text"),
        (b"\x80\x04pickle", "pickle"),
        (b"\xffgarbage", "not"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "given.solverstate"
    path.write_bytes(content)
    with pytest.raises(ProtoError, match=says):
        read_solver_state(path)


def test_a_missing_state_lists_those_there_are(tmp_path: Path) -> None:
    write_solver_state(tmp_path / "net_iter_10.solverstate", a_state())
    with pytest.raises(ProtoError, match=r"net_iter_10\.solverstate"):
        read_solver_state(tmp_path / "net_iter_20.solverstate")
