"""The controls of DSSD's decoder, and the table of what the decoder leaves of the encoder's information."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest
import torch

from caffe.engine.layer import TRAIN
from caffe.engine.net import Net
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from caffe.proto.text import to_text
from experiments.small_objects.decoder_control import CONTROLS, MDSSD_CONTROLS, change
from experiments.small_objects.decoder_start import area_under_curve, inside, kurtosis, main, separation
from experiments.small_objects.decoder_trainings import NETWORKS, small_net, train
from experiments.small_objects.decoder_trainings import main as train_all
from experiments.small_objects.plan import ARMS
from prototxt_gen.command_line import main as generate
from prototxt_gen.dssd321 import DSSD321
from prototxt_gen.mdssd300 import MDSSD300
from prototxt_gen.network import WHOLE
from prototxt_gen.ssd321 import SSD321
from tests.narrow import narrow_deploy, narrow_train

MODULES = ("8", "7", "6", "5", "3")


def changed_layers(control: str) -> dict[str, Any]:
    """The layers that the control changes in DSSD321, by name."""
    plain, net = narrow_deploy(DSSD321), narrow_deploy(DSSD321)
    CONTROLS[control](net)
    return {new.name: new for old, new in zip(plain.layer, net.layer, strict=True) if old != new}


def test_sums_for_products() -> None:
    changed = changed_layers("sum")
    assert [*changed] == [f"combined_{module}_EltwisePROD" for module in MODULES]
    for layer in changed.values():
        assert layer.eltwise_param.operation == caffe_pb2.EltwiseParameter.SUM


def test_deeper_factors_that_start_near_one() -> None:
    changed = changed_layers("near_one")
    assert [*changed] == [f"deconv_{module}_pre_scale" for module in MODULES]
    for layer in changed.values():
        scale = layer.scale_param
        assert (scale.filler.type, scale.bias_filler.type) == ("constant", "constant")
        assert (scale.filler.value, scale.bias_filler.value) == (pytest.approx(0.1), 1)


def test_the_encoder_alone() -> None:
    plain, net = narrow_train(2, DSSD321, WHOLE), narrow_train(2, DSSD321, WHOLE)
    CONTROLS["encoder"](net)
    removed = {layer.name for layer in plain.layer} - {layer.name for layer in net.layer}
    assert removed == {
        name
        for module in MODULES
        for name in (
            f"deconv_{module}", f"deconv_{module}_pre", f"deconv_{module}_pre_bn", f"deconv_{module}_pre_scale",
            f"combined_{module}_EltwisePROD",
        )
    }  # fmt: skip
    sides = {layer.top[0]: layer.bottom[0] for layer in net.layer if layer.name.startswith("combined_")}
    assert sides["combined_3_EltwisePROD_relu"] == "res3b3_relu_pre2"
    assert len(sides) == len(MODULES)
    assert Net(net, TRAIN).outputs == Net(plain, TRAIN).outputs, "no layer is left without a reader"


def test_a_deep_side_that_starts_small(tmp_path: Path) -> None:
    plain, net = narrow_train(2, MDSSD300), narrow_train(2, MDSSD300)
    MDSSD_CONTROLS["small_deep"](net)
    scales = [
        {layer.name: layer.norm_param.scale_filler.value for layer in each.layer if layer.type == "Normalize"}
        for each in (plain, net)
    ]
    assert len(scales[0]) == 6
    for name, value in scales[0].items():
        assert scales[1][name] == pytest.approx(0.05 * value if name.endswith("_deep_norm") else value)
    (tmp_path / "deploy.prototxt").write_text(f"# Made by: a generator\n{to_text(plain)}")
    for _ in range(2):
        change(tmp_path, "small_deep")
        text = (tmp_path / "deploy.prototxt").read_text()
        assert text.removeprefix("# Made by: a generator\n") == to_text(net)
    with pytest.raises(CaffeError, match="has no fusion modules; this needs an MDSSD"):
        MDSSD_CONTROLS["small_deep"](narrow_deploy(SSD321))


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_need_a_decoder(control: str) -> None:
    with pytest.raises(CaffeError, match="has no deconvolution modules; this needs a DSSD"):
        CONTROLS[control](narrow_deploy(SSD321))


@pytest.mark.parametrize("control", CONTROLS)
def test_changed_files(control: str, tmp_path: Path) -> None:
    before = f"# Made by: a generator\n{to_text(narrow_deploy(DSSD321))}"
    (tmp_path / "train.prototxt").write_text(before)
    (tmp_path / "solver.prototxt").write_text("base_lr: 1\n")
    change(tmp_path, control)
    text = (tmp_path / "train.prototxt").read_text()
    assert text.startswith("# Made by: a generator\n")
    assert "operation: PROD" not in text or control == "near_one"
    assert text != before
    assert (tmp_path / "solver.prototxt").read_text() == "base_lr: 1\n"
    change(tmp_path, control)
    assert (tmp_path / "train.prototxt").read_text() == text


def test_arms_of_the_controls() -> None:
    for control in CONTROLS:
        arm = ARMS[f"dssd321-{control}-designed-scratch"]
        assert (arm.generator, arm.control, arm.start) == ("dssd321", control, "scratch")
        assert arm.flags == ARMS["dssd321-designed-scratch"].flags
    assert ARMS["dssd321-designed-scratch"].control is None
    assert ARMS["mdssd300-shallow-designed"].control is None
    assert ARMS["mdssd300-small_deep-designed-scratch"].control == "small_deep"
    assert ARMS["mdssd300-small_deep-designed-scratch"].generator == "mdssd300"


def test_cells_inside_objects() -> None:
    label = torch.full((1, 1, 3, 8), -1.0)
    label[0, 0, 0, [0, 3, 4, 5, 6]] = torch.tensor([1, 0.1, 0.3, 0.6, 0.4])  # the centers at 0.125 to 0.375, and 0.375
    label[0, 0, 1, [0, 3, 4, 5, 6]] = torch.tensor([1, 0.9, 0.9, 0.99, 0.99])  # between the centers
    found = inside(label, 2, 4, 4)
    assert found.nonzero().tolist() == [[1, 1, 0], [1, 1, 1]]


def test_area_under_the_curve_is_a_probability() -> None:
    generator = np.random.default_rng(0)
    scores, truth = generator.integers(0, 9, 60).astype(float), generator.random(60) < 0.4
    pairs = [(a > b) + (a == b) / 2 for a in scores[truth] for b in scores[~truth]]
    assert area_under_curve(torch.tensor(scores), torch.tensor(truth)) == pytest.approx(np.mean(pairs))
    assert math.isnan(area_under_curve(torch.ones(3), torch.ones(3, dtype=torch.bool)))


def test_a_random_sign_hides_what_a_feature_says() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(20_000, generator=generator) < 0.1
    feature = truth + 0.5 * torch.randn(20_000, generator=generator)
    sign = torch.randn(20_000, generator=generator).sign()
    others = torch.randn(20_000, 3, generator=generator)
    # two normal distributions a distance of 2 deviations apart: Φ(2 / √2)
    assert separation(torch.column_stack([others, feature]), truth) == pytest.approx(0.921, abs=0.015)
    assert separation(torch.column_stack([others, feature * sign]), truth) == pytest.approx(0.5, abs=0.03)


def test_kurtosis() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 100_000, 4, generator=generator)
    assert kurtosis(5 + 2 * a) == pytest.approx(3, abs=0.1)
    assert kurtosis(a * b) == pytest.approx(9, abs=1)
    assert kurtosis(torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])) == pytest.approx(1)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """DSSD321 with a sixteenth of the channels, and four images of noise with one bright square each."""
    monkeypatch.chdir(tmp_path)
    Path("six.prototxt").write_text("".join(f'item {{ name: "{i}" label: {i} }}\n' for i in range(7)))
    generator = np.random.default_rng(0)
    with lmdb.open("lmdb") as environment, environment.begin(write=True) as transaction:
        for index in range(4):
            image = generator.integers(0, 90, (321, 321, 3), np.uint8)
            x, y = generator.integers(0, 240, 2).tolist()
            cv2.rectangle(image, (x, y), (x + 80, y + 80), (30, 200, 240), -1)
            record: Any = caffe_pb2.AnnotatedDatum(type=caffe_pb2.AnnotatedDatum.BBOX)
            record.datum.channels, record.datum.height, record.datum.width, record.datum.encoded = 3, 321, 321, True
            record.datum.data = cv2.imencode(".png", image)[1].tobytes()
            box = record.annotation_group.add(group_label=1).annotation.add().bbox
            box.xmin, box.ymin, box.xmax, box.ymax = x / 321, y / 321, (x + 80) / 321, (y + 80) / 321
            transaction.put(f"{index:08d}_{index}".encode(), record.SerializeToString())
    Path("sizes.txt").write_text("".join(f"{i} 321 321\n" for i in range(4)))
    flags = "--from_scratch --width 1/16 --label_map six.prototxt --train_lmdb lmdb --test_lmdb lmdb"
    flags += " --test_name_size sizes.txt --gpus none --batch 2 --augmentation mirror --output model"
    assert generate(DSSD321, flags.split()) == 0
    return Path("model")


def test_of_a_network(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for control in ([], ["--control", "near_one"]):
        assert main([str(model), "--images", "3", *control]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("4 images, ")
        values = [line.split() for line in lines[1:] if "combined_" in line]
        assert [row[0] for row in values[:5]] == [f"combined_{module}_EltwisePROD" for module in MODULES]
        blobs = [line.split() for line in lines[-3:]]
        assert [row[0] for row in blobs] == ["res3b3_relu_pre2", "deconv_3_pre", "combined_3_EltwisePROD_relu"]
        found[bool(control)] = float(values[4][2]), *(float(row[1]) for row in blobs)
    (tails, encoder, _, product), (fewer_tails, encoder_too, _, kept) = found[False], found[True]
    assert tails > 3 * fewer_tails
    assert encoder == encoder_too > 0.9
    assert product < kept
    assert kept == pytest.approx(encoder, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere/train.prototxt"),
        (["model", "--images", "1"], "--images 1: must be at least 2"),
        (["model", "--weights", "none.caffemodel"], "none.caffemodel: no such file"),
    ],
)
def test_mistakes(arguments: list[str], message: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


# ---- the trainings of a small DSSD


@pytest.mark.parametrize("name", NETWORKS)
def test_small_networks(name: str, tmp_path: Path) -> None:
    labels = tmp_path / "six.prototxt"
    labels.write_text("".join(f'item {{ name: "{i}" label: {i} }}\n' for i in range(7)))
    param = small_net(name, tmp_path / "lmdb", labels)
    assert param.layer[0].data_param.source == str(tmp_path / "lmdb")
    inputs: Any = caffe_pb2.LayerParameter(name="data", type="Input", top=["data", "label"])
    for shape in ((2, 3, 161, 161), (1, 1, 6, 8)):
        inputs.input_param.shape.add().dim.extend(shape)
    param.layer[0].CopyFrom(inputs)
    net = Net(param, TRAIN)
    last = "res3b3" if name == "ssd" else "combined_3_EltwisePROD_relu"
    assert net.blobs[last].shape == (2, 64, 20, 20)
    assert net.blobs["res4b2"].shape == (2, 128, 10, 10)
    assert net.blobs["res8"].shape == (2, 128, 1, 1)
    assert ("deconv_7" in net.blobs) == (name not in ("ssd", "dssd-encoder"))
    assert net.outputs == ["mbox_loss"]


class Written:
    """Commands that write a training log instead of training."""

    def run(self, log: Path, *words: object) -> float:
        lines = [f"Iteration {i}, loss = {i / 10}" for i in range(0, 101, 10)]
        log.write_text("".join(f"I20260102 03:04:05.000000 1 solver.cpp:243] {line}\n" for line in lines))
        return 1.0


def test_the_loss_is_that_of_the_last_iterations(tmp_path: Path) -> None:
    commands: Any = Written()
    assert train(commands, caffe_pb2.NetParameter(), tmp_path, 0.01, 100, 1) == pytest.approx(8)  # 6, 7, 8, 9, 10
    assert "base_lr: 0.01" in (tmp_path / "solver.prototxt").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["."], "it has no lmdb/trainval"), ([".", "--iterations", "49"], "--iterations 49: must be at least 50")],
)
def test_mistakes_with_trainings(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert train_all(arguments) == 1
    assert message in capsys.readouterr().err
