"""Which layers a NetState keeps, and where blobs are split, by Caffe's rules."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import text_format

from caffe.engine.net_rules import filter_net, insert_splits
from caffe.errors import NetError
from caffe.proto import caffe_pb2


def net(text: str) -> caffe_pb2.NetParameter:
    return text_format.Parse(text, caffe_pb2.NetParameter())


@pytest.mark.parametrize(
    ("state", "rules", "kept"),
    [
        ("phase: TRAIN", "", True),
        ("phase: TRAIN", "include { phase: TRAIN }", True),
        ("phase: TRAIN", "include { phase: TEST }", False),
        ("phase: TRAIN", "exclude { phase: TRAIN }", False),
        ("phase: TEST", "exclude { phase: TRAIN }", True),
        ("phase: TEST", "include { phase: TRAIN } include { phase: TEST }", True),
        ("level: 2", "include { min_level: 2 }", True),
        ("level: 2", "include { min_level: 3 }", False),
        ("level: 2", "include { max_level: 1 }", False),
        ("level: 2", "include { min_level: 1 max_level: 2 }", True),
        ("level: -1", "exclude { max_level: 0 }", False),
        ("stage: 'a'", "include { stage: 'a' }", True),
        ("stage: 'a'", "include { stage: 'a' stage: 'b' }", False),
        ("stage: 'a' stage: 'b'", "include { stage: 'a' stage: 'b' }", True),
        ("stage: 'a'", "include { not_stage: 'a' }", False),
        ("", "include { not_stage: 'a' }", True),
        ("stage: 'a'", "exclude { stage: 'a' not_stage: 'b' }", False),
        ("phase: TEST stage: 'x'", "include { phase: TEST stage: 'y' } include { phase: TEST stage: 'x' }", True),
    ],
)
def test_a_layer_is_kept_by_its_rules(state: str, rules: str, kept: bool) -> None:
    filtered = filter_net(net(f"state {{ {state} }} layer {{ name: 'l' type: 'Silence' {rules} }}"))
    assert [layer.name for layer in filtered.layer] == (["l"] if kept else [])


def test_include_and_exclude_together_are_refused() -> None:
    with pytest.raises(NetError, match="'l'.*not both"):
        filter_net(net("layer { name: 'l' include { phase: TRAIN } exclude { phase: TEST } }"))


def test_a_blob_with_two_readers_gets_a_split_of_the_original_s_name() -> None:
    split = insert_splits(
        net(
            """layer { name: 'd' type: 'Input' top: 'data' }
            layer { name: 'a' type: 'ReLU' bottom: 'data' top: 'a' }
            layer { name: 'b' type: 'ReLU' bottom: 'data' top: 'b' }"""
        )
    )
    assert [layer.name for layer in split.layer] == ["d", "data_d_0_split", "a", "b"]
    assert list(split.layer[1].top) == ["data_d_0_split_0", "data_d_0_split_1"]
    assert split.layer[2].bottom[0] == "data_d_0_split_0"
    assert split.layer[3].bottom[0] == "data_d_0_split_1"


def test_in_place_layers_are_split_after_the_last_of_them() -> None:
    split = insert_splits(
        net(
            """layer { name: 'd' type: 'Input' top: 'x' }
            layer { name: 'r' type: 'ReLU' bottom: 'x' top: 'x' }
            layer { name: 'a' type: 'ReLU' bottom: 'x' top: 'a' }
            layer { name: 'b' type: 'ReLU' bottom: 'x' top: 'b' }"""
        )
    )
    assert [layer.name for layer in split.layer] == ["d", "r", "x_r_0_split", "a", "b"]


def test_a_loss_weight_counts_as_a_reader_and_moves_to_the_split() -> None:
    split = insert_splits(
        net(
            """layer { name: 'd' type: 'Input' top: 'x' top: 't' }
            layer { name: 'l' type: 'EuclideanLoss' bottom: 'x' bottom: 't' top: 'loss' loss_weight: 2 }
            layer { name: 's' type: 'Silence' bottom: 'loss' }"""
        )
    )
    assert [layer.name for layer in split.layer] == ["d", "l", "loss_l_0_split", "s"]
    assert list(split.layer[1].loss_weight) == []
    assert list(split.layer[2].loss_weight) == [2, 0]
    assert split.layer[3].bottom[0] == "loss_l_0_split_1"


def test_an_unknown_bottom_names_layer_blob_and_the_nearest() -> None:
    with pytest.raises(NetError, match=r"'conv1_2' \(layer 'p', bottom index 0\).*Did you mean 'conv1_1'"):
        insert_splits(
            net("layer { name: 'c' top: 'conv1_1' } layer { name: 'p' type: 'Pooling' bottom: 'conv1_2' top: 'p' }")
        )


@pytest.mark.parametrize(
    ("rule", "phase", "hint"),
    [
        (
            "include { phase: TRAIN }",
            caffe_pb2.TEST,
            r"Layer 'd' has one, but only in phase TRAIN.*deploy or test prototxt",
        ),
        ("include { phase: TEST }", caffe_pb2.TRAIN, r"Layer 'd' has one, but only in phase TEST.*training prototxt"),
        ("exclude { stage: 'a' }", caffe_pb2.TEST, r"Layer 'd' has one, but its rules leave it out.*TEST.*stages: a\."),
    ],
)
def test_an_unknown_bottom_that_a_rule_has_left_out(rule: str, phase: Any, hint: str) -> None:
    whole = net(f"layer {{ name: 'd' top: 'data' {rule} }} layer {{ name: 'p' bottom: 'data' top: 'p' }}")
    whole.state.phase = phase
    whole.state.stage.append("a")
    with pytest.raises(NetError, match=hint):
        insert_splits(filter_net(whole), whole)
