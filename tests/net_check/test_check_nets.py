"""`caffe check_nets`: what it says about nets of every kind, and that a hostile one does not affect the others."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from caffe.cli.check_nets import main
from caffe.errors import CaffeError
from caffe.net_check.files import find
from caffe.net_check.processes import answers
from caffe.net_check.stand_ins import without_files
from caffe.net_check.verdict import ERROR, KILLED, LACKS, NO_TEXT, PYTHON, check
from caffe.proto import caffe_pb2
from caffe.proto.text import parse_text
from caffe.runtime import runtime

INPUT = 'layer { name: "d" type: "Input" top: "data" input_param { shape { dim: [1, 3, 8, 8] } } }\n'
CONV = """layer { name: "c" type: "Convolution" bottom: "data" top: "c"
  convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "xavier" } } }\n"""
NETS = {
    "good/deploy.prototxt": INPUT + CONV,
    "good/train.prototxt": 'layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }\n'
    ' data_param { source: "/nowhere" batch_size: 64 } transform_param { crop_size: 9 } }\n' + CONV +
    'layer { name: "l" type: "SoftmaxWithLoss" bottom: "c" bottom: "label" loss_param { } }',
    "good/again.prototxt": "# the same\n" + INPUT.replace(" ", "  ") + CONV,
    "good/solver.prototxt": 'net: "train.prototxt" base_lr: 0.1',
    "bad/type.prototxt": INPUT + 'layer { name: "m" type: "Mish" bottom: "data" top: "m" }',
    "bad/field.prototxt": INPUT + CONV.replace("num_output: 2", "num_output: 2 dilation_h: 2") +
    'layer { name: "f" type: "YoloSeg" bottom: "data" top: "f" yolo_seg_param { a: 1 } }',
    "bad/template.prototxt": 'layer { name: "d" type: "Data" top: "data"\n data_param { source: {{SOURCE}} } }',
    "bad/shape.prototxt": INPUT + CONV.replace("3 weight", "99 weight"),
    "bad/filler.prototxt": INPUT + CONV.replace("xavier", "xaver"),
    "bad/python.prototxt": INPUT + 'layer { name: "p" type: "Python" bottom: "data" top: "p" python_param { '
    'module: "made_up_module" layer: "L" } }',
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in NETS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "good/weights.pt").write_bytes(b"PK\0\0layer {")
    return tmp_path


def test_what_counts_as_a_net(folder: Path) -> None:
    found = find([str(folder)])
    assert [str(path.relative_to(folder)) for path in found.nets] == sorted(
        set(NETS) - {"good/deploy.prototxt", "good/solver.prototxt"}
    )
    assert (found.repeated, found.others) == (1, 2)
    given = find([str(folder / "good/solver.prototxt"), str(folder / "good/deploy.prototxt")])
    assert len(given.nets) == 2
    with pytest.raises(CaffeError, match="no such file or directory"):
        find([str(folder / "none")])


@pytest.mark.parametrize(
    ("name", "state", "missing"),
    [
        ("good/deploy", "", ()),
        ("good/train", ERROR, ()),  # 98 labels are needed; the data layer has one for each image
        (
            "bad/type",
            LACKS,
            ("layer type Mish of Synopsys' Caffe (foss-for-synopsys-dwc-arc-processors/synopsys-caffe)",),
        ),
        (
            "bad/field",
            LACKS,
            (
                "field ConvolutionParameter.dilation_h of TSN's Caffe (yjxiong/caffe)",
                "layer type YoloSeg of MobileNet-YOLO (eric612/MobileNet-YOLO)",
            ),
        ),
        ("bad/template", NO_TEXT, ()),
        ("bad/shape", ERROR, ()),
        ("bad/filler", ERROR, ()),
        ("bad/python", PYTHON, ("Python module made_up_module",)),
    ],
)
def test_verdicts(folder: Path, name: str, state: str, missing: tuple[str, ...]) -> None:
    verdict = check(folder / f"{name}.prototxt")
    assert (verdict.state, verdict.missing) == (state, missing)
    assert bool(verdict.message) == bool(state)


def test_python_layers_of_strangers_do_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    (folder / "made_up_module.py").write_text(
        "import caffe\nopen(__file__ + '.ran', 'w')\n"
        "class L(caffe.Layer):\n"
        "    def setup(self, bottom, top): pass\n"
        "    def reshape(self, bottom, top): top[0].reshape(1)\n"
        "    def forward(self, bottom, top): pass\n"
    )
    monkeypatch.setattr(runtime, "python_layers", False)
    assert check(folder / "bad/python.prototxt").state == PYTHON
    assert not (folder / "made_up_module.py.ran").exists()
    monkeypatch.setattr(runtime, "python_layers", True)
    assert check(folder / "bad/python.prototxt").state == ""
    (folder / "worse_module.py").write_text("class L:\n    def __init__(self, *_): raise IndexError('empty list')\n")
    text = NETS["bad/python.prototxt"].replace("made_up", "worse")
    (folder / "bad/python.prototxt").write_text(text)
    verdict = check(folder / "bad/python.prototxt")
    assert verdict.state == ERROR
    assert verdict.message


def test_a_net_runs_in_its_phase(tmp_path: Path) -> None:
    """Backward in training; a net whose data do not fit a layer's values builds, and says why it does not run."""
    path = tmp_path / "train.prototxt"
    loss = 'layer { name: "l" type: "SoftmaxWithLoss" bottom: "%s" bottom: "label" include { phase: TRAIN } }\n'
    data = 'layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "x" batch_size: 8 } }\n'
    full = 'layer { name: "i" type: "InnerProduct" bottom: "data" top: "i" inner_product_param { num_output: 3 } }\n'
    path.write_text(data + full + loss % "i")
    assert check(path, run=True) == check(path)
    path.write_text(data + full + loss % "i" + 'layer { name: "r" type: "ROIPooling" bottom: "data" bottom: "rois" '
                    'top: "r" roi_pooling_param { pooled_h: 1 pooled_w: 1 } }\nlayer { name: "o" type: "Input" top: '
                    '"b" input_param { shape { dim: [1, 5] } } }\n'
                    'layer { name: "p" type: "Power" bottom: "b" top: "rois" power_param { shift: 7 } }\n')  # fmt: skip
    ordered = path.read_text().split("\n")
    path.write_text("\n".join([ordered[0], *ordered[-3:], *ordered[1:-3]]))
    verdict = check(path, run=True)
    assert verdict.state == ""
    assert verdict.run_error is not None
    assert "is in image 7; the batch has images 0 to 1" in verdict.run_error


def test_a_run_has_an_object_where_layers_need_one(tmp_path: Path) -> None:
    """ProposalTarget refuses objects without a class."""
    tops = "".join(f'top: "{name}" ' for name in ("r", "l", "t", "i", "o", "m"))
    (tmp_path / "train.prototxt").write_text(
        'layer { name: "data" type: "ImageGtData" top: "data" top: "label_8" top: "gt_boxes" image_gt_data_param { '
        "batch_size: 1 resize_height: 64 resize_width: 64 downsample_rate: 8 field_w: 9 field_h: 9 output_gt_boxes: true "
        '} }\nlayer { name: "rois" type: "Input" top: "rois" input_param { shape { dim: [2, 5] } } }\n'
        f'layer {{ name: "t" type: "ProposalTarget" bottom: "rois" bottom: "gt_boxes" {tops} '
        "proposal_target_param { cls_num: 2 } }\n"
    )
    assert check(tmp_path / "train.prototxt", run=True) == check(tmp_path / "train.prototxt")


def stand_in(text: str) -> Any:
    (layer,) = without_files(parse_text(f"layer {{ {text} }}", caffe_pb2.NetParameter(), "net")).layer
    return layer.type, [list(shape.dim) for shape in layer.input_param.shape]


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ('type: "Data" data_param { batch_size: 1 }', [[1, 3, 224, 224], [1]]),
        ('type: "Data" transform_param { crop_size: 10 resize_param { height: 20 width: 20 } }', [[2, 3, 10, 10], [2]]),
        ('type: "ImageData" image_data_param { new_height: 5 new_width: 6 is_color: false }', [[1, 1, 5, 6], [1]]),
        ('type: "AnnotatedData" transform_param { resize_param { height: 3 width: 4 } }', [[2, 3, 3, 4], [1, 1, 4, 8]]),
        ('type: "AnnotatedData" annotated_data_param { yolo_data_type: 1 }', [[2, 3, 224, 224], [2, 1, 300, 5]]),
        ('type: "DenseImageData" dense_image_data_param { new_height: 5 new_width: 6 }', [[2, 3, 5, 6], [2, 1, 5, 6]]),
        ('type: "DenseImageData" dense_image_data_param { batch_size: 1 }', [[1, 3, 360, 480], [1, 1, 360, 480]]),
        (
            'type: "DenseImageData" dense_image_data_param { new_height: 16 new_width: 33 label_divide_factor: 8 }',
            [[2, 3, 16, 33], [2, 1, 2, 4]],
        ),
        ('type: "ImageLabelmapData" image_data_param { batch_size: 1 }', [[1, 3, 224, 224], [1, 1, 224, 224]]),
        ('type: "ImageSegData" transform_param { crop_size: 9 } top: "c"', [[1, 3, 9, 9], [1, 1, 9, 9], [1, 1, 1, 2]]),
        (
            'type: "ImageGtData" top: "c" image_gt_data_param { resize_height: 64 resize_width: 90 crop_height: 48 '
            "crop_width: 40 downsample_rate: 8 output_gt_boxes: true }",
            [[2, 3, 48, 40], [2, 6, 6, 5], [1, 7, 1, 1]],
        ),
        (
            'type: "DetectionData" top: "c" detection_data_param { short_size: 600 long_size: 1000 batch_size: 1 stride: 16 '
            "stride: 32 }",
            [[1, 3, 992, 608], [1, 6, 62, 38], [1, 6, 31, 19]],
        ),
        (
            'type: "EvalData" top: "c" eval_data_param { short_size: 600 long_size: 1000 batch_size: 1 }',
            [[1, 3, 992, 608], [1, 8, 1, 1], [1, 2, 1, 1]],
        ),
        ('type: "MemoryData" memory_data_param { channels: 2 height: 5 width: 6 }', [[2, 2, 5, 6], [2]]),
    ],
)
def test_data_layers_become_inputs_of_their_shape(text: str, shapes: list[list[int]]) -> None:
    assert stand_in(f'name: "d" top: "a" top: "b" {text}') == ("Input", shapes)


def test_other_layers_stay(folder: Path) -> None:
    assert stand_in('name: "d" type: "DummyData" top: "a"')[0] == "DummyData"
    layer = caffe_pb2.NetParameter()
    layer.layer.add(type="DetectionOutput").detection_output_param.save_output_param.output_directory = "/tmp/x"
    assert not without_files(layer).layer[0].detection_output_param.HasField("save_output_param")
    assert layer.layer[0].detection_output_param.HasField("save_output_param")


def test_the_command_prints_writes_and_counts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "found.json"
    assert main([str(folder), "-out", str(out), "-jobs", "2", "-run"]) == 1
    printed = capsys.readouterr().out
    assert f"builds and runs: {folder / 'good/again.prototxt'}" in printed
    assert f"does not build: {folder / 'bad/python.prototxt'}: needs Python module made_up_module" in printed
    assert "8 nets (not counted: 1 copy and 2 other files)\n     1 built, 1 of them run\n" in printed
    assert "     2 lacking layer types or fields\n     1 lacking Python modules\n" in printed
    assert "     1     1  layer type Mish of Synopsys' Caffe" in printed
    assert "     1     0  layer type YoloSeg of MobileNet-YOLO" in printed
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["state"] for row in rows] == [LACKS, ERROR, PYTHON, ERROR, NO_TEXT, LACKS, "", ERROR]
    assert main([str(folder / "good/deploy.prototxt"), "-short"]) == 0
    assert capsys.readouterr().out.startswith("1 net\n")


def test_no_nets_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "no nets: no prototxt with layers in" in capsys.readouterr().err


def test_a_net_that_takes_too_much_memory_is_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = INPUT.replace("3, 8, 8", "3, 8000, 8000") + CONV.replace("num_output: 2", "num_output: 4000000")
    (tmp_path / "a.prototxt").write_text(large)
    (tmp_path / "b.prototxt").write_text(INPUT + CONV)
    assert main([str(tmp_path), "-run", "-memory", "0.5", "-jobs", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"does not build: {tmp_path / 'a.prototxt'}: layer 'c' (Convolution): the net needs")
    assert " GB of memory " in lines[0]
    assert lines[1] == f"builds and runs: {tmp_path / 'b.prototxt'}"


def misbehave(job: str) -> str:
    if job == "crash":
        os.kill(os.getpid(), 9)
    if job == "hang":
        time.sleep(100)
    if job == "work":
        while True:
            pass
    if job == "raise":
        raise KeyError("k")
    if job == "grow":
        return str(len(bytearray(1 << 40)))
    return job.upper()


def test_processes_are_limited_and_apart() -> None:
    jobs = ["a", "crash", "b", "hang", "work", "raise", "grow", "c"]
    rows = list(answers(misbehave, jobs, 4, 1, 1 << 30))
    assert [job for job, _, _ in rows] == jobs
    assert [answer for _, answer, _ in rows] == ["A", None, "B", None, None, None, None, "C"]
    problems = {job: problem for job, _, problem in rows if problem}
    assert "status -9" in problems["crash"]
    assert problems["hang"] == "took too long"
    assert "took too long" in problems["work"]
    assert problems["raise"] == "KeyError: 'k'"
    assert problems["grow"] == "out of memory"


def test_no_process_is_left_when_the_reader_stops() -> None:
    before = children()
    running = answers(misbehave, ["a", "hang", "hang"], 3, 60, 1 << 30)
    assert next(running)[1] == "A"
    assert len(children() - before) == 2
    running.close()
    assert children() <= before


def children() -> set[str]:
    """The processes that this one started, those that ended unnoticed among them."""
    ours = set()
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # it ended since it was listed
            if f"PPid:\t{os.getpid()}\n" in status.read_text():
                ours.add(status.parent.name)
    return ours


def test_states_are_different() -> None:
    assert len({LACKS, PYTHON, NO_TEXT, ERROR, KILLED, ""}) == 6
