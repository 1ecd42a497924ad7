"""`caffe speed`: the figures of a small detector, and what it refuses."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from caffe.cli import detector_speed, speed
from caffe.cli.speed import main
from caffe.engine.layer import TEST
from caffe.engine.net import Net
from caffe.proto import caffe_pb2
from caffe.proto.text import parse_text

DETECTOR = """
name: "small_deploy"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 48 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 stride: 8 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "loc" type: "Convolution" bottom: "conv" top: "loc" convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "conf" type: "Convolution" bottom: "conv" top: "conf"
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "loc_p" type: "Permute" bottom: "loc" top: "loc_p" permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_p" type: "Permute" bottom: "conf" top: "conf_p" permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_f" type: "Flatten" bottom: "loc_p" top: "loc_f" flatten_param { axis: 1 } }
layer { name: "conf_f" type: "Flatten" bottom: "conf_p" top: "conf_f" flatten_param { axis: 1 } }
layer { name: "prior" type: "PriorBox" bottom: "conv" bottom: "data" top: "prior" prior_box_param { min_size: 8 } }
layer { name: "out" type: "DetectionOutput" bottom: "loc_f" bottom: "conf_f" bottom: "prior" top: "out"
  detection_output_param { num_classes: 2 share_location: true background_label_id: 0
    nms_param { nms_threshold: 0.45 top_k: 20 } keep_top_k: 10 confidence_threshold: 0.01 } }
"""


def test_figures_of_a_detector(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "deploy.prototxt").write_text(DETECTOR)
    assert main([str(tmp_path), "-images", "3", "-json", str(tmp_path / "speed.json")]) == 0
    assert "random weights" in capsys.readouterr().out
    values = json.loads((tmp_path / "speed.json").read_text())
    assert (values["images"], values["batch"], values["precision"]) == (3, 1, "fp32")
    (row,) = values["models"]
    assert row["images"] == 3
    assert (row["name"], row["input"]) == ("small", "48 x 32")
    assert all(row[key] > 0 for key in ("net", "nms", "decoding", "decoding_nms"))
    # 3x3 of 3 channels to 4, then 4 channels to 4 and to 2, at 4 x 6 places, with biases
    assert row["parameters"] == 4 * 27 + 4 + 16 + 4 + 8 + 2
    assert row["operations"] == 2 * 24 * (4 * 27 + 16 + 8)


def test_statistics_of_an_untrained_net() -> None:
    """A net with many BatchNorm layers and no statistics yet has finite scores, and keeps statistics that it has."""
    layers = "".join(
        f"""
        layer {{ name: "conv{i}" type: "Convolution" bottom: "x{i}" top: "c{i}"
          convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 weight_filler {{ type: "msra" }} }} }}
        layer {{ name: "norm{i}" type: "BatchNorm" bottom: "c{i}" top: "x{i + 1}" }}"""
        for i in range(40)
    )
    data = 'layer { name: "data" type: "Input" top: "x0" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 9 } } }'
    net = Net(parse_text(data + layers, caffe_pb2.NetParameter(), "made"), TEST)
    batch = {"x0": torch.rand(1, 3, 8, 9, generator=torch.Generator().manual_seed(1)) * 255}
    with torch.no_grad():
        assert not net(batch)[1]["x40"].isfinite().all()
        detector_speed._estimate_statistics(net, batch)
        found = net(batch)[1]["x40"]
        # The variances that are kept are m / (m - 1) times the batch's, so each of the 40 layers scales by sqrt(71 / 72).
        assert float(found.std()) == pytest.approx((71 / 72) ** (40 / 2), rel=0.05)
        detector_speed._estimate_statistics(net, {"x0": batch["x0"] * 3})
        assert torch.equal(net(batch)[1]["x40"], found)


def test_slow_models_are_timed_with_fewer_images(tmp_path: Path) -> None:
    (tmp_path / "deploy.prototxt").write_text(DETECTOR)
    target = tmp_path / "speed.json"
    assert main([str(tmp_path), "-images", "50", "-seconds", "1e-9", "-json", str(target)]) == 0
    assert json.loads(target.read_text())["models"][0]["images"] == 1
    assert main([str(tmp_path), "-images", "5", "-seconds", "100", "-json", str(target)]) == 0
    assert json.loads(target.read_text())["models"][0]["images"] == 5


@pytest.fixture
def three(tmp_path: Path) -> list[str]:
    """The directories of three detectors, called a, b and c, of which b cannot run."""
    for name in "abc":
        (tmp_path / name / "VOC").mkdir(parents=True)
        text = DETECTOR.replace("small", name)
        if name == "b":
            text = text.replace('bottom: "conv" top: "loc"', 'bottom: "gone" top: "loc"')
        (tmp_path / name / "VOC" / "deploy.prototxt").write_text(text)
    return [str(tmp_path / name / "VOC") for name in "abc"]


def test_a_model_that_fails_costs_no_other_figures(
    three: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*three, "-images", "1", "-json", str(tmp_path / "speed.json")]) == 1
    found = capsys.readouterr()
    assert [line.split()[0] for line in found.out.splitlines()[2:4]] == ["a", "c"]
    assert [row["name"] for row in json.loads((tmp_path / "speed.json").read_text())["models"]] == ["a", "c"]
    assert "1 of 3 models were not measured" in found.err
    assert "b/VOC/deploy.prototxt: " in found.err
    assert "gone" in found.err
    assert "Traceback" not in found.err


def test_an_interrupt_costs_no_figures(
    three: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure = detector_speed.measure

    def interrupted(path: Path, *rest: Any) -> dict[str, Any]:
        if "b" in path.parts:
            raise KeyboardInterrupt
        return measure(path, *rest)

    monkeypatch.setattr(detector_speed, "measure", interrupted)
    assert main([*three, "-images", "1", "-json", str(tmp_path / "speed.json")]) == 130
    found = capsys.readouterr()
    assert [line.split()[0] for line in found.out.splitlines()[2:3]] == ["a"]
    assert found.err.endswith("caffe speed: interrupted\n")
    assert [row["name"] for row in json.loads((tmp_path / "speed.json").read_text())["models"]] == ["a"]


def test_a_measured_net_is_freed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the next one is built: nine large nets do not fit in memory together."""
    (tmp_path / "deploy.prototxt").write_text(DETECTOR)
    build = detector_speed._build
    built: list[weakref.ref[Net]] = []

    def seen(*arguments: Any) -> Any:
        gc.disable()
        assert not any(each() is not None for each in built)
        nets = build(*arguments)
        built.extend(weakref.ref(net) for net in nets)
        return nets

    monkeypatch.setattr(detector_speed, "_build", seen)
    try:
        assert main([str(tmp_path)] * 2 + ["-images", "1"]) == 0
    finally:
        gc.enable()
    assert len(built) == 4


def test_the_paper_s_networks_need_a_checkout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "_MODELS", tmp_path / "models")
    assert main(["-images", "1"]) == 1
    assert "without MODEL it measures the networks of a checkout" in capsys.readouterr().err


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "deploy.prototxt").write_text(DETECTOR[: DETECTOR.index('layer { name: "out"')])
    assert main([str(tmp_path)]) == 1
    assert "has 0 DetectionOutput layers" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere")]) == 1
    assert "no such file; give a deploy prototxt" in capsys.readouterr().err
    weights = tmp_path / "a.caffemodel"
    weights.touch()
    (tmp_path / "deploy.prototxt").write_text(DETECTOR)
    assert main([str(tmp_path), "-weights", f"{weights},{weights}"]) == 1
    assert "-weights has 2 files for 1 models" in capsys.readouterr().err
    assert main([str(tmp_path), "-image_dir", "nowhere"]) == 1
    assert "is not a directory" in capsys.readouterr().err


def test_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "deploy.prototxt").write_text(DETECTOR)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"no image")
    (tmp_path / "file").touch()
    monkeypatch.setattr(detector_speed, "measure", lambda *_: pytest.fail("measured"))
    for flags, message in (
        (["-json", str(tmp_path)], "cannot be written, it is a directory"),
        (["-json", str(tmp_path / "file" / "x.json")], "is not a directory"),
        (["-weights", "gone.caffemodel"], "-weights gone.caffemodel: no such file"),
        (["-image_dir", str(tmp_path / "images")], "a.jpg: is not an image"),
    ):
        assert main([str(tmp_path), *flags]) == 1
        assert message in capsys.readouterr().err
