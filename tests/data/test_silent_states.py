"""Warnings of states in which training or testing goes on without an error and without use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffe.cli import convert_annoset
from caffe.data.feed import listed_sizes
from caffe.data.feed.box_checks import PATIENCE, SAMPLE, BoxWatch, sample
from caffe.data.lmdb_source import LmdbSource
from caffe.detection.same_boxes import IMAGES, SameBoxes, are_same
from caffe.engine.layer import TEST, TRAIN
from caffe.engine.net import Net
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from caffe.proto.text import parse_text
from caffe.solver.fine_tuning import made_for_fine_tuning, warn_if_from_scratch
from caffe.solver.solver import Solver
from tests.data.conftest import Folder, photograph, voc_object, voc_xml

CAT = voc_object("cat", 8, 6, 40, 30)


def net(text: str, phase: int) -> Net:
    param = caffe_pb2.NetParameter()
    parse_text(text, param, "net")
    return Net(param, phase)


def data_layer(folder: Folder) -> str:
    return f"""layer {{ name: "data" type: "AnnotatedData" top: "data" top: "label"
        data_param {{ source: "{folder.root}/db" batch_size: 2 backend: LMDB }}
        transform_param {{ resize_param {{ prob: 1 resize_mode: WARP height: 20 width: 20 interp_mode: LINEAR }} }} }}"""


# ---- no boxes, background boxes


@pytest.mark.parametrize(
    ("objects", "phase", "says"),
    [
        ([[], []], TRAIN, "there is no box with an area in its records"),
        ([[voc_object("cat", 5, 5, 5, 9)], []], TRAIN, "there is no box with an area in its records"),
        ([[], []], TEST, None),
        ([[CAT], []], TRAIN, None),
        ([[CAT, voc_object("none_of_the_above", 1, 2, 30, 40)]], TRAIN, "1 box with label 0 in its records"),
    ],
)
def test_labels_are_looked_at_before_training(
    folder: Folder, capfd: pytest.CaptureFixture[str], objects: list[list[str]], phase: int, says: str | None
) -> None:
    for number, each in enumerate(objects):
        folder.add(f"i{number}", voc_xml(*each))
    assert convert_annoset.main(folder.arguments()) == 0
    capfd.readouterr()
    made = net(data_layer(folder), phase)
    made.close()
    warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("W")]
    assert [says in line for line in warnings] == [True] if says else not warnings


def test_sample_is_spread_over_the_records() -> None:
    assert sample(3) == [0, 1, 2]
    assert len(sample(SAMPLE)) == SAMPLE
    large = sample(1_000_003)
    assert len(large) == SAMPLE
    assert max(np.diff(large)) - min(np.diff(large)) <= 1


def test_boxes_that_augmentation_removes(capfd: pytest.CaptureFixture[str]) -> None:
    nothing, box = np.empty((0, 7), np.float32), np.array([[1, 0, 0.1, 0.1, 0.5, 0.5, 0]], np.float32)
    flat = np.array([[1, 0, 0.1, 0.1, 0.1, 0.5, 0]], np.float32)
    watch = BoxWatch("layer 'data'")
    for _ in range(PATIENCE - 1):
        watch.see([nothing])
    watch.see([box])
    for _ in range(PATIENCE // 2 - 1):
        watch.see([flat, nothing])
    assert capfd.readouterr().err == ""
    for _ in range(PATIENCE):
        watch.see([nothing, nothing])
    assert capfd.readouterr().err.count("no box was left in the last 1,000 images") == 1


# ---- sizes of another list


def sizes_of(folder: Folder, *sizes: tuple[int, int], flags: tuple[str, ...] = ()) -> LmdbSource:
    for number, (height, width) in enumerate(sizes):
        folder.add(f"i{number}", voc_xml(CAT, size=""), image=photograph(number, height, width))
    assert convert_annoset.main(folder.arguments(*flags)) == 0
    return LmdbSource(folder.root / "db")


def test_sizes_that_contradict_the_records(folder: Folder) -> None:
    source = sizes_of(folder, (60, 80), (80, 60), (50, 50))
    assert listed_sizes.contradiction(source, [(60, 80), (80, 60), (50, 50)]) is None
    # records may have been made smaller, with rounding
    assert listed_sizes.contradiction(source, [(601, 799), (1066, 800), (400, 400)]) is None
    found = listed_sizes.contradiction(source, [(60, 80), (60, 80), (50, 50)])
    assert found == "image 2 is 80 × 60 in the list, but record '00000001_i1.jpg' is 60 × 80"
    assert listed_sizes.contradiction(source, [(300, 300)] * 3) is not None


def test_sizes_of_warped_records(folder: Folder) -> None:
    source = sizes_of(folder, (60, 80), (80, 60), flags=("-resize_height=30", "-resize_width=30"))
    assert listed_sizes.contradiction(source, [(60, 80), (80, 60)]) is None


def test_a_test_net_warns_once_of_sizes(folder: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    sizes_of(folder, (60, 80), (80, 60))
    (folder.root / "sizes.txt").write_text("i0 60 80\ni1 60 80\n")
    text = data_layer(folder).replace("height: 20 width: 20", "height: 28 width: 28")
    text += """layer { name: "found" type: "Reshape" bottom: "data" top: "found"
        reshape_param { shape { dim: 1 dim: 1 dim: -1 dim: 7 } } }"""
    for name in ("one", "two"):
        text += f"""layer {{ name: "{name}" type: "DetectionEvaluate" bottom: "found" bottom: "label" top: "{name}"
            detection_evaluate_param {{ num_classes: 3 name_size_file: "{folder.root}/sizes.txt" }} }}"""
    net(text, TEST).close()
    assert capfd.readouterr().err.count("does not fit the records of layer 'data'") == 1


# ---- a detector that ignores its image


def jittered(rng: np.random.Generator, by: float) -> np.ndarray:
    return np.array([0.2, 0.1, 0.8, 0.9], np.float32) + rng.uniform(-by, by, 4).astype(np.float32)


def test_boxes_that_are_the_same() -> None:
    rng = np.random.default_rng(0)
    same = np.array([jittered(rng, 0.01) for _ in range(IMAGES)])
    assert are_same(same)
    assert not are_same(same[:-1])  # too few to tell
    assert not are_same(np.array([jittered(rng, 0.1) for _ in range(IMAGES)]))
    assert not are_same(np.zeros((IMAGES, 4), np.float32))


@pytest.mark.parametrize(("objects", "warns"), [("elsewhere", True), ("there", False), ("unknown", True)])
def test_a_detector_that_ignores_its_image(objects: str, warns: bool) -> None:
    rng = np.random.default_rng(0)
    same = SameBoxes()
    warnings = []
    for _ in range(3 * IMAGES):
        known = {
            "elsewhere": np.concatenate([rng.uniform(0, 0.5, 2), rng.uniform(0.5, 1, 2)]).astype(np.float32)[None],
            "there": jittered(rng, 0.01)[None],
            "unknown": None,
        }[objects]
        same.see(jittered(rng, 0.005), known)
        warnings += [warning] if (warning := same.warning()) else []
    assert len(warnings) == warns
    assert all("The best box is the same in each of 20 images, about (0.2" in warning for warning in warnings)


def test_a_detector_that_looks_is_not_warned_of() -> None:
    rng = np.random.default_rng(0)
    same = SameBoxes()
    for _ in range(3 * IMAGES):
        same.see(jittered(rng, 0.1))
        assert same.warning() is None


def test_evaluation_warns_of_the_same_box(capfd: pytest.CaptureFixture[str]) -> None:
    made = net(
        """layer { name: "found" type: "Input" top: "found" input_param { shape { dim: 1 dim: 1 dim: 1 dim: 7 } } }
        layer { name: "truth" type: "Input" top: "truth" input_param { shape { dim: 1 dim: 1 dim: 1 dim: 8 } } }
        layer { name: "evaluate" type: "DetectionEvaluate" bottom: "found" bottom: "truth" top: "evaluate"
          detection_evaluate_param { num_classes: 2 } }""",
        TEST,
    )
    rng = np.random.default_rng(0)
    for _ in range(2 * IMAGES):
        low = rng.uniform(0, 0.5, 2)
        made.blobs["found"].data[...] = np.array([0, 1, 0.9, 0.2, 0.1, 0.8, 0.9], np.float32)
        made.blobs["truth"].data[...] = np.array([0, 1, 0, *low, *(low + 0.3), 0], np.float32)
        made.forward_layers()
    assert capfd.readouterr().err.count("the detector seems to ignore what it sees") == 1


# ---- random weights


def convolutions(count: int, more: str = "", rate: float = 1) -> str:
    text = 'layer { name: "data" type: "Input" top: "c0" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }'
    for number in range(count):
        text += f"""layer {{ name: "conv{number}" type: "Convolution" bottom: "c{number}" top: "c{number + 1}"
            param {{ lr_mult: {rate} }} param {{ lr_mult: {rate} }}
            convolution_param {{ num_output: 2 kernel_size: 3 pad: 1 weight_filler {{ type: "xavier" }} }} }}"""
    return text + more


NORM = """layer {{ name: "bn" type: "BatchNorm" bottom: "c1" top: "n" batch_norm_param {{ use_global_stats: {} }} }}"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (convolutions(13), "it has 13 layers with weights and no batch normalization"),
        (convolutions(2, rate=0), "lr_mult: 0, so they will stay as they are initialized: conv0, conv1"),
        (convolutions(1, NORM.format("true")), "use_global_stats"),
        (convolutions(12), None),
        (convolutions(1, rate=0).replace("xavier", "bilinear"), None),
        (convolutions(20, NORM.format("false")), None),
    ],
)
def test_nets_made_for_fine_tuning(text: str, says: str | None, capfd: pytest.CaptureFixture[str]) -> None:
    made = net(text, TRAIN)
    reason = made_for_fine_tuning(made)
    assert says in reason if says and reason else reason is says
    warn_if_from_scratch(made)
    assert ("Training starts from random weights, but" in capfd.readouterr().err) == (says is not None)


# ---- settings of a solver


@pytest.mark.parametrize(
    ("solver", "says"),
    [
        ('eval_type: "detection" ap_version: "11points"', "unknown ap_version '11points'; known: 11point"),
        ('eval_type: "detection"', "output 'c1' has shape"),
    ],
)
def test_late_errors_are_early(
    solver: str, says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    param = caffe_pb2.SolverParameter()
    text = f"""{solver} base_lr: 0.1 lr_policy: "fixed" max_iter: 1 test_iter: 1 test_interval: 1 snapshot_prefix: "x"
        net_param {{ {convolutions(1)} }}"""
    parse_text(text, param, "solver")
    with pytest.raises(CaffeError, match=says):
        Solver(param)
