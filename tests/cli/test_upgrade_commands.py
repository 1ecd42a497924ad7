"""The upgrade commands: older files to the current format, with the original's messages and exit statuses."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from caffe.cli import upgrade_net_proto_binary, upgrade_net_proto_text, upgrade_solver_proto_text
from caffe.proto import caffe_pb2
from caffe.proto.weights import read_weights

V1 = """name: 'n' input: 'x' input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4
layers { name: 'r' type: RELU bottom: 'x' top: 'y' }
"""
TODAY = """name: "n"
layer {
  name: "input"
  type: "Input"
  top: "x"
  input_param {
    shape {
      dim: 1
      dim: 2
      dim: 3
      dim: 4
    }
  }
}
layer {
  name: "r"
  type: "ReLU"
  bottom: "x"
  top: "y"
}
"""


def test_a_net(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = tmp_path / "old.prototxt", tmp_path / "new.prototxt"
    old.write_text(V1)
    assert upgrade_net_proto_text.main([str(old), str(new)]) == 0
    assert new.read_text() == TODAY
    assert f"Wrote upgraded NetParameter text proto to {new}\n" in capsys.readouterr().err
    assert upgrade_net_proto_text.main([str(new), str(new)]) == 0
    assert new.read_text() == TODAY
    assert f"File already in latest proto format: {new}\n" in capsys.readouterr().err


def test_a_net_that_cannot_be_carried_over_whole_is_written_with_status_1(tmp_path: Path) -> None:
    old, new = tmp_path / "old.prototxt", tmp_path / "new.prototxt"
    old.write_text("layers { layer { name: 'r' type: 'relu' group: 2 } }")
    assert upgrade_net_proto_text.main([str(old), str(new)]) == 1
    assert "ReLU" in new.read_text()


def test_weights(tmp_path: Path) -> None:
    net = caffe_pb2.NetParameter(name="n")
    net.layers.add(name="c", type=caffe_pb2.V1LayerParameter.CONVOLUTION).blobs.add(
        num=1, channels=1, height=1, width=2, data=[3, 4]
    )
    old, new = tmp_path / "old.caffemodel", tmp_path / "new.caffemodel"
    old.write_bytes(net.SerializeToString())
    assert upgrade_net_proto_binary.main([str(old), str(new)]) == 0
    upgraded = caffe_pb2.NetParameter.FromString(new.read_bytes())
    assert [layer.type for layer in upgraded.layer] == ["Convolution"]
    np.testing.assert_array_equal(read_weights(new)[0].blobs[0], [[[[3, 4]]]])


def test_a_solver(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "solver.prototxt"
    path.write_text("base_lr: 0.1\nsolver_type: ADAM")
    assert upgrade_solver_proto_text.main([str(path), str(path)]) == 0
    assert path.read_text() == 'base_lr: 0.1\ntype: "Adam"\n'
    assert "deprecated 'solver_type' field (enum)" in capsys.readouterr().err


@pytest.mark.parametrize("command", [upgrade_net_proto_text, upgrade_net_proto_binary, upgrade_solver_proto_text])
def test_bad_input_is_one_message_and_nothing_is_written(
    command: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").write_bytes(b"\xff\xd8\xff\xe0 JFIF\0\0\0")
    assert command.main([str(tmp_path / "in"), str(tmp_path / "out")]) == 1
    assert "a JPEG image" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit) as stop:
        command.main([str(tmp_path / "in")])
    assert stop.value.code == 1
    with pytest.raises(SystemExit) as stop:
        command.main(["--help"])
    assert stop.value.code == 0
    assert "example:" in capsys.readouterr().out
