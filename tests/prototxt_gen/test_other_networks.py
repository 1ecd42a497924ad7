"""SSD321, SSD513, DSSD321, DSSD513 and DSOD300 are the published networks, layer by layer."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from prototxt_gen.command_line import main
from tests.prototxt_gen.shape_calculation import Sizes, calculate
from tests.prototxt_gen.sources import OTHERS, ROOT, generated

#: the layers from the last predictions on, which the published tables leave out
AFTER = ("Input", "Reshape", "Softmax", "DetectionOutput")


@cache
def sizes_of(network: str, dataset: str = "VOC") -> Sizes:
    return calculate(generated(network, dataset, "deploy"), 1, OTHERS[network].size)


@pytest.mark.parametrize(
    ("network", "dataset", "layers", "boxes", "parameters", "multiply_adds"),
    [
        ("DSOD300", "VOC", 438, 8_744, 14_795_828, "15.08"),
        ("DSOD300", "COCO", 438, 8_744, 21_784_148, "18.37"),
        ("SSD321", "VOC", 651, 17_080, 116_683_008, "35.93"),
        ("DSSD321", "VOC", 716, 17_080, 172_552_975, "53.88"),
    ],
)
def test_counts(network: str, dataset: str, layers: int, boxes: int, parameters: int, multiply_adds: str) -> None:
    sizes = sizes_of(network, dataset)
    assert len([*up_to_predictions(network, dataset)]) == layers
    assert sizes.blobs["mbox_priorbox"] == (1, 2, 4 * boxes)
    assert sizes.count_parameters() == parameters
    assert f"{sizes.multiply_adds / 1e9:.2f}" == multiply_adds


@pytest.mark.parametrize("network", ["SSD513", "DSSD513"])
def test_sizes_at_513(network: str) -> None:
    blobs = sizes_of(network, "COCO").blobs
    sides = [blobs[source.blob][2] for source in OTHERS[network].sources]
    assert sides == [64, 32, 16, 8, 4, 2, 1]
    assert blobs["mbox_priorbox"][2] == 4 * 8 * sum(side * side for side in sides)
    assert blobs["mbox_conf"][1] == 81 * blobs["mbox_loc"][1] // 4


def up_to_predictions(network: str, dataset: str) -> Iterator[Any]:
    for layer in generated(network, dataset, "deploy").layer:
        if layer.type not in AFTER and layer.name != "mbox_conf_flatten":
            yield layer


@pytest.mark.parametrize("network", ["DSOD300", "SSD321", "DSSD321"])
def test_layer_by_layer(network: str, shared: Path) -> None:
    with open(shared / "spec" / "dssd_dsod.tsv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["net"] == network]
    blobs = sizes_of(network).blobs
    found = {layer.name: described(layer, blobs) for layer in up_to_predictions(network, "VOC")}
    expected = {row["layer"]: {key: row[key] for key in described_fields(row)} for row in rows}
    assert found.keys() == expected.keys()
    for name, fields in expected.items():
        assert found[name] == fields, name


def described_fields(row: dict[str, str]) -> list[str]:
    common = ["type", "bottoms", "top", "output"]
    if row["type"] in ("Convolution", "Deconvolution"):
        return [*common, "num_output", "kernel", "stride", "pad", "dilation", "bias"]
    if row["type"] == "Pooling":
        return [*common, "kernel", "stride", "pad", "other"]
    return [*common, "other"] if row["type"] in ("PriorBox", "Eltwise", "BatchNorm") else common


def described(layer: Any, blobs: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """The layer in the words of the table."""
    fields = {
        "type": layer.type,
        "bottoms": ",".join(layer.bottom),
        "top": layer.top[0],
        "output": "x".join(map(str, blobs[layer.top[0]])),
    }
    if layer.type in ("Convolution", "Deconvolution"):
        p = layer.convolution_param
        (dilation,) = p.dilation or (1,)
        fields |= {"num_output": str(p.num_output), "kernel": str(p.kernel_size[0]), "dilation": str(dilation)}
        fields |= {"stride": str(p.stride[0]), "pad": str(p.pad[0]), "bias": str(p.bias_term)}
    elif layer.type == "Pooling":
        p = layer.pooling_param
        fields |= {"kernel": str(p.kernel_size), "stride": str(p.stride), "pad": str(p.pad)}
        fields["other"] = p.PoolMethod.Name(p.pool)
    elif layer.type == "Eltwise":
        fields["other"] = layer.eltwise_param.EltwiseOp.Name(layer.eltwise_param.operation)
    elif layer.type == "BatchNorm":
        fields["other"] = "use_global_stats True" if layer.batch_norm_param.use_global_stats else ""
    elif layer.type == "PriorBox":
        p = layer.prior_box_param
        ratios = [round(float(ratio), 4) for ratio in p.aspect_ratio]
        fields["other"] = (
            f"min {p.min_size[0]:.6g} max {p.max_size[0]:.6g} ratios {ratios} step {p.step:g} offset {p.offset:g}"
        )
    return fields


def test_dssd_trains_the_decoder_first_and_then_all() -> None:
    first, second = (
        {layer.name: layer for layer in generated("DSSD321", "VOC", kind).layer} for kind in ("train", "train_ft")
    )
    assert first.keys() == second.keys()
    encoder = ("conv1", "res2a_branch1", "res5c_branch2c", "res9_branch2b")
    decoder = ("deconv_8", "res8_relu_pre1", "deconv_3_pre", "rescombined_3_EltwisePROD_relu_inter256_branch1")
    for name in encoder:
        assert (first[name].param[0].lr_mult, second[name].param[0].lr_mult) == (0, 1)
    for name in decoder:
        assert first[name].param[0].lr_mult == second[name].param[0].lr_mult == 1
    for name, layer in second.items():
        if layer.type == "BatchNorm":
            assert layer.batch_norm_param.use_global_stats, name
        if layer.type == "Scale":
            assert [param.lr_mult for param in layer.param] == [0, 0], name
    fixed = [layer.batch_norm_param.use_global_stats for layer in first.values() if layer.type == "BatchNorm"]
    assert any(fixed)
    assert not all(fixed)
    solvers = [generated("DSSD321", "VOC", kind) for kind in ("solver", "solver_ft")]
    assert [(s.base_lr, s.max_iter, list(s.stepvalue)) for s in solvers] == [
        (pytest.approx(0.001), 30_000, [20_000]),
        (pytest.approx(0.0001), 40_000, [20_000]),
    ]
    assert solvers[1].train_net == "models/DSSD321/VOC/train_ft.prototxt"
    assert solvers[0].snapshot_prefix != solvers[1].snapshot_prefix


@pytest.mark.parametrize("name", ["DSSD321", "DSSD513"])
def test_dssd_in_one_training(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """All layers and statistics learn, and what is deployed is the same network."""
    net = generated(name, "VOC", "train", "--from_scratch")
    normalizations = [layer for layer in net.layer if layer.type == "BatchNorm"]
    assert normalizations
    assert not any(layer.batch_norm_param.use_global_stats for layer in normalizations)
    for layer in net.layer:
        if layer.type in ("Convolution", "Deconvolution", "Scale"):
            assert all(param.lr_mult > 0 for param in layer.param), layer.name
    ours, published = (generated(name, "VOC", "deploy", *flags) for flags in (["--from_scratch"], []))
    for deploy in (ours, published):
        for layer in deploy.layer:
            layer.ClearField("param")
            layer.batch_norm_param.ClearField("use_global_stats")
            layer.batch_norm_param.ClearField("moving_average_fraction")
    assert ours == published
    monkeypatch.chdir(ROOT)
    assert main(OTHERS[name], ["--from_scratch", "--output", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "deploy.prototxt", "solver.prototxt", "test.prototxt", "train.prototxt",
    ]  # fmt: skip
    assert "-weights" not in capsys.readouterr().out


def test_dsod_trains_from_nothing_with_a_batch_of_128() -> None:
    solver = generated("DSOD300", "VOC", "solver")
    data = next(layer for layer in generated("DSOD300", "VOC", "train").layer if layer.type == "AnnotatedData")
    assert solver.iter_size * data.data_param.batch_size == 128
    assert solver.base_lr == pytest.approx(0.1)
    assert OTHERS["DSOD300"].weights is None


def test_box_centers() -> None:
    def offsets(*flags: str) -> set[float]:
        net = generated("SSD321", "VOC", "deploy", *flags)
        return {layer.prior_box_param.offset for layer in net.layer if layer.type == "PriorBox"}

    assert offsets() == {2.5, 10.5, 26.5, 90.5, 160.5}
    assert offsets("--offset", "centered") == offsets("--offset", "centred") == {0.5}
