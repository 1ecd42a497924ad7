"""Typical mistakes, through the commands: one message that says what, where and what to do, and exit status 1."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe.cli import caffe, convert_annoset, import_annotations, score_voc, ssd_detect

LABEL_MAP = """item { name: "none_of_the_above" label: 0 display_name: "background" }
item { name: "cat" label: 1 display_name: "cat" }
"""
ANNOTATION = (
    "<annotation><size><width>40</width><height>30</height><depth>3</depth></size>"
    "<object><name>NAME</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>25</xmax><ymax>25</ymax></bndbox></object>"
    "</annotation>"
)
NET = """name: "tiny"
layer { name: "data" type: "AnnotatedData" top: "data" top: "label"
  transform_param { resize_param { prob: 1 resize_mode: WARP height: 16 width: 16 interp_mode: LINEAR } }
  data_param { source: "db" batch_size: 2 backend: LMDB } annotated_data_param { label_map_file: "labelmap.prototxt" } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 4 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "loc" type: "Convolution" bottom: "conv" top: "loc"
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm" permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_perm" top: "loc_flat" }
layer { name: "conf" type: "Convolution" bottom: "conv" top: "conf"
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "conf_perm" type: "Permute" bottom: "conf" top: "conf_perm" permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_flat" type: "Flatten" bottom: "conf_perm" top: "conf_flat" }
layer { name: "prior" type: "PriorBox" bottom: "conv" bottom: "data" top: "prior"
  prior_box_param { min_size: 4 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 } }
layer { name: "mbox_loss" type: "MultiBoxLoss" bottom: "loc_flat" bottom: "conf_flat" bottom: "prior" bottom: "label"
  top: "mbox_loss" multibox_loss_param { num_classes: 2 code_type: CENTER_SIZE } }
"""
SOLVER = (
    'net: "net.prototxt" base_lr: 0.001 lr_policy: "fixed" max_iter: 2 snapshot_prefix: "out/tiny" solver_mode: CPU\n'
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a data set of four images, its LMDB, a net and a solver that train."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOG_minloglevel", "2")
    monkeypatch.setenv("CAFFE_DATA_WORKERS", "0")
    (tmp_path / "labelmap.prototxt").write_text(LABEL_MAP)
    (tmp_path / "out").mkdir()
    for i in range(4):
        cv2.imwrite(f"{i}.jpg", np.full((30, 40, 3), 60 * i, np.uint8))
        Path(f"{i}.xml").write_text(ANNOTATION.replace("NAME", "cat"))
    Path("list.txt").write_text("".join(f"{i}.jpg {i}.xml\n" for i in range(4)))
    assert build() == 0
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(SOLVER)
    return tmp_path


def build(*flags: str) -> int:
    return convert_annoset.main(
        [
            "-anno_type=detection",
            "-label_map_file=labelmap.prototxt",
            "-encoded",
            "-redo",
            *flags,
            "./",
            "list.txt",
            "db",
        ]
    )


def train(*flags: str) -> int:
    return caffe.main(["train", "-solver", "solver.prototxt", *flags])


def complaint(capfd: pytest.CaptureFixture[str]) -> str:
    """The single message on stderr, which must not be a stack trace."""
    err = capfd.readouterr().err
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line and not re.match(r"[IWE]\d{8} ", line)]
    assert lines
    assert len(lines[0]) > 20
    return err


def test_the_run_itself_is_sound(run: Path) -> None:
    assert train() == 0
    assert (run / "out" / "tiny_iter_2.caffemodel").is_file()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('type: "ReLU"', 'type: "RelU"', r"layer 'relu': unknown layer type 'RelU'. Did you mean 'ReLU'"),
        ("num_output: 4 kernel_size: 3", "num_outputs: 4 kernel_size: 3", r"net.prototxt:6.*num_outputs.*num_output"),
        ('bottom: "conv" top: "loc"', 'bottom: "cnov" top: "loc"', r"'cnov'.*layer 'loc'.*Did you mean 'conv'"),
        ('name: "relu" ', 'name: "relu" include { phase: TRIAN } ', r"net.prototxt:\d+.*TRIAN.*TRAIN"),
        ("resize_mode: WARP", "resize_mode: WRAP", r"net.prototxt:3.*WRAP.*WARP"),
        ("num_classes: 2", "num_classes: 3", r"layer 'mbox_loss'.*confidence predictions.*16.*32"),
        ("num_output: 4 kernel_size: 1", "num_output: 8 kernel_size: 1", r"layer 'mbox_loss'.*location predictions"),
        ("kernel_size: 3 pad: 1", "kernel_size: 30 pad: 1", r"layer 'conv'.*30 pixels"),
        ('source: "db"', 'source: "nowhere"', r"layer 'data'.*nowhere"),
        ('type: "xavier"', 'type: "xaver"', r"layer 'conv'.*filler 'xaver'.*xavier"),
        ("min_size: 4 ", "", r"layer 'prior'.*min_size"),
        ("layer {", "layer {{", r"net.prototxt:2"),
    ],
)
def test_nets(run: Path, capfd: pytest.CaptureFixture[str], old: str, new: str, message: str) -> None:
    assert old in NET
    Path("net.prototxt").write_text(NET.replace(old, new, 1))
    assert train() == 1
    assert re.search(message, complaint(capfd), re.S)
    assert not list((run / "out").iterdir())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("base_lr", "bass_lr", r"solver.prototxt:1.*bass_lr.*base_lr"),
        ('"fixed"', '"fxied"', r"fxied.*fixed"),
        ("out/tiny", "gone/tiny", r"gone"),
        ('net: "net.prototxt"', 'net: "net.prototext"', r"net.prototext"),
        ("max_iter: 2", 'max_iter: 2 type: "SDG"', r"SDG.*SGD"),
        ("max_iter: 2", "max_iter: many", r"solver.prototxt:1"),
    ],
)
def test_solvers(run: Path, capfd: pytest.CaptureFixture[str], old: str, new: str, message: str) -> None:
    Path("solver.prototxt").write_text(SOLVER.replace(old, new, 1))
    assert train() == 1
    assert re.search(message, complaint(capfd), re.S)


def test_a_label_outside_the_classes(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (run / "labelmap.prototxt").write_text(LABEL_MAP + 'item { name: "dog" label: 7 display_name: "dog" }\n')
    for i in range(4):
        Path(f"{i}.xml").write_text(ANNOTATION.replace("NAME", "dog"))
    assert build() == 0
    assert train() == 1
    assert re.search(r"label.*7.*num_classes.*2|class 7", complaint(capfd), re.S)


def test_a_name_outside_the_label_map(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = (run / "db" / "data.mdb").read_bytes()
    for i in (1, 3):
        Path(f"{i}.xml").write_text(ANNOTATION.replace("NAME", "17"))
    assert build() == 1
    err = complaint(capfd)
    assert "1.xml" in err
    assert "3.xml" in err
    assert "'17'" in err
    assert "cat" in err
    assert (run / "db" / "data.mdb").read_bytes() == before


def test_a_corrupt_image_is_named(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = Path("2.jpg").read_bytes()
    Path("2.jpg").write_bytes(whole[: len(whole) // 3] + bytes(40))
    if build() == 0:
        assert train() == 1
    assert "2.jpg" in complaint(capfd)


def test_an_empty_database(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import lmdb

    lmdb.open(str(run / "empty")).close()
    Path("net.prototxt").write_text(NET.replace('source: "db"', 'source: "empty"'))
    assert train() == 1
    assert re.search(r"layer 'data'.*empty", complaint(capfd), re.S)


@pytest.mark.parametrize(
    ("flag", "file"),
    [("-weights", "db/data.mdb"), ("-weights", "0.jpg"), ("-snapshot", "0.jpg"), ("-weights", "net.prototxt")],
)
def test_foreign_files(run: Path, capfd: pytest.CaptureFixture[str], flag: str, file: str) -> None:
    assert train(flag, file) == 1
    assert file in complaint(capfd)


@pytest.mark.parametrize("keep", [0, 1, 40, 0.5, -1])
def test_truncated_weights_and_states(run: Path, capfd: pytest.CaptureFixture[str], keep: float) -> None:
    assert train() == 0
    capfd.readouterr()
    for flag, name in (("-weights", "tiny_iter_2.caffemodel"), ("-snapshot", "tiny_iter_2.solverstate")):
        whole = (run / "out" / name).read_bytes()
        cut = whole[: int(len(whole) * keep)] if 0 < keep < 1 else whole[: int(keep)]
        (run / "out" / f"cut_{name}").write_bytes(cut)
        assert train(flag, f"out/cut_{name}", *(["-overwrite"] if flag == "-weights" else [])) == 1
        assert f"cut_{name}" in complaint(capfd)


def test_images_to_detect_in(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert train() == 0
    capfd.readouterr()
    assert ssd_detect.main(["nowhere.prototxt", "out/tiny_iter_2.caffemodel", "0.jpg"]) == 1
    assert "nowhere.prototxt" in complaint(capfd)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["trian", "-solver", "solver.prototxt"], "did you mean 'train'?"),
        (["train", "solver.prototxt"], "arguments are flags with their values, such as -solver solver.prototxt"),
        (
            ["train", "-solver", "solver.prototxt", "--weight", "x"],
            "unrecognized arguments: --weight x; did you mean -weights?",
        ),
        (["version", "now"], "unrecognized arguments: now\n"),
    ],
)
def test_what_is_not_understood_gets_a_hint(words: list[str], hint: str, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        status: object = caffe.main(words)
    except SystemExit as end:
        status = end.code
    assert status == 1
    assert hint in complaint(capfd)


def test_an_annotated_list_for_classification(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert convert_annoset.main(["-encoded", "./", "list.txt", "other"]) == 1
    assert "convert_annoset -anno_type=detection" in complaint(capfd)


def test_the_folder_itself_as_output(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert import_annotations.main([".", "."]) == 1
    assert "OUT '.' is FOLDER itself; give another directory" in complaint(capfd)


def test_results_and_lists_that_are_elsewhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lists = tmp_path / "voc" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("a\n")
    (tmp_path / "run" / "results").mkdir(parents=True)
    (tmp_path / "run" / "results" / "comp4_det_test_cat.txt").write_text("a 0.5 1 1 5 5\n")

    def said(results: str, data: str) -> str:
        assert score_voc.main([str(tmp_path / results), "--voc", str(tmp_path / data)]) == 1
        return complaint(capfd)

    assert "is not a directory; result files" in said("none", "voc")
    assert f"give '{tmp_path / 'run' / 'results'}', which has some" in said("run", "voc")
    assert "has no list 'test' (ImageSets/Main/test.txt); its lists: trainval" in said("run/results", "voc")
    assert "it should have JPEGImages, Annotations and ImageSets/Main" in said("run/results", "run")


def test_no_space_left(run: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk while a snapshot is written: the earlier one stays, and no part of the new one is left."""
    assert train() == 0
    earlier = (run / "out" / "tiny_iter_2.caffemodel").read_bytes()
    files = sorted((run / "out").iterdir())
    capfd.readouterr()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert train("-overwrite") == 1
    assert "no space left" in complaint(capfd)
    assert (run / "out" / "tiny_iter_2.caffemodel").read_bytes() == earlier
    assert sorted((run / "out").iterdir()) == files
