"""Older formats: each is upgraded to the current one, with Caffe's log lines."""

from __future__ import annotations

import pytest

from caffe.errors import ProtoError
from caffe.proto import caffe_pb2
from caffe.proto.text import parse_text, to_text
from caffe.proto.upgrade import net_needs_upgrade, upgrade_net, upgrade_solver


def upgraded(text: str, whole: bool = True) -> caffe_pb2.NetParameter:
    net = parse_text(text, caffe_pb2.NetParameter(), "old.prototxt")
    assert net_needs_upgrade(net)
    assert upgrade_net(net, "old.prototxt") is whole
    assert not net_needs_upgrade(net)
    return net


def assert_becomes(old: str, new: str) -> None:
    assert to_text(upgraded(old)) == to_text(parse_text(new, caffe_pb2.NetParameter(), "new"))


def test_a_net_of_today_is_left_alone() -> None:
    net = parse_text("layer { name: 'a' type: 'ReLU' } input_dim: 1", caffe_pb2.NetParameter(), "x")
    before = to_text(net)
    assert not net_needs_upgrade(net)
    assert upgrade_net(net, "x")
    assert to_text(net) == before


def test_v1(capsys: pytest.CaptureFixture[str]) -> None:
    assert_becomes(
        """
        name: "n"
        layers { name: "d" type: DATA top: "d"
                 data_param { source: "s" batch_size: 2 scale: 0.5 mean_file: "m" crop_size: 3 mirror: true }
                 include { phase: TRAIN } }
        layers { name: "c" type: CONVOLUTION bottom: "d" top: "c" param: "w" param: "b" blobs_lr: 1 blobs_lr: 2
                 weight_decay: 1 weight_decay: 0 blob_share_mode: PERMISSIVE loss_weight: 2
                 convolution_param { num_output: 4 kernel_size: 3 } blobs { data: 1 } }
        layers { name: "l" type: SOFTMAX_LOSS bottom: "c" bottom: "d" exclude { stage: "x" } }
        """,
        """
        name: "n"
        layer { name: "d" type: "Data" top: "d" data_param { source: "s" batch_size: 2 }
                transform_param { scale: 0.5 mean_file: "m" crop_size: 3 mirror: true } include { phase: TRAIN } }
        layer { name: "c" type: "Convolution" bottom: "d" top: "c" loss_weight: 2
                param { name: "w" share_mode: PERMISSIVE lr_mult: 1 decay_mult: 1 }
                param { name: "b" lr_mult: 2 decay_mult: 0 }
                convolution_param { num_output: 4 kernel_size: 3 } blobs { data: 1 } }
        layer { name: "l" type: "SoftmaxWithLoss" bottom: "c" bottom: "d" exclude { stage: "x" } }
        """,
    )
    log = capsys.readouterr().err
    assert (
        "Attempting to upgrade input file specified using deprecated transformation parameters: old.prototxt\n" in log
    )
    assert "Attempting to upgrade input file specified using deprecated V1LayerParameter: old.prototxt\n" in log
    assert "Successfully upgraded file specified using deprecated V1LayerParameter\n" in log


def test_every_parameter_of_v1_has_a_place_today() -> None:
    """The upgrade copies them by name; a name that differed would be lost."""
    v1 = caffe_pb2.V1LayerParameter.DESCRIPTOR
    now = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name
    for field in v1.fields:
        if field.message_type is not None and field.name != "layer":
            assert now[field.name].message_type == field.message_type


def test_every_type_of_v1_has_a_name_today() -> None:
    for value in caffe_pb2.V1LayerParameter.LayerType.values():
        net = caffe_pb2.NetParameter()
        net.layers.add(type=value)
        assert upgrade_net(net, "x")
        assert net.layer[0].type or value == caffe_pb2.V1LayerParameter.NONE


def test_v0_with_padding(capsys: pytest.CaptureFixture[str]) -> None:
    assert_becomes(
        """
        name: "n"
        layers { layer { name: "d" type: "data" source: "s" batchsize: 5 scale: 0.5 meanfile: "m" cropsize: 3
                         mirror: true } top: "d" top: "label" }
        layers { layer { name: "p" type: "padding" pad: 2 } bottom: "d" top: "p" }
        layers { layer { name: "c" type: "conv" num_output: 4 kernelsize: 5 stride: 2 group: 1 biasterm: false
                 weight_filler { type: "xavier" } blobs_lr: 1 weight_decay: 3 } bottom: "p" top: "c" }
        layers { layer { name: "q" type: "pool" pool: AVE kernelsize: 3 } bottom: "c" top: "q" }
        layers { layer { name: "n" type: "lrn" local_size: 3 alpha: 0.1 beta: 0.2 k: 3 } bottom: "q" top: "n" }
        layers { layer { name: "l" type: "softmax_loss" } bottom: "n" bottom: "label" }
        """,
        """
        name: "n"
        layer { name: "d" type: "Data" top: "d" top: "label" data_param { source: "s" batch_size: 5 }
                transform_param { scale: 0.5 mean_file: "m" crop_size: 3 mirror: true } }
        layer { name: "c" type: "Convolution" bottom: "d" top: "c" param { lr_mult: 1 decay_mult: 3 }
                convolution_param { num_output: 4 bias_term: false pad: 2 kernel_size: 5 group: 1 stride: 2
                                    weight_filler { type: "xavier" } } }
        layer { name: "q" type: "Pooling" bottom: "c" top: "q" pooling_param { pool: AVE kernel_size: 3 } }
        layer { name: "n" type: "LRN" bottom: "q" top: "n" lrn_param { local_size: 3 alpha: 0.1 beta: 0.2 k: 3 } }
        layer { name: "l" type: "SoftmaxWithLoss" bottom: "n" bottom: "label" }
        """,
    )
    assert "deprecated V0LayerParameter: old.prototxt\n" in capsys.readouterr().err


def test_a_v0_field_out_of_place_is_left_out_and_logged(capsys: pytest.CaptureFixture[str]) -> None:
    net = upgraded("input: 'x' layers { layer { name: 'r' type: 'relu' group: 2 } bottom: 'x' top: 'x' }", whole=False)
    assert net.layer[0].type == "ReLU"
    log = capsys.readouterr().err
    assert "Unknown parameter group for layer type relu" in log
    assert "had one or more problems upgrading V0NetParameter" in log


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("layers { layer { name: 'r' type: 'rellu' } }", "layer 'r': no layer type 'rellu'.*known: acc"),
        ("layers { layer { name: 'r' type: 'relu' } bottom: 'y' }", "layer 'r': no earlier layer makes its bottom 'y'"),
        ("layers { layer { name: 'd' type: 'data' } top: 'd' } layers { layer { name: 'p' type: 'padding' } "
         "bottom: 'd' top: 'p' } layers { layer { name: 'r' type: 'relu' } bottom: 'p' }",
         "layer 'p' and 'r' behind it: .*not type 'relu'"),
        ("layers { name: 'a' } layer { name: 'b' }", "mixes 'layer"),
        ("input: 'a' input_dim: 1 input_dim: 2", "1 'input' fields, but 2 'input_dim'"),
        ("input: 'a' input: 'b' input_shape { dim: 1 }", "2 'input' fields, but 1 'input_shape'"),
    ],
)  # fmt: skip
def test_what_cannot_be_upgraded_says_so(text: str, says: str) -> None:
    net = parse_text(text, caffe_pb2.NetParameter(), "old.prototxt")
    with pytest.raises(ProtoError, match=f"old.prototxt: .*{says}"):
        upgrade_net(net, "old.prototxt")


def test_input_fields_become_a_layer_in_front(capsys: pytest.CaptureFixture[str]) -> None:
    after = "layer { name: 'r' type: 'ReLU' bottom: 'a' top: 'b' }"
    shape = "{ dim: 1 dim: 3 dim: 4 dim: 5 }"
    layer = f"layer {{ name: 'input' type: 'Input' top: 'a' top: 'c' input_param {{ shape {shape} shape %s }} }}"
    dims = "input_dim: 1 input_dim: 3 input_dim: 4 input_dim: 5 "
    assert_becomes(f"input: 'a' input: 'c' {dims}{dims}{after}", layer % shape + after)
    shapes = "input_shape { dim: 1 dim: 3 dim: 4 dim: 5 } input_shape { dim: 7 }"
    assert_becomes(f"input: 'a' input: 'c' {shapes} {after}", layer % "{ dim: 7 }" + after)
    assert "Successfully upgraded file specified using deprecated input fields.\n" in capsys.readouterr().err


def test_inputs_without_shapes_are_dropped() -> None:
    assert_becomes("input: 'a' layer { name: 'r' }", "layer { name: 'r' }")


def test_batch_norm_loses_its_three_params() -> None:
    param = "param { lr_mult: 0 } "
    assert_becomes(f"layer {{ type: 'BatchNorm' {param * 3} }}", "layer { type: 'BatchNorm' }")
    kept = parse_text(f"layer {{ type: 'BatchNorm' {param * 2} }}", caffe_pb2.NetParameter(), "x")
    assert not net_needs_upgrade(kept)


@pytest.mark.parametrize(
    ("enum", "name"),
    [
        ("SGD", "SGD"),
        ("NESTEROV", "Nesterov"),
        ("ADAGRAD", "AdaGrad"),
        ("RMSPROP", "RMSProp"),
        ("ADADELTA", "AdaDelta"),
        ("ADAM", "Adam"),
    ],
)
def test_solver_types(enum: str, name: str) -> None:
    solver = parse_text(f"solver_type: {enum}", caffe_pb2.SolverParameter(), "s")
    assert upgrade_solver(solver, "s")
    assert to_text(solver) == f'type: "{name}"\n'
    assert not upgrade_solver(solver, "s")


def test_both_solver_types_are_one_too_many() -> None:
    solver = parse_text("solver_type: ADAM type: 'SGD'", caffe_pb2.SolverParameter(), "s")
    with pytest.raises(ProtoError, match="both 'type'"):
        upgrade_solver(solver, "s.prototxt")
