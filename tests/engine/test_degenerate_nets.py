"""Settings and shapes that no layer can work with are refused when the net is built, with the layer's name."""

from __future__ import annotations

import pytest

from caffe.engine.net import Net
from caffe.errors import NetError
from caffe.proto import caffe_pb2
from caffe.proto.text import parse_text

CASES = {
    "no channels": (
        "2 0 9 9",
        'type: "Pooling" pooling_param { kernel_size: 2 }',
        "its bottom 'x' is 2×0×9×9: it has no",
    ),
    "no channels, pyramid": ("2 0 9 9", 'type: "SPP" spp_param { pyramid_height: 2 }', "it has no values"),
    "empty map": ("2 3 0 9", 'type: "PriorBox" bottom: "x" prior_box_param { min_size: 4 }', "it has no values"),
    "no images": ("0 3 4 4", 'type: "BatchNorm"', "it has no values"),
    "scalar, BatchNorm": ("", 'type: "BatchNorm"', "needs bottoms with 1 or more axes; 'x' has 0"),
    "scalar, ArgMax": ("", 'type: "ArgMax"', "needs bottoms with 1 or more axes"),
    "scalar, Filter": ("", 'type: "Filter" bottom: "x"', "needs bottoms with 1 or more axes"),
    "scalar, BatchReindex": ("", 'type: "BatchReindex" bottom: "x"', "needs bottoms with 1 or more axes"),
    "eps of zero": ("2 3 4 4", 'type: "BatchNorm" batch_norm_param { eps: 0 }', "eps must be over 0, not 0"),
    "a high pyramid": ("2 3 4 4", 'type: "SPP" spp_param { pyramid_height: 65536 }', "from 1 to 32, not 65536"),
    "a negative parameter": (
        "1",
        'type: "Parameter" parameter_param { shape { dim: -2 } }',
        r"parameter of shape \(-2,\)",
    ),
    "a huge window": (
        "2 3 9 9",
        'type: "Pooling" pooling_param { kernel_size: 2000000000 stride: 2000000000 pad: 1000000001 }',
        "the net needs at least",
    ),
    "a stride beyond int": (
        "2 3 9 9",
        'type: "Pooling" pooling_param { kernel_size: 2 stride: 4294967295 }',
        "is over 2³¹",
    ),
    "huge neighborhoods": (
        "2 3 9 9",
        'type: "LRN" lrn_param { local_size: 2000001 norm_region: WITHIN_CHANNEL }',
        "the net needs at least",
    ),
}


def net(shape: str, text: str, top: str = "y") -> Net:
    dims = " ".join(f"dim: {size}" for size in shape.split())
    bottom = "" if "Parameter" in text else 'bottom: "x"'
    layers = (
        f'layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}'
        f'layer {{ name: "l" {bottom} top: "{top}" {text} }}'
    )
    return Net(parse_text(layers, caffe_pb2.NetParameter(), "net"), 0)


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused(name: str) -> None:
    shape, text, message = CASES[name]
    with pytest.raises(NetError, match=rf"layer 'l' \(\w+\): .*{message}"):
        net(shape, text)


def test_a_layer_that_changes_the_size_does_not_work_in_place() -> None:
    with pytest.raises(NetError, match="cannot work in place on 'x': its top has another size"):
        net("2 3 4 4", 'type: "Reduction"', top="x")
    net("2 3 4 4", 'type: "ReLU"', top="x")


def test_names_with_control_characters_do_not_reach_the_terminal() -> None:
    with pytest.raises(NetError) as caught:
        net("2", 'type: "\\033[2J\\n"')
    assert "\033" not in str(caught.value)
