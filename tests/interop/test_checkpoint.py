"""Reading checkpoints: every precision and wrapping that people have, and files that are refused before they are opened."""

from __future__ import annotations

import collections
import os
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffe.errors import ProtoError
from caffe.interop.checkpoint import read_checkpoint
from tests.processes import python

STATE = {"conv.weight": torch.arange(6.0).view(2, 3), "conv.bias": torch.tensor([0.5, -1.0])}
LEGACY = dict(_use_new_zipfile_serialization=False)


def check(found: Any) -> None:
    assert found.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], tensor.numpy())


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "before 1.6"])
@pytest.mark.parametrize(
    "content",
    [
        STATE,
        collections.OrderedDict(STATE),
        {"module." + name: value for name, value in STATE.items()},
        {"module._orig_mod." + name: value for name, value in STATE.items()},
        {name: value.half() for name, value in STATE.items()},
        {name: value.bfloat16() for name, value in STATE.items()},
        {name: value.double() for name, value in STATE.items()},
        {name: torch.nn.Parameter(value) for name, value in STATE.items()},
        {**STATE, "bn.num_batches_tracked": torch.tensor(7)},
        {"epoch": 3, "lr": 0.1, "state_dict": STATE, "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}}},
        {"meta": {"classes": ["a"]}, "model": {"module." + name: value for name, value in STATE.items()}},
        {"run": {"weights_of_mine": STATE}},
    ],
    ids=["plain", "ordered", "module", "compiled", "half", "bfloat16", "double", "parameters", "counter", "state_dict",
         "model", "nested"],
)  # fmt: skip
def test_read(tmp_path: Path, content: Any, options: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "x.pth", **options)
    check(read_checkpoint(tmp_path / "x.pth"))


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_safetensors(tmp_path: Path, kind: torch.dtype) -> None:
    from safetensors.torch import save_file

    save_file({name: value.to(kind) for name, value in STATE.items()}, tmp_path / "x.safetensors")
    check(read_checkpoint(tmp_path / "x.safetensors"))


class Code:
    """Would leave a file behind if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("options", [{}, LEGACY, {"pickle_protocol": 4}], ids=["zip", "before 1.6", "protocol 4"])
def test_code_is_refused_before_the_file_is_opened(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({**STATE, "x": Code(tmp_path / "victim")}, tmp_path / "x.pth", **options)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(ProtoError, match=r"x.pth: not opened, because opening it would run posix.mkdir"):
        read_checkpoint(tmp_path / "x.pth")
    assert not (tmp_path / "victim").exists()


def test_a_plain_pickle_is_refused(tmp_path: Path) -> None:
    for protocol in (0, 2, 4, 5):
        (tmp_path / "x.pth").write_bytes(pickle.dumps({"x": Code(tmp_path / "victim")}, protocol))
        with pytest.raises(ProtoError, match=r"not opened|should be|damaged"):
            read_checkpoint(tmp_path / "x.pth")
        assert not (tmp_path / "victim").exists()


def test_objects_beside_the_tensors(tmp_path: Path) -> None:
    """NumPy's scalars and namespaces are more than tensors; the message says how to save the tensors alone."""
    torch.save({**STATE, "best": np.float64(0.5)}, tmp_path / "x.pth")
    with pytest.raises(ProtoError, match=r"numpy.*scalar.*torch.save\(model.state_dict\(\)"):
        read_checkpoint(tmp_path / "x.pth")


def test_torchscript_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/code/__torch__.py", "class Net(Module): ...")
        archive.writestr("x/data.pkl", pickle.dumps({}, 2))
    with pytest.raises(ProtoError, match="a TorchScript program, which is code"):
        read_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "before 1.6"])
def test_half_a_file(tmp_path: Path, options: dict[str, Any]) -> None:
    torch.save(STATE, tmp_path / "x.pth", **options)
    whole = (tmp_path / "x.pth").read_bytes()
    for part in (0.1, 0.5, 0.9, 0.99):
        (tmp_path / "x.pth").write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(ProtoError, match=r"x.pth: .*(damaged|incomplete)"):
            read_checkpoint(tmp_path / "x.pth")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_length_beyond_the_file_allocates_nothing(tmp_path: Path) -> None:
    """A string of 1.8 GB in a pickle of some bytes."""
    (tmp_path / "x.pth").write_bytes(b"\x80\x02X" + (1_800_000_000).to_bytes(4, "little") + bytes(60))
    code = (
        "import re, sys; from caffe.errors import ProtoError; from caffe.interop.checkpoint import read_checkpoint\n"
        "def peak(): return int(re.search(r'VmPeak:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "import torch\n"
        "before = peak()\n"
        "try: read_checkpoint(sys.argv[1])\n"
        "except ProtoError as error: print(peak() - before, error)"
    )
    done = python("-c", code, tmp_path / "x.pth")
    grown, _, message = done.stdout.partition(" ")
    assert "a damaged or incomplete PyTorch checkpoint" in message, done.stderr
    assert int(grown) < 200_000


def test_half_a_safetensors_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(STATE, tmp_path / "x.safetensors")
    whole = (tmp_path / "x.safetensors").read_bytes()
    for length in (20, len(whole) // 2, len(whole) - 1):
        (tmp_path / "x.safetensors").write_bytes(whole[:length])
        with pytest.raises(ProtoError, match="x.safetensors: "):
            read_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file where a PyTorch checkpoint"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file where a PyTorch checkpoint .* -from keras_vgg16"),
        (b"<!DOCTYPE html><p>not found", "a web page, perhaps from a failed download"),
        (b"PK\x03\x04" + bytes(50), "a damaged or incomplete PyTorch checkpoint"),
        (b'layer { name: "x" }', "text"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(ProtoError, match=message):
        read_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "lr": 0.1}, "no tensors by name in it, it holds a dictionary with 'epoch', 'lr'"),
        ([torch.ones(2)], "no tensors by name in it, it holds a list"),
        ({"a": {"x": torch.ones(1)}, "b": {"y": torch.ones(1)}}, "several state dicts in it: a, b"),
        ({"x": torch.arange(3)}, "no floating-point tensors"),
        ({"x": torch.ones(1).expand(1 << 40)}, "'x' claims 1,099,511,627,776 numbers"),
        ({"x": torch.ones(2, 2).to_sparse()}, "not opened|sparse"),
    ],
)
def test_other_contents(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ProtoError, match=message):
        read_checkpoint(tmp_path / "x.pth")
