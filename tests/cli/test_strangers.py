"""A stranger's net that is only looked at: it runs no code and writes no files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from caffe.cli import classify, design_boxes, detect, draw_net, export_onnx, ssd_detect
from caffe.cli import test as test_command
from caffe.cli import train as train_command
from caffe.engine.net import Net
from caffe.errors import NetError
from caffe.proto import caffe_pb2
from caffe.proto.text import parse_text
from caffe.runtime import runtime
from tests import processes
from tests.processes import ROOT

EVIL = """
from pathlib import Path
Path("ran").write_text("it ran")
import caffe


class Layer(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top): top[0].data[...] = bottom[0].data
"""
NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "evil" type: "Python" bottom: "data" top: "out" python_param { module: "evil_module" layer: "Layer" } }
layer { name: "prior" type: "PriorBox" bottom: "out" bottom: "data" top: "prior" prior_box_param { min_size: 4 } }
"""


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a net whose Python layer's module leaves a file where it is imported."""
    (tmp_path / "evil_module.py").write_text(EVIL)
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "w.caffemodel").write_bytes(b"\xa2\x06\x06\x0a\x04evil")
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "windows.csv").write_text("filename,ymin,xmin,ymax,xmax\na.jpg,0,0,4,4\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOG_minloglevel", "1")  # which ssd_detect would leave behind
    monkeypatch.delitem(sys.modules, "evil_module", raising=False)
    return tmp_path


NETS_FLAGS = ["--model_def", "net.prototxt", "--pretrained_model", "w.caffemodel"]
LOOKS: dict[str, tuple[Callable[[list[str]], int], list[str]]] = {
    "ssd_detect": (ssd_detect.main, ["net.prototxt", "w.caffemodel", "a.jpg"]),
    "classify": (classify.main, ["a.jpg", "out.npy", *NETS_FLAGS]),
    "detect": (detect.main, ["windows.csv", "out.csv", "--crop_mode", "list", *NETS_FLAGS]),
    "export_onnx": (export_onnx.main, ["-model", "net.prototxt", "-weights", "w.caffemodel", "-out", "x.onnx"]),
    "design_boxes": (design_boxes.main, ["db", "-net", "net.prototxt"]),
}


@pytest.mark.parametrize("name", LOOKS)
def test_looking_at_a_net_does_not_run_its_modules(
    name: str, stranger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, words = LOOKS[name]
    assert command(words) == 1
    error = capsys.readouterr().err
    assert "layer 'evil' (Python): would run the Python module 'evil_module'" in error
    assert "give -allow_python" in error
    assert not (stranger / "ran").exists()


def test_a_module_runs_where_it_is_allowed(stranger: Path) -> None:
    assert design_boxes.main(["db", "-net", "net.prototxt", "-allow_python"]) == 1  # there is no such database
    assert (stranger / "ran").exists()


def test_drawing_builds_no_layers(stranger: Path) -> None:
    assert draw_net.main(["net.prototxt", "net.dot"]) == 0
    assert not (stranger / "ran").exists()


def test_training_and_testing_say_which_modules_they_run(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = f"Layer x runs TinyData of the Python module tiny_data ({tiny_run / 'tiny_data.py'})"
    sys.modules.pop("tiny_data", None)
    assert train_command.main(["-solver", "solver.prototxt"]) == 0
    error = capsys.readouterr().err
    assert said in error
    assert error.index(said) < error.index("Starting Optimization")
    assert test_command.main(["-model", "net.prototxt", "-weights", "two_iter_4.caffemodel", "-iterations", "1"]) == 0
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("module", ["", ".relative", "a b", "os;x", "a\0b", "a..b"])
def test_a_module_name_that_is_none_is_refused(module: str) -> None:
    net = parse_text(NET, caffe_pb2.NetParameter(), "net")
    net.layer[1].python_param.module = module
    with pytest.raises(NetError, match="not the name of a Python module"):
        Net(net, 1)


# ---- files that a net writes

OUTPUT = """
layer { name: "data" type: "Input" top: "data" top: "label" input_param { shape { dim: 2 } shape { dim: 2 } } }
layer { name: "out" type: "HDF5Output" bottom: "data" bottom: "label" hdf5_output_param { file_name: "NAME" } }
"""


def output_net(name: str | Path) -> Net:
    return Net(parse_text(OUTPUT.replace("NAME", str(name)), caffe_pb2.NetParameter(), "net"), 1)


def test_a_net_that_is_looked_at_does_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "layers_write", False)
    output_net(tmp_path / "out.h5")()
    assert not list(tmp_path.iterdir())


def test_only_hdf5_files_are_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("precious")
    with pytest.raises(NetError, match=r"'.*notes.txt' exists and is not an HDF5 file; it is not overwritten"):
        output_net(path)
    assert path.read_text() == "precious"
    for _ in range(2):
        output_net(tmp_path / "out.h5")()
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["data"].shape == (2, 1, 1, 1)


def test_a_relative_name_does_not_leave_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    with pytest.raises(NetError, match="leaves the current directory"):
        output_net("../out.h5")
    assert not (tmp_path / "out.h5").exists()


# ---- scripts

WRITES = "import pathlib; pathlib.Path(__file__).with_name('ran').write_text(__name__)\n"


def test_scripts_do_not_run_modules_of_the_current_directory(tmp_path: Path) -> None:
    for module in ("cv2", "caffe", "torch", "numpy", "lmdb", "tqdm"):
        (tmp_path / f"{module}.py").write_text(WRITES)
    result = processes.run([ROOT / "scripts" / "detect.sh", "--help"], cwd=tmp_path, env={"PYTHON": sys.executable})
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "ran").exists()


def test_every_script_keeps_the_current_directory_out() -> None:
    scripts = [*(ROOT / "scripts").glob("**/*.sh"), *(ROOT / "demo").glob("**/*.sh")]
    lines = [line for script in scripts for line in script.read_text().splitlines() if " -m caffe" in line]
    assert len(lines) >= 8
    assert all(" -P -m caffe" in line for line in lines)
