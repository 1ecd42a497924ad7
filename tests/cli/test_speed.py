"""`caffe speed`: the figures of a small detector, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from caffe.cli import speed
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
        speed._estimate_statistics(net, batch)
        found = net(batch)[1]["x40"]
        # The variances that are kept are m / (m - 1) times the batch's, so each of the 40 layers scales by sqrt(71 / 72).
        assert float(found.std()) == pytest.approx((71 / 72) ** (40 / 2), rel=0.05)
        speed._estimate_statistics(net, {"x0": batch["x0"] * 3})
        assert torch.equal(net(batch)[1]["x40"], found)


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "deploy.prototxt").write_text(DETECTOR[: DETECTOR.index('layer { name: "out"')])
    assert main([str(tmp_path)]) == 1
    assert "has 0 DetectionOutput layers" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere")]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert main([str(tmp_path), "-weights", "a,b"]) == 1
    assert "-weights has 2 files for 1 models" in capsys.readouterr().err
    assert main([str(tmp_path), "-image_dir", "nowhere"]) == 1
    assert "is not a directory" in capsys.readouterr().err
