"""PriorBox against the slow reference and the original's answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from caffe.engine.layer import TEST, layer_class
from caffe.engine.layer_types import prior_box as _register  # noqa: F401
from caffe.engine.layer_types.prior_box import PriorBox
from caffe.errors import NetError
from caffe.ops.prior_box import prior_box, prior_box_sizes
from caffe.proto import caffe_pb2
from tests.golden.cases import case_files
from tests.reference import prior_box as reference


@given(
    pairs=st.lists(st.tuples(st.floats(1, 300), st.floats(1.001, 100)), min_size=1, max_size=3),
    with_max=st.booleans(),
    ratios=st.lists(st.sampled_from([1.0, 2.0, 3.0, 0.5, 1 / 3, 2.0000005, 1.7]), max_size=4),
    flip=st.booleans(),
)
@settings(deadline=None)
def test_sizes_equal_the_reference(
    pairs: list[tuple[float, float]], with_max: bool, ratios: list[float], flip: bool
) -> None:
    min_sizes = [float(np.float32(low)) for low, _ in pairs]
    max_sizes = [float(np.float32(low + more)) for low, more in pairs] if with_max else []
    expected = reference.sizes(min_sizes, max_sizes, ratios, flip)
    actual = prior_box_sizes(min_sizes, max_sizes, ratios, flip)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-6)


def test_sizes_are_cut_to_whole_pixels_and_flip_follows_its_ratio() -> None:
    sizes = prior_box_sizes([35.84], [76.8], [2.0], True)
    expected = [(35, 35), ((35 * 76) ** 0.5,) * 2, (35 * 2**0.5, 35 / 2**0.5), (35 / 2**0.5, 35 * 2**0.5)]
    np.testing.assert_allclose(sizes.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("variances", [[0.1], [0.1, 0.1, 0.2, 0.2]])
@pytest.mark.parametrize("layer", [(1, 1), (3, 5), (19, 19), (0, 4)])
def test_boxes_equal_the_reference(layer: tuple[int, int], variances: list[float], clip: bool, device: str) -> None:
    sizes = prior_box_sizes([60.0, 21.5], [111.0, 44.2], [2.0, 3.0], True)
    actual = prior_box(sizes.to(device), *layer, 280, 300, 16.5, 15.25, 0.3, clip, variances).cpu()
    expected = reference.boxes(sizes.numpy(), layer, (280, 300), (16.5, 15.25), 0.3, clip, variances)
    assert actual.shape == (1, 2, layer[0] * layer[1] * 12 * 4)
    np.testing.assert_allclose(actual.numpy(), expected.reshape(actual.shape), rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
def test_devices_agree_to_the_last_bit() -> None:
    sizes = prior_box_sizes([30.0], [60.0], [2.0], True)
    arguments = (75, 75, 300, 300, 4.0, 4.0, 0.5, False, [0.1, 0.1, 0.2, 0.2])
    assert torch.equal(prior_box(sizes, *arguments), prior_box(sizes.cuda(), *arguments).cpu())


def make_layer(text: str) -> PriorBox:
    param = text_format.Parse(text, caffe_pb2.LayerParameter())
    layer = layer_class("PriorBox", param.name)(param, TEST)
    assert isinstance(layer, PriorBox)
    return layer


def run_layer(text: str, feature: tuple[int, ...], image: tuple[int, ...], device: str = "cpu") -> torch.Tensor:
    layer = make_layer(text)
    layer.setup([feature, image])
    (shape,) = layer.reshape([feature, image])
    top: torch.Tensor = layer(torch.zeros(feature, device=device), torch.zeros(image, device=device))
    assert tuple(top.shape) == shape
    return top


def test_answers_of_the_original_to_the_last_bit(device: str) -> None:
    files = case_files("prior_box")
    assert len(files) >= 10
    for file in files:
        data = np.load(file)
        net = text_format.Parse(str(data["prototxt"]), caffe_pb2.NetParameter())
        shapes = {}
        for layer in net.layer:
            for name, shape in zip(layer.top, layer.input_param.shape, strict=False):
                shapes[name] = tuple(shape.dim)
        prior = next(layer for layer in net.layer if layer.type == "PriorBox")
        feature, image = (shapes[name] for name in prior.bottom)
        top = run_layer(str(prior), feature, image, device)
        np.testing.assert_array_equal(top.cpu().numpy(), data["prior"], err_msg=file.name)


def test_defaults_follow_the_image_and_the_boxes_are_made_once() -> None:
    layer = make_layer('name: "p" type: "PriorBox" prior_box_param { min_size: 30 }')
    layer.setup([(1, 8, 4, 6), (1, 3, 80, 90)])
    first = layer(torch.zeros(1, 8, 4, 6), torch.zeros(1, 3, 80, 90))
    expected = reference.boxes(np.array([[30, 30]]), (4, 6), (80, 90), (20, 15), 0.5, False, [0.1])
    np.testing.assert_allclose(first.numpy(), expected, rtol=1e-6)
    assert torch.equal(layer(torch.zeros(5, 8, 4, 6), torch.zeros(5, 3, 80, 90)), first)
    assert len(layer._made) == 1
    assert layer(torch.zeros(1, 8, 2, 2), torch.zeros(1, 3, 80, 90)).shape == (1, 2, 16)


def test_other_steps_for_height_and_width() -> None:
    text = 'name: "p" type: "PriorBox" prior_box_param { min_size: 8 step_h: 4 step_w: 6 img_h: 40 img_w: 50 }'
    expected = reference.boxes(np.array([[8, 8]]), (2, 3), (40, 50), (4, 6), 0.5, False, [0.1])
    np.testing.assert_allclose(run_layer(text, (1, 1, 2, 3), (1, 3, 7, 7)).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "at least one min_size"),
        ("min_size: 0", "min_size must be positive"),
        ("min_size: 5 max_size: 5", "max_size 5 must be greater than its min_size 5"),
        ("min_size: 5 min_size: 6 max_size: 9", "1 max_size for 2 min_size"),
        ("min_size: 5 aspect_ratio: -2", "aspect_ratio must be positive, not -2"),
        ("min_size: 5 variance: 0.1 variance: 0.1", "2 variance; give one or four"),
        ("min_size: 5 img_size: 300 img_h: 300 img_w: 300", "both img_size and img_h and img_w"),
        ("min_size: 5 step: 8 step_h: 8 step_w: 8", "both step and step_h and step_w"),
        ("min_size: 5 step_h: 8", "only step_h"),
        ("min_size: 5 step: 0", "step must be positive, not 0"),
    ],
)
def test_parameters_that_make_no_sense(fields: str, message: str) -> None:
    layer = make_layer(f'name: "conv_priorbox" type: "PriorBox" prior_box_param {{ {fields} }}')
    with pytest.raises(NetError, match=f"layer 'conv_priorbox' \\(PriorBox\\): .*{message}"):
        layer.setup([(1, 1, 2, 2), (1, 3, 20, 20)])


def test_op_is_registered_as_pytorch_wants_it() -> None:
    sizes = prior_box_sizes([8.0])
    torch.library.opcheck(torch.ops.caffe.prior_box.default, (sizes, 2, 3, 40, 50, 4.0, 6.0, 0.5, True, [0.1]))


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("more", ["", "offset: 0.25 step_h: 7 step_w: 9"])
def test_denser_boxes_are_each_followed_by_a_lower_one(clip: bool, more: str) -> None:
    """TextBoxes': the same box, its center at the end of its row of cells, whatever the offset is."""
    text = f"min_size: 8 min_size: 20 max_size: 15 max_size: 30 aspect_ratio: 2 flip: false {more} clip: {str(clip).lower()}"
    plain = text_format.Parse(f"prior_box_param {{ {text} }}", caffe_pb2.LayerParameter())
    denser = text_format.Parse(
        f"prior_box_param {{ {text} denser_prior_boxes: true variance: [1, 2, 3, 4] }}", caffe_pb2.LayerParameter()
    )
    feature, image = torch.zeros(1, 2, 3, 4), torch.zeros(1, 3, 24, 40)
    tops, shapes = [], []
    for param in (plain, denser):
        layer = layer_class("PriorBox", "p")(param, TEST)
        layer.setup([feature.shape, image.shape])
        shapes.append(layer.reshape([feature.shape, image.shape]))
        tops.append(layer(feature, image).numpy().reshape(2, -1, 4))
    assert shapes[1] == [(1, 2, 2 * tops[0][0].size)]
    step = 7 if more else 8
    np.testing.assert_array_equal(tops[1][0, ::2], tops[0][0])
    box_sizes = reference.sizes([8, 20], [15, 30], [2], False)
    lower = reference.boxes(box_sizes, (3, 4), (24, 40), (step, 9 if more else 10), 1.0, clip, [0.1]).reshape(2, -1, 4)
    np.testing.assert_array_equal(tops[1][0, 1::2, ::2], tops[0][0, :, ::2])
    np.testing.assert_allclose(tops[1][0, 1::2, 1::2], lower[0, :, 1::2], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(tops[1][1], np.tile([1, 2, 3, 4], (len(tops[1][1]), 1)))
