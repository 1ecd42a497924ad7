"""Batch normalization that the experiment on small objects adds to networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffe.proto.text import to_text
from experiments.small_objects.normalization import KEPT, normalize, normalized
from prototxt_gen.dsod300 import DSOD300
from prototxt_gen.mdssd300 import MDSSD300
from prototxt_gen.network import Network
from prototxt_gen.ssd300 import SSD300
from tests.narrow import narrow_deploy


@pytest.mark.parametrize("network", [SSD300, MDSSD300])
def test_normalization_of_a_network_without_any(network: Network) -> None:
    plain = narrow_deploy(network)
    changed = normalized(plain)
    activated = {layer.bottom[0] for layer in plain.layer if layer.type == "ReLU"}
    convolutions = [layer.name for layer in plain.layer if layer.type == "Convolution" and layer.top[0] in activated]
    added = [layer for layer in changed.layer if layer.type == "BatchNorm"]
    assert [layer.name for layer in added] == [f"{name}_bn" for name in convolutions]
    assert {round(layer.batch_norm_param.moving_average_fraction, 6) for layer in added} == {KEPT}
    assert [layer for layer in changed.layer if layer.type not in ("BatchNorm", "Scale")] == list(plain.layer)
    assert normalized(changed) == changed


def test_normalization_of_a_network_that_has_it() -> None:
    plain = narrow_deploy(DSOD300)
    changed = normalized(plain)
    assert len(changed.layer) == len(plain.layer)
    for layer in changed.layer:
        if layer.type == "BatchNorm":
            assert layer.batch_norm_param.moving_average_fraction == pytest.approx(KEPT)
            layer.batch_norm_param.ClearField("moving_average_fraction")
    for layer in plain.layer:
        if layer.type == "BatchNorm":
            layer.batch_norm_param.ClearField("moving_average_fraction")
    assert changed == plain


def test_normalized_files(tmp_path: Path) -> None:
    (tmp_path / "train.prototxt").write_text(f"# Made by: a generator\n{to_text(narrow_deploy(SSD300))}")
    (tmp_path / "solver.prototxt").write_text("base_lr: 1\n")
    (tmp_path / "solver_ft.prototxt").write_text("base_lr: 1\n")
    normalize(tmp_path)
    text = (tmp_path / "train.prototxt").read_text()
    assert text.startswith("# Made by: a generator\n")
    assert "conv1_1_bn" in text
    assert (tmp_path / "solver.prototxt").read_text() == "base_lr: 1\n"
    normalize(tmp_path)
    assert (tmp_path / "train.prototxt").read_text() == text
