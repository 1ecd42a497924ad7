"""Nets as graphs: the text for Graphviz, phases, files."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from caffe import draw
from caffe.cli.draw_net import main
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from tests.prototxt_gen.sources import generated_text

NET = """
name: "small"
layer { name: "data" type: "AnnotatedData" top: "data" top: "label" include { phase: TRAIN } data_param { batch_size: 8 } }
layer { name: "data" type: "Input" top: "data" include { phase: TEST } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 16 kernel_size: 3 pad: 1 stride: 2 } }
layer { name: "wide" type: "Convolution" bottom: "data" top: "wide"
        convolution_param { num_output: 16 kernel_h: 1 kernel_w: 7 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "pool" bottom: "label" top: "loss" exclude { phase: TEST } }
"""


def net(text: str = NET) -> Any:
    return text_format.Parse(text, caffe_pb2.NetParameter())


def test_layers_blobs_and_arrows() -> None:
    text = draw.get_dot(net())
    assert text.startswith('digraph "small" {\n  rankdir="LR";\n')
    assert (
        '  "conv_Convolution" [label="conv\\n(Convolution)\\nkernel size: 3\\nstride: 2\\npad: 1", '
        'shape="record", fillcolor="#FF5050", style="filled"];\n'
    ) in text
    assert '"wide\\n(Convolution)\\nkernel size: 1x7\\nstride: 1\\npad: 0"' in text
    assert '"pool\\n(AVE Pooling)\\nkernel size: 2\\nstride: 2\\npad: 0"' in text
    assert '  "conv_blob" -> "pool_Pooling";\n' in text
    assert '  "conv_Convolution" -> "conv_blob" [label="16"];\n' in text
    assert '  "data_AnnotatedData" -> "label_blob" [label="Batch 8"];\n' in text
    # in-place layers are green; a blob is one node even if several layers write it
    assert '"relu_ReLU" [label="relu\\n(ReLU)", shape="record", fillcolor="#90EE90"' in text
    assert text.count('"conv_blob" [label="conv"') == 1


def test_vertical_graphs_take_one_line_a_box() -> None:
    assert 'label="conv (Convolution) kernel size: 3 stride: 2 pad: 1"' in draw.get_dot(net(), "TB")


def test_edge_labels_can_be_left_out() -> None:
    assert "[label=" not in "".join(
        line for line in draw.get_dot(net(), label_edges=False).splitlines() if "->" in line
    )


@pytest.mark.parametrize(
    ("phase", "present", "absent"),
    [
        (caffe_pb2.TRAIN, ["AnnotatedData", "EuclideanLoss"], ["Input"]),
        (caffe_pb2.TEST, ["Input"], ["AnnotatedData", "EuclideanLoss"]),
        (None, ["AnnotatedData", "Input", "EuclideanLoss"], []),
    ],
)
def test_phases(phase: int | None, present: list[str], absent: list[str]) -> None:
    text = draw.get_dot(net(), phase=phase)
    assert all(f"({kind})" in text for kind in [*present, "Convolution", "AVE Pooling"])
    assert not any(f"({kind})" in text for kind in absent)


def test_both_kinds_of_rule() -> None:
    both = net('layer { name: "a" type: "ReLU" include { phase: TRAIN } exclude { phase: TEST } }')
    with pytest.raises(CaffeError, match="layer 'a' has both include and exclude"):
        draw.get_dot(both, phase=caffe_pb2.TEST)


def test_names_are_quoted() -> None:
    text = draw.get_dot(net('layer { name: "a\\"b{c}|d" type: "ReLU" bottom: "x" top: "y" }'))
    assert '"a\\"b{c}|d_ReLU" [label="a\\"b\\{c\\}\\|d\\n(ReLU)"' in text


def test_command_writes_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "net.dot"
    model = tmp_path / "train.prototxt"
    model.write_text(generated_text("MDSSD300", "VOC", "train"))
    assert main([str(model), str(picture), "--rankdir", "TB", "--phase", "TRAIN"]) == 0
    assert capsys.readouterr().out == f"Drawing net to {picture}\n"
    text = picture.read_text()
    assert '"module1_sum_Eltwise"' in text
    assert 'rankdir="TB"' in text


def test_pictures_need_graphviz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CaffeError, match=r"a .png picture needs Graphviz's program 'dot', which is not installed"):
        draw.draw_net_to_file(net(), str(tmp_path / "net.png"))
    assert not (tmp_path / "net.png").exists()
    with pytest.raises(CaffeError, match="no file type"):
        draw.draw_net_to_file(net(), str(tmp_path / "net"))


def test_graphviz_gets_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a program in its place that prints its input."""
    program = tmp_path / "dot"
    program.write_text(f"#!{sys.executable}\nimport sys\nprint(sys.argv[1]); print(sys.stdin.read(), end='')\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert draw.draw_net(net(), "LR", "svg").decode() == "-Tsvg\n" + draw.get_dot(net(), "LR")
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no such format')\n")
    with pytest.raises(CaffeError, match=r"cannot make a .svg file: no such format"):
        draw.draw_net(net(), "LR", "svg")


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz")
def test_picture(tmp_path: Path) -> None:
    draw.draw_net_to_file(net(), str(tmp_path / "net.svg"))
    assert "</svg>" in (tmp_path / "net.svg").read_text()


def test_pydot() -> None:
    pytest.importorskip("pydot")
    graph = draw.get_pydot_graph(net(), "LR")
    assert len(graph.get_edges()) == 14


def test_pydot_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydot", None)
    with pytest.raises(CaffeError, match=r"needs the package pydot \(pip install pydot\)"):
        draw.get_pydot_graph(net(), "LR")
