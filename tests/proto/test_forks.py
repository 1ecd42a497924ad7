"""What is said about fields that the project does not have: all at once, with lines, and where they come from."""

from __future__ import annotations

import pytest

from caffe.engine.layer import layer_types
from caffe.errors import ProtoError
from caffe.proto import caffe_pb2
from caffe.proto.forks import _FORK_OF_FIELD, FORK_OF_TYPE, fork_of_field
from caffe.proto.text import parse_text

NET = """name: 'net'
layer { name: 'a' type: 'Convolution' convolution_param { num_output: 1 dilation_h: 2 } }
layer { name: 'b' type: 'YoloSeg' yolo_seg_param { side: 13 biases: 1 biases: 2 } }
layer {
  name: 'c' quux_param { deep { er: 1 } }
  type: "Quux"
}
layer { name: 'd' type: 'Convolution' convolution_param { num_output: 1 dilation_h: 2 dilation_w: 2 } }
layer { name: 'e' type: 'Pooling' poolingparam { pool: MAX } }
"""


def error_of(text: str) -> str:
    with pytest.raises(ProtoError) as caught:
        parse_text(text, caffe_pb2.NetParameter(), "net.prototxt")
    return str(caught.value)


def test_all_unknown_fields_are_named_at_once() -> None:
    found = error_of(NET)
    starts = [line for line in found.splitlines() if line.startswith("net.prototxt:")]
    assert [line.split(" ")[3] for line in starts] == [
        "'dilation_h'",
        "'yolo_seg_param'",
        "'quux_param'",
        "'dilation_w'",
        "'poolingparam'",
    ]
    assert [line.split(":")[1] for line in starts] == ["2", "3", "5", "8", "9"]
    assert "also in line 8" in found
    assert "it comes from TSN's Caffe (yjxiong/caffe)" in starts[0]
    assert "layer type 'YoloSeg', which comes from MobileNet-YOLO" in starts[1]
    assert "layer type 'Quux', which comes from another fork of Caffe; docs/add_a_layer.md" in starts[2]
    assert starts[4].endswith("did you mean 'pooling_param'?")


def test_the_lines_shown_are_those_of_the_text() -> None:
    found = error_of("layer { one_param { } two_param { } }")
    assert found.count("layer { one_param { } two_param { } }") == 2


@pytest.mark.parametrize(
    ("field", "layer_type", "meant"),
    [
        ("convolutoin_param", "Convolution", "did you mean 'convolution_param'?"),
        ("conv_param", "Convolution", "did you mean 'convolution_param'?"),
        ("batchnorm_param", "BatchNorm", "did you mean 'batch_norm_param'?"),
    ],
)
def test_a_slip_is_still_one(field: str, layer_type: str, meant: str) -> None:
    assert meant in error_of(f"layer {{ name: 'x' type: '{layer_type}' {field} {{ }} }}")


def test_parameters_of_another_type_are_no_slip() -> None:
    for field, layer_type in (
        ("correlation_param", "Correlation"),
        ("mv_norm_param", "MVNorm"),
        ("elementwise_affine_param", "Affine"),
    ):
        found = error_of(f"layer {{ name: 'x' type: '{layer_type}' {field} {{ }} }}")
        assert "did you mean" not in found
        assert f"layer type '{layer_type}'" in found


def test_an_error_of_another_kind_comes_after_the_unknown_fields() -> None:
    found = error_of("layer { one_param { } }\nlayer { name: 3 }")
    assert "one_param" in found.splitlines()[0]
    assert "net.prototxt:2:" in found


def test_many_unknown_fields_are_cut_off() -> None:
    found = error_of("\n".join(f"layer {{ p{i}_param {{ }} }}" for i in range(30)))
    assert found.endswith("and 10 more")


def test_the_table_names_what_the_project_does_not_have() -> None:
    descriptor = caffe_pb2.NetParameter.DESCRIPTOR.file
    for message, name in _FORK_OF_FIELD:
        assert name not in descriptor.message_types_by_name[message].fields_by_name, (message, name)
    assert not set(FORK_OF_TYPE) & set(layer_types())
    assert fork_of_field("LayerParameter", "pooling_param") is None
