"""The generated networks have the sizes, boxes and counts of the paper and of the published SSD models."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any

import pytest

from prototxt_gen.default_boxes import box_sizes
from prototxt_gen.layers import Width
from prototxt_gen.mdssd300 import MDSSD300
from prototxt_gen.ssd300 import SSD300
from tests.prototxt_gen.shape_calculation import Sizes, calculate
from tests.prototxt_gen.sources import NETWORKS, generated


@cache
def sizes_of(network: str) -> Sizes:
    return calculate(generated(network, "VOC", "deploy"), 1, NETWORKS[network].size)


@pytest.mark.parametrize(
    ("network", "boxes", "parameters", "multiply_adds"),
    [
        ("SSD300", 8_732, "26.29", "31.37"),
        ("SSD512", 24_564, "27.19", "90.21"),
        ("MDSSD300", 31_232, "79.48", "67.03"),
        ("MDSSD512", 90_100, "77.44", "188.20"),
    ],
)
def test_default_boxes_parameters_and_multiply_adds(
    network: str, boxes: int, parameters: str, multiply_adds: str
) -> None:
    sizes = sizes_of(network)
    assert sizes.blobs["mbox_priorbox"] == (1, 2, 4 * boxes)
    assert sizes.blobs["mbox_loc"] == (1, 4 * boxes)
    assert sizes.blobs["mbox_conf"] == (1, 21 * boxes)
    assert f"{sizes.count_parameters() / 1e6:.2f}" == parameters
    assert f"{sizes.multiply_adds / 1e9:.2f}" == multiply_adds


@pytest.mark.parametrize("network", ["SSD", "MDSSD"])
@pytest.mark.parametrize(
    ("blob", "at_300", "at_512"),
    [
        ("conv3_3", (256, 75), (256, 128)),
        ("conv4_3", (512, 38), (512, 64)),
        ("fc7", (1024, 19), (1024, 32)),
        ("conv6_2", (512, 10), (512, 16)),
        ("conv7_2", (256, 5), (256, 8)),
        ("conv8_2", (256, 3), (256, 4)),
        ("conv9_2", (256, 1), (256, 2)),
        ("conv10_2", None, (256, 1)),
    ],
)
def test_backbone_sizes(network: str, blob: str, at_300: tuple[int, int] | None, at_512: tuple[int, int]) -> None:
    for size, expected in ((300, at_300), (512, at_512)):
        found = sizes_of(f"{network}{size}").blobs.get(blob)
        assert found == (expected and (1, expected[0], expected[1], expected[1]))


@pytest.mark.parametrize(
    ("network", "module", "channels", "side", "kernels_and_pads"),
    [
        ("MDSSD300", "module1", (256, 256, 256), (20, 40, 75), [(2, 0), (2, 0), (3, 3)]),
        ("MDSSD300", "module2", (256, 256, 512), (10, 20, 38), [(2, 0), (2, 0), (2, 1)]),
        ("MDSSD300", "module3", (512, 512, 1024), (6, 12, 19), [(2, 0), (2, 0), (3, 3)]),
        ("MDSSD512", "module1", (256, 256, 256), (32, 64, 128), [(2, 0)] * 3),
        ("MDSSD512", "module2", (256, 256, 512), (16, 32, 64), [(2, 0)] * 3),
        ("MDSSD512", "module3", (512, 512, 1024), (8, 16, 32), [(2, 0)] * 3),
    ],
)
def test_fusion_modules_are_table_i(
    network: str,
    module: str,
    channels: tuple[int, ...],
    side: tuple[int, ...],
    kernels_and_pads: list[tuple[int, int]],
) -> None:
    layers = {layer.name: layer for layer in generated(network, "VOC", "deploy").layer}
    blobs = sizes_of(network).blobs
    for step, shape in enumerate(zip(channels, side, kernels_and_pads, strict=True), start=1):
        deconv = layers[f"{module}_deconv{step}"].convolution_param
        assert (deconv.kernel_size[0], deconv.pad[0]) == shape[2]
        assert list(deconv.stride) == [2]
        for name in (f"{module}_deconv{step}", f"{module}_conv{step}"):
            assert blobs[name] == (1, shape[0], shape[1], shape[1])
    # The order of the operations from both blobs to the fused one.
    deep: list[str] = []
    shallow: list[str] = []
    fused: list[str] = []
    for layer in generated(network, "VOC", "deploy").layer:
        if layer.name.startswith(module) and "_mbox_" not in layer.name:
            side_of = fused if "sum" in layer.name or layer.name in (module, f"{module}_relu") else deep
            (shallow if "shallow" in layer.name else side_of).append(layer.type)
    assert deep == ["Deconvolution", "Convolution", "ReLU"] * 2 + ["Deconvolution", "Convolution", "Normalize"]
    assert shallow == ["Convolution", "Normalize"]
    assert fused == ["Eltwise", "ReLU", "Convolution", "ReLU"]
    for name, layer in layers.items():
        if name.startswith(module) and layer.type == "Convolution" and "_mbox_" not in name:
            p = layer.convolution_param
            assert (list(p.kernel_size), list(p.stride), list(p.pad)) == ([3], [1], [1])


@pytest.mark.parametrize(
    ("network", "connections"),
    [
        ("MDSSD300", {"module1": "conv3_3 conv6_2", "module2": "conv4_3 conv7_2", "module3": "fc7 conv8_2"}),
        ("MDSSD512", {"module1": "conv3_3 conv6_2", "module2": "conv4_3 conv7_2", "module3": "fc7 conv8_2"}),
    ],
)
def test_fusion_modules_connect_the_papers_layers(network: str, connections: dict[str, str]) -> None:
    layers = {layer.name: layer for layer in generated(network, "VOC", "deploy").layer}
    for module, names in connections.items():
        assert f"{layers[f'{module}_shallow'].bottom[0]} {layers[f'{module}_deconv1'].bottom[0]}" == names
        assert list(layers[f"{module}_sum"].bottom) == [f"{module}_shallow_norm", f"{module}_deep_norm"]


BOXES_300_VOC = [(30, 60), (60, 111), (111, 162), (162, 213), (213, 264), (264, 315)]
BOXES_300_COCO = [(21, 45), (45, 99), (99, 153), (153, 207), (207, 261), (261, 315)]
BOXES_512_VOC = [(35.84, 76.8), (76.8, 153.6), (153.6, 230.4), (230.4, 307.2), (307.2, 384), (384, 460.8)]
BOXES_512_VOC += [(460.8, 537.6)]
BOXES_512_COCO = [(20.48, 51.2), (51.2, 133.12), (133.12, 215.04), (215.04, 296.96), (296.96, 378.88)]
BOXES_512_COCO += [(378.88, 460.8), (460.8, 542.72)]


@pytest.mark.parametrize(
    ("size", "dataset", "sizes", "ratios", "steps"),
    [
        (300, "VOC", BOXES_300_VOC, [1, 2, 2, 2, 1, 1], [8, 16, 32, 64, 100, 300]),
        (300, "COCO", BOXES_300_COCO, [1, 2, 2, 2, 1, 1], [8, 16, 32, 64, 100, 300]),
        (512, "VOC", BOXES_512_VOC, [1, 2, 2, 2, 2, 1, 1], [8, 16, 32, 64, 128, 256, 512]),
        (512, "COCO", BOXES_512_COCO, [1, 2, 2, 2, 2, 1, 1], [8, 16, 32, 64, 128, 256, 512]),
    ],
)
def test_prior_boxes(
    size: int, dataset: str, sizes: list[tuple[float, float]], ratios: list[int], steps: list[int]
) -> None:
    for network, first in ((f"SSD{size}", 0), (f"MDSSD{size}", 1)):
        # Module 1 has conv4_3's boxes on a grid that is twice as fine.
        expected = [(sizes[0], 1, 4.0)] * first + [*zip(sizes, ratios, map(float, steps), strict=True)]
        found: list[Any] = []
        for layer in generated(network, dataset, "deploy").layer:
            if layer.type == "PriorBox":
                p = layer.prior_box_param
                assert list(p.aspect_ratio) == [2, 3][: len(p.aspect_ratio)]
                assert (p.flip, p.clip, p.offset, list(layer.bottom)[1]) == (True, False, 0.5, "data")
                assert list(p.variance) == pytest.approx([0.1, 0.1, 0.2, 0.2])
                pair = (pytest.approx(p.min_size[0], rel=1e-6), pytest.approx(p.max_size[0], rel=1e-6))
                found.append((pair, len(p.aspect_ratio), p.step))
        assert expected == found


def test_linear_scales_are_equation_4() -> None:
    percent = [20, 34, 48, 62, 76, 90, 104]
    assert [pair[0] for pair in box_sizes("linear", "voc", 300)] == pytest.approx([3 * p for p in percent[:-1]])
    assert [pair[1] for pair in box_sizes("linear", "coco", 300)] == pytest.approx([3 * p for p in percent[1:]])
    seven = box_sizes("linear", "voc", 512)
    assert (len(seven), seven[0][0], seven[-1][0]) == (7, 102.4, 460.8)


@pytest.mark.parametrize("network", list(NETWORKS))
@pytest.mark.parametrize("dataset", ["VOC", "COCO"])
def test_nets_differ_only_around_the_detector(network: str, dataset: str) -> None:
    train, test, deploy = (list(generated(network, dataset, kind).layer) for kind in ("train", "test", "deploy"))
    assert [layer.type for layer in (train[0], test[0], deploy[0])] == ["AnnotatedData", "AnnotatedData", "Input"]
    shared = train[1:-1]
    assert train[-1].type == "MultiBoxLoss"
    assert test[1 : 1 + len(shared)] == shared
    assert deploy[1 : 1 + len(shared)] == shared
    after = ["Reshape", "Softmax", "Flatten", "DetectionOutput"]
    assert [layer.type for layer in deploy[1 + len(shared) :]] == after
    assert [layer.type for layer in test[1 + len(shared) :]] == [*after, "DetectionEvaluate"]


@pytest.mark.parametrize("network", list(NETWORKS))
def test_every_convolution_learns_as_the_released_models_do(network: str) -> None:
    for layer in generated(network, "VOC", "train").layer:
        if layer.type in ("Convolution", "Deconvolution"):
            assert [(p.lr_mult, p.decay_mult) for p in layer.param] == [(1, 1), (2, 0)]
            p = layer.convolution_param
            assert (p.weight_filler.type, p.bias_filler.type, p.bias_filler.value) == ("xavier", "constant", 0)
        elif layer.type == "Normalize":
            n = layer.norm_param
            assert (n.across_spatial, n.channel_shared, n.scale_filler.value) == (False, False, 20)


def test_ssd300_has_the_released_models_layers() -> None:
    """Weights are matched by layer name and shape."""
    expected = {f"conv{b}_{i}" for b, n in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3)) for i in range(1, n + 1)}
    expected |= {"fc6", "fc7", "conv4_3_norm"} | {f"conv{b}_{i}" for b in (6, 7, 8, 9) for i in (1, 2)}
    sources = ["conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2"]
    expected |= {f"{source}_mbox_{what}" for source in sources for what in ("loc", "conf")}
    parameters = sizes_of("SSD300").parameters
    assert set(parameters) == expected
    assert parameters["fc6"] == [(1024, 512, 3, 3), (1024,)]
    assert parameters["fc7_mbox_conf"] == [(126, 1024, 3, 3), (126,)]
    for kind in (300, 512):
        fused, plain = sizes_of(f"MDSSD{kind}").parameters, sizes_of(f"SSD{kind}").parameters
        lost = {"conv4_3_norm", *(f"{s}_mbox_{w}" for s in ("conv4_3_norm", "fc7") for w in ("loc", "conf"))}
        assert {name: fused.get(name) for name in plain if name not in lost} == {
            name: shapes for name, shapes in plain.items() if name not in lost
        }


@pytest.mark.parametrize(
    ("fraction", "channels", "expected"),
    [("1", 100, 100), ("1/4", 64, 16), ("1/4", 1024, 256), ("1/16", 64, 8), ("0.3", 512, 152), ("2", 64, 128)],
)
def test_width(fraction: str, channels: int, expected: int) -> None:
    assert Width(Fraction(fraction))(channels) == expected


def test_fewest_channels() -> None:
    assert Width(Fraction("1/16"), fewest=24)(64) == 24


def test_boxes_of_a_network_follow_from_its_sources() -> None:
    odd = replace(SSD300, name="odd", batch=1)
    assert odd.box_sizes("released", "voc") == BOXES_300_VOC
    assert MDSSD300.box_sizes("released", "voc") == BOXES_300_VOC[:1] + BOXES_300_VOC
